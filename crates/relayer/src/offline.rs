//! The commands `moltrade-relayer registry …`.
//!
//! The embedded registry is in the gateway's database, which only one process can open, so the
//! gateway must be stopped. A PostgreSQL registry may be in use; running gateways notice imported
//! rows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use prometheus_client::metrics::counter::Counter;
use wire::Signer;

use crate::clock::Clock;
use crate::config::{Config, SecretFile, SecretKey};
use crate::event_log::{EventLog, OpenError};
use crate::fanout::identity::{self, IdentityError};
use crate::fanout::registry::transfer::{RowCounts, TransferError, export, import};
use crate::fanout::registry::{Embedded, FollowRow, RegistryError, Sealer, Store, postgres};
use crate::gateway::reserve_of;
use crate::nip19::npub;

/// The commands need no events in memory.
const TAIL_BYTES: usize = 0;

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RegistryCommand {
    /// Write all bots and follows as lines of JSON; secrets stay encrypted
    Export {
        /// The output file [default: standard output]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Add exported bots and follows to the configured registry: all of them or, on an error, none
    Import {
        /// The input file [default: standard input]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Transfer the registry from an old gateway key to the configured one
    Rekey {
        /// A file with the old key
        #[arg(long, value_name = "FILE")]
        old_key_file: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("{path} cannot be used: {source}")]
    File {
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    #[error("--old-key-file {path}: {why}")]
    OldKey {
        path: PathBuf,
        /// The reason, without any part of the key.
        why: String,
    },
}

/// Runs the command. Returns a message for the operator.
///
/// # Errors
/// When the command fails. In that case, bots and follows are unchanged, but a key may have been
/// created, and an empty registry initialised for that key, as at a start of the gateway.
pub async fn run(config: &Config, command: &RegistryCommand) -> Result<String, OfflineError> {
    let store = match postgres(config, Counter::default())? {
        Some(store) => store,
        None => {
            let options = config.storage.store_options();
            let path = &config.deduplication.rocksdb_path;
            let log = EventLog::open_with(path, options, TAIL_BYTES, Clock::system(), reserve_of(config))?;
            Arc::new(Embedded::new(log))
        }
    };
    let gateway = identity::load_or_create(config)?;
    let name = store.name();
    match command {
        RegistryCommand::Export { file } => {
            store.prepare(*gateway.pubkey()).await?;
            let RowCounts { bots, follows } = export_to(&*store, &gateway, file.as_deref()).await?;
            Ok(format!("exported {bots} bots and {follows} follows from the {name} registry"))
        }
        RegistryCommand::Import { file } => {
            store.prepare(*gateway.pubkey()).await?;
            let RowCounts { bots, follows } = import_from(&*store, &gateway, file.as_deref()).await?;
            Ok(format!("imported {bots} bots and {follows} follows into the {name} registry"))
        }
        RegistryCommand::Rekey { old_key_file } => {
            let secrets = rekey(&*store, &gateway, old_key_file).await?;
            let npub = npub(gateway.pubkey());
            Ok(format!("the {name} registry now belongs to {npub}; {secrets} secrets were re-encrypted"))
        }
    }
}

async fn export_to(
    store: &dyn Store,
    gateway: &Signer,
    file: Option<&Path>,
) -> Result<RowCounts, OfflineError> {
    let owner = *gateway.pubkey();
    let Some(path) = file else {
        return Ok(export(store, owner, &mut BufWriter::new(io::stdout())).await?);
    };
    // The export goes to a temporary file, which is renamed when it is complete.
    let unfinished = self::unfinished(path);
    let failed = |source| OfflineError::File { path: unfinished.clone(), source };
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let mut out = BufWriter::new(made.map_err(failed)?);
    let moved = export(store, owner, &mut out).await?;
    let finished = out.flush().and_then(|()| out.get_ref().sync_all());
    finished.and_then(|()| fs::rename(&unfinished, path)).map_err(failed)?;
    Ok(moved)
}

/// The path of the temporary file.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

async fn import_from(
    store: &dyn Store,
    gateway: &Signer,
    file: Option<&Path>,
) -> Result<RowCounts, OfflineError> {
    let (owner, sealer) = (*gateway.pubkey(), Sealer::new(gateway));
    Ok(match file {
        None => import(store, owner, &sealer, BufReader::new(io::stdin())).await?,
        Some(path) => {
            let failed = |source| OfflineError::File { path: path.to_owned(), source };
            import(store, owner, &sealer, BufReader::new(File::open(path).map_err(failed)?)).await?
        }
    })
}

async fn rekey(store: &dyn Store, gateway: &Signer, old_key_file: &Path) -> Result<u64, OfflineError> {
    let old = SecretFile::<SecretKey>::read(old_key_file)
        .map_err(|why| OfflineError::OldKey { path: old_key_file.to_owned(), why })?;
    let old = Arc::clone(old.secret.signer());
    let (opener, sealer) = (Sealer::new(&old), Sealer::new(gateway));
    let mut reseal = |follow: &FollowRow| {
        let Some(sealed) = &follow.secret else { return Ok(None) };
        let secret = opener.open(&follow.key, sealed);
        let secret = secret.map_err(|fault| RegistryError::Damaged(fault.to_string()))?;
        Ok(Some(sealer.seal(&follow.key, &secret)))
    };
    store.prepare(*old.pubkey()).await?;
    Ok(store.rekey(*old.pubkey(), *gateway.pubkey(), &mut reseal).await?)
}
