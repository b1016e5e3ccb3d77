//! The commands `moltrade-relayer backup`, `restore` and `new-log-id`.
//!
//! [`online`] asks a running gateway for a checkpoint, [`transfer`] copies or links the files of a
//! backup, and [`restore`] replaces the log with a backup.
//! [`event_log::backup`](crate::event_log::backup) defines the contents of a backup.

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
use crate::event_log::{EventLog, OpenError};
use transfer::{Moved, transfer};

/// These commands need no events in memory.
const TAIL_BYTES: usize = 0;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(
        "there is no log at {0}; is this the configuration of the gateway? (--config, [deduplication] rocksdb_path)"
    )]
    NoLog(PathBuf),
    #[error("{0} is not empty; name an empty folder, or one that does not exist")]
    Occupied(PathBuf),
    #[error("{folder} is inside the data folder {path}; name a folder outside of it")]
    Inside {
        folder: PathBuf,
        /// The log's directory.
        path: PathBuf,
    },
    #[error(
        "there is a log at {0}; to replace it, use `moltrade-relayer restore --replace`, which deletes it after the \
         backup was copied and opened, or move it away"
    )]
    LogInPlace(PathBuf),
    /// The data folder contains a file that does not belong to a log.
    #[error(
        "{path} contains `{name}`, which is not a file of a log; move it away, or set another [deduplication] \
         rocksdb_path"
    )]
    Foreign {
        /// The log's directory.
        path: PathBuf,
        name: String,
    },
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(
        "a gateway has {0} open, but its port is unknown because [output] websocket_port is 0; set the port that it \
         listens on (RELAYER_OUTPUT__WEBSOCKET_PORT), or stop it"
    )]
    PortUnknown(PathBuf),
    /// The log is open in a gateway that made no checkpoint.
    #[error(
        "{path} is open in another process, and the gateway at {address} did not make a checkpoint of it: {why}"
    )]
    Refused {
        /// The log's directory.
        path: PathBuf,
        address: SocketAddr,
        why: String,
    },
}

/// Backs up the configured log to a folder, whether or not a gateway runs. Returns a message for
/// the operator.
///
/// # Errors
/// When the backup fails. The folder is unchanged then.
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
    let options = config.storage.store_options();
    // The log stays open until its files are copied: otherwise a gateway could start and delete the
    // staging folder.
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
        Err(error) => {
            format!(" (the staging copy could not be deleted; the next start or backup deletes it: {error})")
        }
    };
    let (moved, Description { log, head, .. }) = (moved?, description);
    Ok(format!("backed up the log {log} up to event {head} into {}: {moved}{left}", folder.display()))
}

/// Copies a checkpoint to the backup folder. The copy gets the folder's name only when it is
/// complete.
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
            // Another backup may have replaced the checkpoint during the copy.
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

/// Gives the configured log a new identity. No gateway may be running. Returns a message for the
/// operator.
///
/// # Errors
/// When the log cannot be opened or written.
pub fn new_log_id(config: &Config) -> Result<String, CommandError> {
    let path = absolute(&config.deduplication.rocksdb_path)?;
    require_log(&path)?;
    let (old, new) = EventLog::renew_id(&path, config.storage.store_options())?;
    Ok(format!(
        "the identity of the log at {} was {old} and is {new} now; cursors that name {old} are refused",
        path.display()
    ))
}

/// Fails if there is no log. Without this check, opening would create an empty log.
fn require_log(path: &Path) -> Result<(), CommandError> {
    let exists = |name| path.join(name).try_exists().map_err(BackupError::file(path));
    match exists("CURRENT")? || exists(RESTORE_UNFINISHED)? {
        true => Ok(()),
        false => Err(CommandError::NoLog(path.to_owned())),
    }
}

/// Returns the space that must stay free on the disk of a folder.
fn reserve(config: &Config, folder: &Path) -> Reserve {
    Reserve::new(FreeSpace::of(folder.to_owned()), config.storage.min_free_bytes)
}

fn absolute(path: &Path) -> Result<PathBuf, BackupError> {
    std::path::absolute(path).map_err(BackupError::file(path))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether the folder is empty or does not exist.
fn is_empty(folder: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::file(folder)(error)),
    }
}

/// Deletes the folder of an earlier attempt. Fails if the folder contains files that are not from a
/// backup.
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
