//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::offline::RegistryCommand;

/// Exit status for a wrong configuration: sysexits' EX_CONFIG. A supervisor need not restart on it
/// (systemd: `RestartPreventExitStatus=78`).
pub const EXIT_CONFIG: u8 = 78;

const AFTER_HELP: &str = "\
Examples:
  moltrade-relayer                              run, with config.toml if it is here, else with defaults
  moltrade-relayer --config /etc/relayer.toml   run with this file
  moltrade-relayer registry export --file bots.jsonl
                                                bots and followers, to import them elsewhere
  moltrade-relayer backup /backups/monday       a backup of the log, while the gateway runs
  moltrade-relayer restore /backups/monday      the log as it was, under a new identity
  moltrade-relayer check-config                 what is in effect, and where each value came from
  RELAY_URLS=wss://a.example,wss://b.example moltrade-relayer

Environment (it goes before the file):
  RELAYER_<SECTION>__<KEY>   any key of the file, e.g. RELAYER_OUTPUT__WEBSOCKET_PORT=9000;
                             a list is a TOML array, or its items with commas, semicolons or
                             white space between
  RELAY_URLS                 short for RELAYER_RELAY__BOOTSTRAP_RELAYS
  RUST_LOG                   what is logged, e.g. moltrade_relayer=debug; goes before monitoring.log_level

Exit status:
  0   stopped in order (SIGINT, SIGTERM), or the command succeeded
  1   could not start or go on: port in use, database locked or damaged, …
  2   wrong command line
  78  wrong configuration: every problem is named with file, line and key";

/// Nostr event gateway: receives from many relays, verifies, lets every event through once, keeps an
/// ordered log, and serves it on /ws.
#[derive(Debug, Parser)]
#[command(name = "moltrade-relayer", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Configuration file [default: config.toml in the working directory, if it exists]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the gateway; this is what happens without a command
    Run,
    /// Check the configuration and print what is in effect, with secrets masked
    CheckConfig,
    /// Print a configuration file with every key, its help and its default
    ConfigTemplate,
    /// Make a backup of the log in a folder, whether a gateway runs or not
    Backup {
        /// A folder that is empty or does not exist
        folder: PathBuf,
    },
    /// Put a backup in the place of the log; the gateway must be stopped
    Restore {
        /// The folder of the backup
        folder: PathBuf,
        /// Delete the log that is there
        #[arg(long)]
        replace: bool,
    },
    /// Give the log a new identity, so that cursors which name the old one are refused; the gateway must be stopped
    NewLogId,
    /// Move the bots and followers of the fan-out, or give them to another key
    Registry {
        /// What to do with them
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
