//! Why the log cannot be opened, read or written.

use std::path::{Path, PathBuf};

use crate::event_log::free_space::{FreeSpace, NoRoom};
use crate::event_log::keys::{FORMAT_OLDEST, FORMAT_VERSION};

/// Why the log cannot be opened. A user can fix each of these problems.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the log open.
    #[error(
        "{path} is in use by another process; stop that one, or set another [deduplication] rocksdb_path"
    )]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// The directory cannot be created or written.
    #[error(
        "{path} cannot be used: {reason}; give it a folder that can be written, or set another [deduplication] rocksdb_path"
    )]
    Unusable {
        /// The log's directory.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The disk has no room for what RocksDB writes on opening.
    #[error(
        "make room: the disk under {path} is full ({free_bytes} bytes are free), and the event log cannot be opened \
         without; {needed_bytes} bytes are enough"
    )]
    Full {
        /// The log's directory.
        path: PathBuf,
        /// The bytes that are free.
        free_bytes: u64,
        /// The number of bytes that is always enough.
        needed_bytes: u64,
    },
    /// RocksDB reports that the log is damaged.
    #[error(
        "the log at {path} is damaged: {reason}; restore it from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// The log's directory.
        path: PathBuf,
        /// RocksDB's error.
        reason: String,
    },
    /// A restore was interrupted.
    #[error(
        "a restore into {path} was begun and not finished; run `moltrade-relayer restore` again, with the same backup or \
         another one"
    )]
    RestoreUnfinished {
        /// The log's directory.
        path: PathBuf,
    },
    /// Another version wrote the log in a format that this version does not open.
    #[error(
        "the log at {path} has format {found}, and this version opens formats {FORMAT_OLDEST} to {FORMAT_VERSION}; \
         use the version that wrote it, or move the log away to start with an empty one"
    )]
    OtherFormat {
        /// The log's directory.
        path: PathBuf,
        /// The format of the log.
        found: u64,
    },
    /// The log was opened, but cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// RocksDB failed or returned damaged data, which the process must not treat as "absent". Or the
/// disk has no room, and nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the event log failed to {operation}: {reason}")]
pub struct StorageError {
    operation: &'static str,
    reason: String,
    is_full: bool,
}

impl StorageError {
    pub(crate) fn new(operation: &'static str, reason: impl ToString) -> Self {
        Self { operation, reason: reason.to_string(), is_full: false }
    }

    /// Whether the disk was full, as RocksDB or the system reports it.
    pub(super) fn reports_full_disk(&self) -> bool {
        self.reason.contains(NO_SPACE)
    }

    pub(in crate::event_log) fn no_room(operation: &'static str, error: NoRoom) -> Self {
        Self { operation, reason: format!("the disk is full: {error}"), is_full: true }
    }

    /// Whether nothing was written because the disk has no room. Such an error is temporary, and no
    /// data is damaged.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    pub(in crate::event_log) fn damaged(operation: &'static str, what: &str, key: &[u8]) -> Self {
        Self::new(operation, format_args!("{what} {key:02x?} is damaged"))
    }
}

/// The system's text for a full disk.
const NO_SPACE: &str = "No space left on device";

/// The error for a log that cannot be opened because the disk is full.
pub(super) fn full(path: &Path, needed_bytes: u64) -> OpenError {
    // A folder that does not exist yet will be created on the file system of its parent.
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let free_bytes = FreeSpace::of(existing.to_owned()).bytes().unwrap_or(0);
    OpenError::Full { path: path.to_owned(), free_bytes, needed_bytes }
}

/// Classifies an input or output error of RocksDB by its text; there is no other way.
pub(super) fn open_error(
    path: &Path,
    free_bytes_needed: u64,
    kind: &rocksdb::ErrorKind,
    reason: String,
) -> OpenError {
    let path = path.to_owned();
    if reason.contains(NO_SPACE) {
        return full(&path, free_bytes_needed);
    }
    let is_lock = reason.contains("lock hold by current process") || reason.contains("While lock file");
    match kind {
        rocksdb::ErrorKind::IOError if is_lock && !reason.contains("ermission") => OpenError::Locked { path },
        rocksdb::ErrorKind::IOError if !reason.contains("No such file") => {
            OpenError::Unusable { path, reason }
        }
        _ => OpenError::Damaged { path, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error text of RocksDB 10 on a full tmpfs.
    #[test]
    fn a_full_disk_at_the_start_says_make_room() {
        let reason = "IO error: No space left on device: While appending to file: /data/log/000012.sst: No space \
                      left on device";
        let error = open_error(Path::new("/"), 250_000_001, &rocksdb::ErrorKind::IOError, reason.to_owned());
        let told = error.to_string();
        assert!(told.starts_with("make room: the disk under / is full"), "{told}");
        assert!(told.contains("250000001"), "{told}");
        assert!(!told.contains("IO error"), "{told}");
    }
}
