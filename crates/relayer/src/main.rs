//! The gateway's program: parse, configure, run.

use std::process::ExitCode;

use clap::Parser;
use moltrade_relayer::cli::{Cli, Command, EXIT_CONFIG};
use moltrade_relayer::config::{self, Config, Loaded};
use moltrade_relayer::limits::{BLOCKING_THREADS_MAX, SHUTDOWN_MAX};
use moltrade_relayer::{app, backup, offline, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command() == Command::ConfigTemplate {
        print!("{}", config::template());
        return ExitCode::SUCCESS;
    }
    let loaded = match Config::load(cli.config.as_deref(), config::environment()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if cli.command() == Command::CheckConfig {
        loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        print!("{}", loaded.to_toml());
        return ExitCode::SUCCESS;
    }
    let done = match cli.command() {
        Command::Backup { folder } => {
            told(&loaded, async |config| Ok(backup::backup(config, &folder).await?))
        }
        Command::Restore { folder, replace } => {
            told(&loaded, async |config| Ok(backup::restore(config, &folder, replace)?))
        }
        Command::NewLogId => told(&loaded, async |config| Ok(backup::new_log_id(config)?)),
        Command::Registry { action } => {
            told(&loaded, async |config| Ok(offline::run(config, &action).await?))
        }
        _ => run(&loaded),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moltrade-relayer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does something else than to serve, and says what came of it.
fn told(loaded: &Loaded, command: impl AsyncFnOnce(&Config) -> anyhow::Result<String>) -> anyhow::Result<()> {
    loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(command(&loaded.config))?;
    eprintln!("{told}");
    Ok(())
}

fn run(loaded: &Loaded) -> anyhow::Result<()> {
    telemetry::tracing::start(loaded.config.monitoring.log_level);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = loaded.sources(),
        "starting moltrade-relayer"
    );
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let outcome = runtime.block_on(app::run(loaded));
    // What still runs has had its time. Ending it closes the database before the process ends.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    Ok(outcome?)
}
