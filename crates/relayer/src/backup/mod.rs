//! What the program does with backups: `moltrade-relayer backup`, `restore` and `new-log-id`.
//!
//! [`online`] asks a running gateway for a checkpoint, [`transfer`] brings the files of a backup
//! from one folder to another, [`restore`] puts a backup in the place of the log. What a backup is,
//! [`event_log::backup`](crate::event_log::backup) knows.

mod online;
mod restore;
mod transfer;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use restore::restore;

use crate::config::Config;
use crate::event_log::backup::{
    BackupError, Description, RESTORE_UNFINISHED, STAGING, remove_folder, sync_folder,
};
use crate::event_log::free_space::{FreeSpace, NoRoom, Reserve};
use crate::event_log::{EventLog, OpenError, StoreOptions};
use transfer::{Moved, transfer};

/// No events are kept in memory.
const TAIL_BYTES: usize = 0;

/// Why a command about backups failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is nothing to back up.
    #[error(
        "there is no log at {0}; is this the configuration of the gateway? (--config, [deduplication] rocksdb_path)"
    )]
    NoLog(PathBuf),
    /// The backup's folder is taken.
    #[error("{0} is not empty; name a folder that is, or that does not exist")]
    Occupied(PathBuf),
    /// One folder is in the other.
    #[error("{folder} is in the data folder {path}; name a folder outside of it")]
    Inside {
        /// The backup's folder.
        folder: PathBuf,
        /// The log's directory.
        path: PathBuf,
    },
    /// There is a log where the backup is to be restored.
    #[error(
        "there is a log at {0}. `moltrade-relayer restore --replace` deletes it when the backup has been copied and \
         opened; or move it away"
    )]
    LogInPlace(PathBuf),
    /// Files that are none of a log's are in the data folder.
    #[error(
        "{path} holds `{name}`, which is no file of a log; move it away, or set another [deduplication] rocksdb_path"
    )]
    Foreign {
        /// The log's directory.
        path: PathBuf,
        /// The name of one.
        name: String,
    },
    /// The disk has no room for the copy.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The port of the gateway is not known.
    #[error(
        "a gateway has {0} open, and [output] websocket_port = 0 does not tell its port; set the port that it listens \
         on (RELAYER_OUTPUT__WEBSOCKET_PORT), or stop it"
    )]
    PortUnknown(PathBuf),
    /// The gateway that has the log open does not make a checkpoint.
    #[error(
        "{path} is open in another process, and the gateway at {address} did not make a checkpoint of it: {why}"
    )]
    Refused {
        /// The log's directory.
        path: PathBuf,
        /// Where the gateway was asked.
        address: SocketAddr,
        /// What it answered.
        why: String,
    },
}

/// Makes a backup of the configured log in a folder, whether a gateway runs or not, and returns
/// what to tell.
///
/// # Errors
/// When it cannot be made. The folder is what it was then.
pub async fn backup(config: &Config, folder: &Path) -> Result<String, CommandError> {
    let path = absolute(&config.deduplication.rocksdb_path)?;
    let folder = absolute(folder)?;
    require_log(&path)?;
    if folder.starts_with(&path) {
        return Err(CommandError::Inside { folder, path });
    }
    if !is_empty(&folder)? {
        return Err(CommandError::Occupied(folder));
    }
    let options = StoreOptions { fsync: config.storage.fsync };
    // It is kept open until the files are copied: a gateway that starts empties the folder that
    // they are in.
    let (_log, source, description) = match EventLog::open(&path, options, TAIL_BYTES) {
        Ok(log) => {
            reserve(config, &path).check(0)?;
            let (source, description) = log.back_up()?;
            (Some(log), source, description)
        }
        Err(OpenError::Locked { path }) => {
            let (source, description) = online::checkpoint(config, path).await?;
            (None, source, description)
        }
        Err(error) => return Err(error.into()),
    };
    let moved = copy_out(config, &description, &source, &folder);
    let left = match remove_folder(&path.join(STAGING)) {
        Ok(()) => String::new(),
        Err(error) => format!(" (the gateway's own copy is removed at its next start or backup: {error})"),
    };
    let (moved, Description { log, head, .. }) = (moved?, description);
    Ok(format!("backed up the log {log} up to event {head} into {}: {moved}{left}", folder.display()))
}

/// Copies a checkpoint into the folder of a backup, which exists when it is complete.
fn copy_out(
    config: &Config,
    description: &Description,
    source: &Path,
    folder: &Path,
) -> Result<Moved, CommandError> {
    let (unfinished, parent) = (beside(folder, ".unfinished"), folder.parent().unwrap_or(folder));
    fs::create_dir_all(parent).map_err(BackupError::file(parent))?;
    clear(&unfinished)?;
    fs::create_dir(&unfinished).map_err(BackupError::file(&unfinished))?;
    let copied =
        transfer(description, source, &unfinished, &reserve(config, &unfinished)).and_then(|moved| {
            // Another backup may have been made meanwhile, and its files mixed with ours.
            if Description::read(source)? != *description {
                return Err(BackupError::Busy.into());
            }
            description.write(&unfinished)?;
            fs::rename(&unfinished, folder).map_err(BackupError::file(folder))?;
            sync_folder(parent).map_err(BackupError::file(parent))?;
            Ok(moved)
        });
    if copied.is_err() {
        remove_folder(&unfinished)?;
    }
    copied
}

/// Gives the configured log a new identity, and returns what to tell. No gateway may run.
///
/// # Errors
/// When the log cannot be opened or written.
pub fn new_log_id(config: &Config) -> Result<String, CommandError> {
    let path = absolute(&config.deduplication.rocksdb_path)?;
    require_log(&path)?;
    let (old, new) = EventLog::renew_id(&path, StoreOptions { fsync: config.storage.fsync })?;
    Ok(format!(
        "the log at {} was {old} and is {new} now; cursors that name {old} are refused",
        path.display()
    ))
}

/// There must be a log: opening would make one, and nobody wants a backup of that.
fn require_log(path: &Path) -> Result<(), CommandError> {
    let exists = |name| path.join(name).try_exists().map_err(BackupError::file(path));
    match exists("CURRENT")? || exists(RESTORE_UNFINISHED)? {
        true => Ok(()),
        false => Err(CommandError::NoLog(path.to_owned())),
    }
}

/// What must stay free on the disk of a folder.
fn reserve(config: &Config, folder: &Path) -> Reserve {
    Reserve { free_space: FreeSpace::of(folder.to_owned()), bytes_min: config.storage.min_free_bytes }
}

fn absolute(path: &Path) -> Result<PathBuf, BackupError> {
    std::path::absolute(path).map_err(BackupError::file(path))
}

/// The path with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether nothing is there, or an empty folder.
fn is_empty(folder: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::file(folder)(error)),
    }
}

/// Removes a folder of an earlier attempt, if it is there. One with other files in it is left
/// alone.
fn clear(folder: &Path) -> Result<(), CommandError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BackupError::file(folder))?,
    };
    for entry in entries {
        let name = entry.map_err(BackupError::file(folder))?.file_name();
        if !name.to_str().is_some_and(transfer::is_file_of_backup) {
            return Err(CommandError::Occupied(folder.to_owned()));
        }
    }
    Ok(remove_folder(folder)?)
}
