//! `relay-sim relays`.

use std::path::PathBuf;
use std::time::Duration;

use relay_sim::Sim;
use tokio::time::{interval, sleep};

use super::report::{self, Meter, PROGRESS_EVERY};
use super::sim_args::SimArgs;
use super::{Failure, Output};

/// Options of `relays`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sim: SimArgs,
    /// Print the relays' URLs on standard output, one on each line, when they listen.
    #[arg(long)]
    print_urls: bool,
    /// Write the relays' URLs to this file, one on each line, when they listen.
    #[arg(long)]
    urls_file: Option<PathBuf>,
    /// End when reliable relays have sent everything.
    #[arg(long)]
    exit_when_sent: bool,
    /// End after this many seconds.
    #[arg(long)]
    seconds: Option<f64>,
}

/// Starts the relays that the options describe, and starts live traffic at the chosen time.
pub async fn start(args: &SimArgs, output: Output) -> Result<std::sync::Arc<Sim>, Failure> {
    if !output.quiet {
        eprintln!("creating the events …");
    }
    let sim = std::sync::Arc::new(args.builder().start().await?);
    args.behaviour.write_ca(&sim)?;
    if !output.quiet {
        let last = sim.url(args.relays().saturating_sub(1));
        eprintln!("{} relays listen on {} to {last}", args.relays(), sim.url(0));
    }
    if args.holds() {
        let (sim, relays) = (std::sync::Arc::clone(&sim), args.relays());
        tokio::spawn(async move {
            sim.wait_subscribed(relays).await;
            sim.go();
        });
    }
    Ok(sim)
}

/// Serves until Ctrl-C or the end set by the options. Serving always succeeds.
pub async fn run(args: Args, output: Output) -> Result<bool, Failure> {
    let seconds = super::consume::duration(args.seconds, "--seconds")?;
    let sim = start(&args.sim, output).await?;
    let urls = sim.urls().join("\n") + "\n";
    if args.print_urls {
        report::print(&urls)?;
    }
    if let Some(path) = &args.urls_file {
        std::fs::write(path, &urls).map_err(|error| Failure::Write(path.display().to_string(), error))?;
    }
    let mut meter = Meter::start();
    let mut ticks = interval(PROGRESS_EVERY);
    let end = sleep(seconds.unwrap_or(Duration::from_secs(u32::MAX.into())));
    tokio::pin!(end);
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(Failure::Signal)?;
                break;
            }
            () = &mut end => break,
            () = sim.wait_sent(), if args.exit_when_sent => {
                // Gives clients a moment to read data in flight.
                sleep(Duration::from_millis(500)).await;
                break;
            }
            _ = ticks.tick() => if !output.quiet {
                eprintln!("{}", meter.line(&sim));
            }
        }
    }
    report::relays(&sim.stats(), &meter, output)?;
    Ok(true)
}
