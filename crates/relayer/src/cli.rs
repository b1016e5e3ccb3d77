//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::offline::RegistryCommand;
use crate::tail::TailOptions;
use crate::top::TopOptions;

/// Exit status for an invalid configuration: EX_CONFIG of sysexits. Supervisors should not restart
/// the gateway after this status (systemd: `RestartPreventExitStatus=78`).
pub const EXIT_CONFIG: u8 = 78;

/// Exit status of `tail` and `top` when they cannot reach the gateway and may not wait for it.
pub const EXIT_UNREACHABLE: u8 = 3;

const AFTER_HELP: &str = "\
Examples:
  moltrade-relayer                              run with config.toml if it exists, else with defaults
  moltrade-relayer --config /etc/relayer.toml   run with this file
  moltrade-relayer registry export --file bots.jsonl
                                                export bots and followers, to import them elsewhere
  moltrade-relayer backup /backups/monday       back up the log while the gateway runs
  moltrade-relayer restore /backups/monday      restore the log with a new identity
  moltrade-relayer status                       show the state of the running gateway
  moltrade-relayer top                          watch rates, relays and sinks
  moltrade-relayer tail --kinds 1 | jq .content follow the log of the running gateway
  moltrade-relayer check-config                 show each value in effect and its source
  RELAY_URLS=wss://a.example,wss://b.example moltrade-relayer

Environment (overrides the file):
  RELAYER_<SECTION>__<KEY>   any key of the file, e.g. RELAYER_OUTPUT__WEBSOCKET_PORT=9000;
                             a list is a TOML array, or items separated by commas, semicolons
                             or white space
  RELAY_URLS                 short for RELAYER_RELAY__BOOTSTRAP_RELAYS
  MOLTRADE_RELAYER_TOKEN     a token for `status`, `tail` and `top`, sent to the gateway as
                             `Authorization: Bearer`
  RUST_LOG                   what is logged, e.g. moltrade_relayer=debug; overrides monitoring.log_level

Exit status:
  0   stopped by SIGINT or SIGTERM, or the command succeeded
  1   could not start or continue: port in use, database locked or damaged, …
  2   wrong command line
      (status: 0 healthy, 1 degraded, 2 down or unreachable; tail and top: see their --help)
  78  invalid configuration: every problem is reported with file, line and key";

/// Nostr event gateway: receives events from many relays, verifies them, removes duplicates, stores the
/// events in an ordered log, and serves the log on /ws.
#[derive(Debug, Parser)]
#[command(name = "moltrade-relayer", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Configuration file [default: config.toml in the working directory, if it exists]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the gateway (the default)
    Run,
    /// Show the state of a running gateway; exit status 0 healthy, 1 degraded, 2 down or unreachable
    Status {
        /// The gateway's URL, as in http://127.0.0.1:8080 [default: the one that the configuration describes]
        #[arg(long)]
        url: Option<String>,
    },
    /// Follow the log of a running gateway: one event a line, as JSON
    Tail(TailOptions),
    /// Watch the rates, relays and sinks of a running gateway
    Top(TopOptions),
    /// Check the configuration and print the values in effect, with secrets masked
    CheckConfig,
    /// Ask the running gateway whether it is healthy; the exit status is 0 if it is
    Health,
    /// Print a configuration file with every key, its help and its default
    ConfigTemplate,
    /// Back up the log to a folder; the gateway may be running
    Backup {
        /// An empty folder, or a folder that does not exist yet
        folder: PathBuf,
    },
    /// Replace the log with a backup; the gateway must be stopped
    Restore {
        /// The folder of the backup
        folder: PathBuf,
        /// Delete the existing log
        #[arg(long)]
        replace: bool,
    },
    /// Give the log a new identity, so that cursors with the old identity are refused; the gateway must be stopped
    NewLogId,
    /// Export or import bots and followers, or transfer them to another gateway key
    Registry {
        #[command(subcommand)]
        action: RegistryCommand,
    },
}

impl Cli {
    /// The command that was given, or [`Command::Run`].
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Run)
    }
}

impl Command {
    /// The URL of the gateway that the command asks, if one was given.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Status { url }
            | Self::Tail(TailOptions { url, .. })
            | Self::Top(TopOptions { url, .. }) => url.as_deref(),
            _ => None,
        }
    }
}
