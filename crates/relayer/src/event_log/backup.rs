//! What a backup is: a RocksDB checkpoint with a file that describes it, which is written last. A
//! folder without that file is no backup, so one that was begun and not finished is never taken for
//! one.
//!
//! A data folder with that file in it is a backup that was put in place. Opening it as a log gives
//! it a new identity, because the sequence numbers behind the backup are assigned again.

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
pub const DESCRIPTION: &str = "backup.json";
/// The file in a data folder whose contents are being replaced. The log is not opened while it is
/// there.
pub const RESTORE_UNFINISHED: &str = "restore.unfinished";
/// The folder in a data folder where checkpoints are made and restored logs are tried. Opening the
/// log empties it.
pub const STAGING: &str = "staging";

/// Describes a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The version of this description.
    version: u32,
    /// The [format](keys::FORMAT_VERSION) of the log.
    pub format: u64,
    /// The identity of the log that was backed up.
    pub log: LogId,
    /// The newest sequence when the backup was begun. It may hold a few more events.
    pub head: Cursor,
    /// The oldest sequence.
    pub floor: Seq,
    /// When it was begun, in Unix milliseconds.
    pub made_at_ms: u64,
    /// The other files, each with its bytes.
    pub files: BTreeMap<String, u64>,
}

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder.
    #[error("{path} cannot be used: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is no description.
    #[error(
        "{path} is no backup: it has no {DESCRIPTION}, which `moltrade-relayer backup` writes when a backup is complete. \
         If it is a copy of the folder of a stopped gateway, copy it to its place and run `moltrade-relayer new-log-id`"
    )]
    NotABackup {
        /// The folder.
        path: PathBuf,
    },
    /// The description is not one of ours.
    #[error("the backup {path} is damaged: {reason}")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else makes a backup.
    #[error("another backup is being made; try again when it is done")]
    Busy,
    /// RocksDB.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl BackupError {
    /// An error of the system about a path.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, reason: error.to_string() }
    }
}

impl Description {
    const VERSION: u32 = 1;

    /// Reads the description of a backup, and checks that the files are there and have the sizes
    /// that it names.
    ///
    /// # Errors
    /// When the folder is no backup, or is damaged.
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
                return Err(damaged(format!("{DESCRIPTION} names `{name}`, which is no file of a log")));
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

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Writes the description into the folder of the backup, which is complete then, and waits for
    /// the disk.
    ///
    /// # Errors
    /// When the system cannot write it.
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

/// Whether RocksDB has files of this name in the folder of a log.
pub fn is_file_of_log(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = |extension| name.strip_suffix(extension).is_some_and(is_number);
    matches!(name, "CURRENT" | "IDENTITY" | "LOCK" | "LOG")
        || [".sst", ".log", ".blob", ".dbtmp"].into_iter().any(numbered)
        || name.strip_prefix("MANIFEST-").is_some_and(is_number)
        || name.strip_prefix("LOG.old.").is_some_and(is_number)
        || name.strip_prefix("OPTIONS-").is_some_and(|rest| is_number(rest.trim_end_matches(".dbtmp")))
}

/// Waits until the disk knows what is in a folder.
///
/// # Errors
/// When the system says so.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl EventLog {
    /// Makes a backup in the [`STAGING`] folder of the data folder, in place of the one that is
    /// there, and gives where it is. Sorted files are hard links, so it takes little time and room.
    /// Waits for the disk.
    ///
    /// # Errors
    /// When another one is being made, or RocksDB or the system fails. The log goes on in any case.
    pub fn back_up(&self) -> Result<(PathBuf, Description), BackupError> {
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

/// Removes a folder and what is in it, if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::file(folder)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a data folder is a backup that was put in place.
pub(super) fn is_backup_in_place(path: &Path) -> io::Result<bool> {
    path.join(DESCRIPTION).try_exists()
}

/// The data folder is a log from now on, and no backup any more.
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
