//! Backups. A backup is a RocksDB checkpoint and a file with its description. The description is
//! written last, so a folder without a description is an unfinished backup and is refused.
//!
//! A data folder with a description is a backup that was copied there. Opening it as a log gives
//! the log a new identity, because the sequence numbers after the backup are assigned again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Cursor, EventLog, LogId, Seq, StorageError, keys};
use crate::clock::unix_ms;
use crate::crash_point;
use crate::limits::BACKUP_DESCRIPTION_BYTES_MAX;

/// The file that describes a backup.
pub(crate) const DESCRIPTION: &str = "backup.json";
/// The file that marks a data folder whose contents are being replaced. The log does not open while
/// this file exists.
pub(crate) const RESTORE_UNFINISHED: &str = "restore.unfinished";
/// The folder inside the data folder for checkpoints, and for restored logs before they replace the
/// old log. Opening the log deletes this folder.
pub(crate) const STAGING: &str = "staging";

/// The contents of the [`DESCRIPTION`] file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The version of this description.
    version: u32,
    /// The [format](keys::FORMAT_VERSION) of the log.
    pub format: u64,
    /// The identity of the log that was backed up.
    pub log: LogId,
    /// The newest sequence when the backup began. The backup may hold a few later events.
    pub head: Cursor,
    /// The oldest sequence in the backup.
    pub floor: Seq,
    /// When the backup began, in Unix milliseconds.
    pub(crate) made_at_ms: u64,
    /// The sizes in bytes of all files except the description, by name.
    pub files: BTreeMap<String, u64>,
}

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused access to a file or folder.
    #[error("{path} cannot be used: {reason}")]
    File {
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// The description is missing.
    #[error(
        "{path} is not a backup: it has no {DESCRIPTION}, which `moltrade-relayer backup` writes when a backup is complete. \
         If it is a copy of the folder of a stopped gateway, copy it to its place and run `moltrade-relayer new-log-id`"
    )]
    NotABackup { path: PathBuf },
    /// The description is invalid, or files do not match the description.
    #[error("the backup {path} is damaged: {reason}")]
    Damaged {
        path: PathBuf,
        /// What is wrong with the backup.
        reason: String,
    },
    /// Another backup is being made.
    #[error("another backup is being made; try again when it is done")]
    Busy,
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl BackupError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, reason: error.to_string() }
    }
}

impl Description {
    const VERSION: u32 = 1;

    /// Reads the description of a backup, and checks that all files exist with the listed sizes.
    ///
    /// # Errors
    /// When the folder is not a backup, or is damaged.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let damaged = |reason: String| BackupError::Damaged { path: folder.to_owned(), reason };
        let path = folder.join(DESCRIPTION);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::read_dir(folder).map_err(BackupError::file(folder))?;
                return Err(BackupError::NotABackup { path: folder.to_owned() });
            }
            Err(error) => return Err(BackupError::file(&path)(error)),
        };
        if metadata.len() > BACKUP_DESCRIPTION_BYTES_MAX {
            return Err(damaged(format!("{DESCRIPTION} has {} bytes", metadata.len())));
        }
        let text = fs::read(&path).map_err(BackupError::file(&path))?;
        let read: Self =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("{DESCRIPTION}: {error}")))?;
        if read.version != Self::VERSION {
            return Err(damaged(format!(
                "{DESCRIPTION} has version {}, not {}",
                read.version,
                Self::VERSION
            )));
        }
        for (name, bytes) in &read.files {
            if !is_file_of_log(name) {
                return Err(damaged(format!("{DESCRIPTION} names `{name}`, which is not a file of a log")));
            }
            let found =
                fs::metadata(folder.join(name)).map_err(|error| damaged(format!("{name}: {error}")))?;
            if !found.is_file() || found.len() != *bytes {
                return Err(damaged(format!("{name} has {} bytes instead of {bytes}", found.len())));
            }
        }
        if !read.files.contains_key("CURRENT") {
            return Err(damaged("it has no CURRENT".to_owned()));
        }
        Ok(read)
    }

    /// The total bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Writes the description, which completes the backup, and waits for the disk.
    ///
    /// # Errors
    /// When the system cannot write the file.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(DESCRIPTION);
        let unfinished = folder.join(format!("{DESCRIPTION}.new"));
        let written = (|| {
            let mut file = File::create(&unfinished)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            sync_folder(folder)
        })();
        written.map_err(BackupError::file(&path))
    }
}

/// Whether RocksDB uses files of this name in the folder of a log.
pub(crate) fn is_file_of_log(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = |extension| name.strip_suffix(extension).is_some_and(is_number);
    matches!(name, "CURRENT" | "IDENTITY" | "LOCK" | "LOG")
        || [".sst", ".log", ".blob", ".dbtmp"].into_iter().any(numbered)
        || name.strip_prefix("MANIFEST-").is_some_and(is_number)
        || name.strip_prefix("LOG.old.").is_some_and(is_number)
        || name.strip_prefix("OPTIONS-").is_some_and(|rest| is_number(rest.trim_end_matches(".dbtmp")))
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// When the system fails.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl EventLog {
    /// Makes a backup in the [`STAGING`] folder of the data folder, and returns the backup's
    /// folder. Deletes the previous backup there. SST files are hard-linked, so a backup takes
    /// little time and space. Waits for the disk.
    ///
    /// # Errors
    /// When another backup is being made, or RocksDB or the system fails. The log keeps working.
    pub(crate) fn back_up(&self) -> Result<(PathBuf, Description), BackupError> {
        let _one_at_a_time = self.backing_up.try_lock().ok_or(BackupError::Busy)?;
        let staging = self.store.path().join(STAGING);
        let folder = staging.join("backup");
        remove_folder(&folder)?;
        fs::create_dir_all(&staging).map_err(BackupError::file(&staging))?;
        let (head, floor, made_at_ms) = (self.head(), self.floor(), unix_ms());
        self.store.checkpoint(&folder)?;
        crash_point::reached("backup_checkpoint");
        let mut files = BTreeMap::new();
        let listed = (|| {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                files.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
            }
            Ok(())
        })();
        listed.map_err(BackupError::file(&folder))?;
        let (version, format, log) = (Description::VERSION, keys::FORMAT_VERSION, self.id());
        let description = Description { version, format, log, head, floor, made_at_ms, files };
        description.write(&folder)?;
        crash_point::reached("backup_described");
        Ok((folder, description))
    }
}

/// Removes a folder with its contents, if the folder exists.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::file(folder)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a data folder is a backup that was copied there.
pub(super) fn is_backup_in_place(path: &Path) -> io::Result<bool> {
    path.join(DESCRIPTION).try_exists()
}

/// Turns a backup in the data folder into a log by deleting the description.
pub(super) fn put_in_place(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(DESCRIPTION))?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_log_are_known_by_their_names() {
        for name in [
            "CURRENT",
            "IDENTITY",
            "LOCK",
            "LOG",
            "LOG.old.1700000000000000",
            "000012.sst",
            "000012.log",
            "MANIFEST-000005",
            "OPTIONS-000007",
            "OPTIONS-000007.dbtmp",
            "000012.dbtmp",
        ] {
            assert!(is_file_of_log(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../000012.sst",
            "a.sst",
            ".sst",
            "000012.sst.bak",
            "MANIFEST-",
            "MANIFEST-../x",
            "relayer.key",
            "config.toml",
            DESCRIPTION,
            RESTORE_UNFINISHED,
            STAGING,
        ] {
            assert!(!is_file_of_log(name), "{name}");
        }
    }
}
