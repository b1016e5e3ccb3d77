//! The program: parses the command line, loads the configuration, and runs the command.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use moltrade_relayer::cli::{Cli, Command, EXIT_CONFIG, EXIT_UNREACHABLE};
use moltrade_relayer::config::{self, Config, ConfigErrors, Loaded, LogFormat, Problem, Secret};
use moltrade_relayer::limits::{BLOCKING_THREADS_MAX, SHUTDOWN_MAX};
use moltrade_relayer::remote::{End, TOKEN_VARIABLE, Target};
use moltrade_relayer::status::{self, Health, Report};
use moltrade_relayer::telemetry::log_buffer;
use moltrade_relayer::telemetry::record::{self, Record};
use moltrade_relayer::{app, backup, health_check, offline, tail, telemetry, top, watchdog};
use tracing::Level;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command() == Command::ConfigTemplate {
        return print(&config::template());
    }
    // A gateway elsewhere does not need a configuration here.
    if let Some(url) = cli.command().url() {
        return ask_gateway(&cli.command(), Target::Url(url));
    }
    let loaded = match Config::load(cli.config.as_deref(), config::environment()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            record::use_json(cli.command() == Command::Run && errors.log_format == LogFormat::Json);
            report_problems(&errors);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match cli.command() {
        Command::CheckConfig => {
            loaded.warnings.iter().for_each(|warning| report(format_args!("warning: {warning}")));
            print(&loaded.to_toml())
        }
        command @ (Command::Status { .. } | Command::Tail(_) | Command::Top(_)) => {
            ask_gateway(&command, Target::Configured(&loaded.config))
        }
        Command::Health => conclude(health_check::check(&loaded.config)),
        Command::Backup { folder } => {
            run_command(&loaded, async |config| Ok(backup::backup(config, &folder).await?))
        }
        Command::Restore { folder, replace } => {
            run_command(&loaded, async |config| Ok(backup::restore(config, &folder, replace)?))
        }
        Command::NewLogId => run_command(&loaded, async |config| Ok(backup::new_log_id(config)?)),
        Command::Registry { action } => {
            run_command(&loaded, async |config| Ok(offline::run(config, &action).await?))
        }
        _ => run_gateway(&loaded),
    }
}

/// Runs a command that asks a running gateway.
fn ask_gateway(command: &Command, target: Target<'_>) -> ExitCode {
    let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(Secret::new);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return conclude(Err::<String, _>(error)),
    };
    let ended = match command {
        Command::Tail(options) => end_status(runtime.block_on(tail::run(target, token, options))),
        Command::Top(options) => end_status(runtime.block_on(top::run(target, token, options))),
        _ => print_status(runtime.block_on(status::report(target, token))),
    };
    // Standard output may block a thread that writes to it.
    runtime.shutdown_background();
    ended
}

/// The exit status says the same as the text.
fn print_status(Report { health, text }: Report) -> ExitCode {
    let printed = print(&text);
    if health == Health::Healthy { printed } else { ExitCode::from(health as u8) }
}

fn end_status(end: End) -> ExitCode {
    match end {
        End::Done => ExitCode::SUCCESS,
        End::Failed(why) => conclude(Err::<String, _>(why)),
        End::Unreachable(why) => {
            report(format_args!("moltrade-relayer: {why}"));
            ExitCode::from(EXIT_UNREACHABLE)
        }
    }
}

fn run_gateway(loaded: &Loaded) -> ExitCode {
    record::use_json(loaded.config.monitoring.log_format == LogFormat::Json);
    let _flushed_at_the_end = match log_buffer::start() {
        Ok(flushed_at_the_end) => flushed_at_the_end,
        Err(error) => {
            report(failure(format_args!("cannot start a thread: {error}")).trim_end());
            return ExitCode::FAILURE;
        }
    };
    match run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log buffer keeps this line after the log lines, and does not wait for a stalled
            // reader.
            log_buffer::write(format_args!("{}", failure(format_args!("{error}"))));
            ExitCode::FAILURE
        }
    }
}

/// The last line of the log of a program that failed.
fn failure(message: fmt::Arguments<'_>) -> String {
    if !record::is_json() {
        return format!("moltrade-relayer: {message}\n");
    }
    let (level, target) = (Level::ERROR, module_path!());
    Record { level, target, event: "failed", message, fields: &[] }.to_string()
}

/// Reports the problems of a configuration, each on a line.
fn report_problems(errors: &ConfigErrors) {
    if !record::is_json() {
        return report(errors);
    }
    for problem in errors.problems() {
        let place: (_, &dyn Display) = ("place", &problem.place);
        match &problem.key {
            Some(key) => report_problem(problem, &[place, ("key", key)]),
            None => report_problem(problem, &[place]),
        }
    }
}

fn report_problem(problem: &Problem, fields: &[(&'static str, &dyn Display)]) {
    let (level, target) = (Level::ERROR, "moltrade_relayer::config");
    let message = format_args!("{problem}");
    let line = Record { level, target, event: "config_invalid", message, fields }.to_string();
    report(line.trim_end());
}

/// Writes to standard output.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the output early, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("moltrade-relayer: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error.
fn report(line: impl Display) {
    // If standard error fails, the exit status still reports the error.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Runs a command other than `run` and reports its result.
fn run_command(
    loaded: &Loaded,
    command: impl AsyncFnOnce(&Config) -> Result<String, Box<dyn Error>>,
) -> ExitCode {
    loaded.warnings.iter().for_each(|warning| report(format_args!("warning: {warning}")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    conclude(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(command(&loaded.config))))
}

fn conclude(done: Result<String, impl Display>) -> ExitCode {
    match done {
        Ok(done) => {
            report(done);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(format_args!("moltrade-relayer: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(loaded: &Loaded) -> Result<(), Box<dyn Error>> {
    watchdog::start().map_err(|error| format!("cannot start a thread: {error}"))?;
    telemetry::tracing::start(loaded.config.monitoring.log_level.into());
    tracing::info!(
        name: "starting",
        version = env!("CARGO_PKG_VERSION"),
        configuration = loaded.sources(),
        "starting moltrade-relayer"
    );
    for warning in &loaded.warnings {
        tracing::warn!(name: "config_warning", "{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let outcome = runtime.block_on(app::run(loaded));
    // Ends the remaining tasks, so that the database is closed before the process ends.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    Ok(outcome?)
}
