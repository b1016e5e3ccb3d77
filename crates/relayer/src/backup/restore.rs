//! Puts a backup in the place of the log.
//!
//! The backup is first copied into a folder of its own inside of the data folder, and opened there,
//! so that one which does not open harms nothing. Then the files change places under a
//! [marker](RESTORE_UNFINISHED): while it is there, no gateway starts, and only another restore
//! goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::transfer::{Moved, is_file_of_backup, transfer};
use super::{CommandError, TAIL_BYTES, absolute, reserve};
use crate::config::Config;
use crate::crash_point;
use crate::event_log::backup::{
    BackupError, Description, RESTORE_UNFINISHED, STAGING, remove_folder, sync_folder,
};
use crate::event_log::{EventLog, OpenError, StoreOptions, keys};

/// Restores a backup into the configured data folder, and returns what to tell. No gateway may run.
/// A log that is there is deleted if `replace` says so.
///
/// # Errors
/// When the folder holds no backup that opens, or the log in place cannot be replaced. Before the files change places,
/// the log in place is what it was.
pub fn restore(config: &Config, folder: &Path, replace: bool) -> Result<String, CommandError> {
    let path = absolute(&config.deduplication.rocksdb_path)?;
    let folder = absolute(folder)?;
    let description = Description::read(&folder)?;
    if !(keys::FORMAT_OLDEST..=keys::FORMAT_VERSION).contains(&description.format) {
        return Err(OpenError::OtherFormat { path: folder, found: description.format }.into());
    }
    if folder.starts_with(&path) {
        return Err(CommandError::Inside { folder, path });
    }
    fs::create_dir_all(&path).map_err(BackupError::file(&path))?;
    let _lock = lock(&path)?;
    let marker = path.join(RESTORE_UNFINISHED);
    let in_place = in_place(&path)?;
    let goes_on = marker.try_exists().map_err(BackupError::file(&marker))?;
    if !in_place.is_empty() && !replace && !goes_on {
        return Err(CommandError::LogInPlace(path));
    }
    let staging = path.join(STAGING);
    let tried = staging.join("restore");
    remove_folder(&staging)?;
    let opened = copy_in(config, &description, &folder, &tried);
    if opened.is_err() {
        remove_folder(&staging)?;
    }
    let (moved, log) = opened?;
    let (id, head, floor) = (log.id(), log.head(), log.floor());
    drop(log);
    let events =
        if head.next() > floor { format!("the events {floor} to {head}") } else { "no events".to_owned() };
    change_places(&folder, &path, &in_place, &tried).map_err(BackupError::file(&path))?;
    Ok(format!(
        "restored the backup {} into {}: {moved}\n\
         The log was {} and is {id} now. It holds {events}; the numbers after {head} are assigned again, to other \
         events. Consumers that keep a cursor of their own and name the log ({}:N) are refused and told; \
         others must start over. The cursors of sinks, of consumers with a name and of followers are those of the backup. The gateway's key is not \
         in it: with another key than before, the gateway does not start on the registry",
        folder.display(),
        path.display(),
        description.log,
        description.log,
    ))
}

/// Copies a backup into a folder and opens it there, which gives it a new identity.
fn copy_in(
    config: &Config,
    description: &Description,
    backup: &Path,
    folder: &Path,
) -> Result<(Moved, Arc<EventLog>), CommandError> {
    fs::create_dir_all(folder).map_err(BackupError::file(folder))?;
    let moved = transfer(description, backup, folder, &reserve(config, folder))?;
    description.write(folder)?;
    crash_point::reached("restore_copied");
    let options = StoreOptions { fsync: config.storage.fsync };
    let opened = EventLog::open(folder, options, TAIL_BYTES).map_err(|error| match error {
        OpenError::Damaged { reason, .. } => BackupError::Damaged { path: backup.to_owned(), reason }.into(),
        error => CommandError::from(error),
    });
    Ok((moved, opened?))
}

/// Deletes what is in place and puts there what was tried. From the first deletion to the end, no
/// log opens.
fn change_places(folder: &Path, path: &Path, in_place: &[String], tried: &Path) -> io::Result<()> {
    let marker = path.join(RESTORE_UNFINISHED);
    let mut file = File::create(&marker)?;
    file.write_all(folder.as_os_str().as_encoded_bytes())?;
    file.sync_all()?;
    sync_folder(path)?;
    crash_point::reached("restore_marked");
    for name in in_place {
        fs::remove_file(path.join(name))?;
        crash_point::reached("restore_deleted");
    }
    for entry in fs::read_dir(tried)? {
        let name = entry?.file_name();
        if name != "LOCK" {
            fs::rename(tried.join(&name), path.join(&name))?;
            crash_point::reached("restore_moved");
        }
    }
    sync_folder(path)?;
    fs::remove_dir_all(path.join(STAGING))?;
    fs::remove_file(&marker)?;
    sync_folder(path)
}

/// The files of the log in place. What a restore or a backup has left is none.
fn in_place(path: &Path) -> Result<Vec<String>, CommandError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(BackupError::file(path))? {
        let name = entry.map_err(BackupError::file(path))?.file_name().to_string_lossy().into_owned();
        match &*name {
            // The last one is in the root of many file systems.
            "LOCK" | STAGING | RESTORE_UNFINISHED | "lost+found" => {}
            file if is_file_of_backup(file) => names.push(name),
            _ => return Err(CommandError::Foreign { path: path.to_owned(), name }),
        }
    }
    Ok(names)
}

/// Takes the lock that RocksDB takes for an open database, until the file is dropped.
fn lock(path: &Path) -> Result<File, CommandError> {
    let name = path.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(BackupError::file(&name))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(OpenError::Locked { path: path.to_owned() }.into()),
        Err(error) => Err(BackupError::file(&name)(error.into()).into()),
    }
}
