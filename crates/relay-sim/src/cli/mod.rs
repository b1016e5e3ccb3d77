//! The command line: `relays` serves, `consume` checks, `both` does both in one process.

mod behaviour_args;
mod consume;
mod parts;
mod relays;
mod report;
mod sim_args;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relay_sim::StartError;

/// Exit code: success.
const PASSED: u8 = 0;
/// Exit code: consumption was faulty, or the program failed.
const FAILED: u8 = 1;
/// Exit code: the command line is invalid.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  # 20 relays on port 7700 with 5,000 events, 10 copies each, as fast as sockets take them
  relay-sim relays --port 7700 --relays 20 --events 5000 --copies 10 --print-urls

  # 2,000 new events a second for a minute, a third forged, a third of the relays sending garbage
  relay-sim relays --port 7700 --relays 30 --events 120000 --rate 2000 --forge 0.3 \\
      --fault garbage:0.01:0.33 --fault half-open:0.001:0.33

  # real events from a file, three copies each
  relay-sim relays --port 7700 --file real.jsonl --relays 10 --copies 3 --stored 1

  # 50,000 different events from the gateway, complete, once, genuine, in order?
  relay-sim consume --url 'ws://127.0.0.1:8080/ws?cursor=0' --expect-count 50000 --reconnect 30

  # 100 relays over TLS that cap their answers, half of them by refusing greater limits, and tell nothing
  relay-sim relays --port 7700 --relays 100 --events 100000 --stored 1 --tls --ca-file ca.pem \\
      --cap 500 --cap refuse=500:0.5 --information no-limits --burst 0:900:2000

  # relays and consumer together, which gives latencies
  relay-sim both --port 7700 --relays 20 --events 20000 --rate 2000 \\
      --url 'ws://127.0.0.1:8080/ws?cursor=0'

Exit codes: 0 all is well, 1 a check failed or something broke, 2 the command line is wrong.";

/// Simulated Nostr relays from a seed, and a consumer that checks what a gateway delivers.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads that serve connections. Default: one for each core.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the summary as one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Print no progress lines on standard error.
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve simulated relays until Ctrl-C, or until everything has been sent.
    Relays(relays::Args),
    /// Connect to a gateway's /ws and check that deliveries are complete, unique, genuine and in
    /// order.
    Consume(consume::Args),
    /// Serve relays and consume from the gateway in one process.
    Both(Box<consume::BothArgs>),
}

/// The verbosity of the program.
#[derive(Debug, Clone, Copy)]
struct Output {
    json: bool,
    quiet: bool,
}

/// Why the program cannot continue.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Consume(#[from] relay_sim::ConsumeError),
    #[error("{0}")]
    Usage(String),
    #[error("cannot write {0}: {1}")]
    Write(String, std::io::Error),
    #[error("cannot listen to signals: {0}")]
    Signal(std::io::Error),
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
}

impl Failure {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Start(StartError::Value(_) | StartError::File(_))
            | Self::Consume(relay_sim::ConsumeError::Url { .. }) => USAGE,
            _ => FAILED,
        }
    }
}

/// Runs a command.
pub fn run(cli: Cli) -> ExitCode {
    let output = Output { json: cli.json, quiet: cli.quiet };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.threads {
        builder.worker_threads(threads.into());
    }
    let outcome = builder.enable_all().build().map_err(Failure::Runtime).and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Relays(args) => relays::run(args, output).await,
                Command::Consume(args) => consume::run(args, output).await,
                Command::Both(args) => consume::run_both(*args, output).await,
            }
        })
    });
    match outcome {
        Ok(passed) => ExitCode::from(if passed { PASSED } else { FAILED }),
        Err(failure) => {
            eprintln!("relay-sim: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
