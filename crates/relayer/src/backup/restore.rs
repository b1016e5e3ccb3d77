//! Replaces the log with a backup.
//!
//! The backup is first copied to a staging folder inside the data folder and opened there, so a
//! damaged backup changes nothing. Then the staged files replace the files of the log. A
//! [marker](RESTORE_UNFINISHED) exists during this replacement: no gateway starts then, and only
//! another restore can complete the replacement.

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
use crate::event_log::{EventLog, OpenError, keys};

/// Restores a backup to the configured data folder. No gateway may be running. Deletes an existing
/// log only if `replace` is set. Returns a message for the operator.
///
/// # Errors
/// When the backup cannot be opened, or the existing log cannot be replaced. Until the files are
/// replaced, the existing log is unchanged.
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
    let is_unfinished = marker.try_exists().map_err(BackupError::file(&marker))?;
    if !in_place.is_empty() && !replace && !is_unfinished {
        return Err(CommandError::LogInPlace(path));
    }
    let staging = path.join(STAGING);
    let staged = staging.join("restore");
    remove_folder(&staging)?;
    let opened = copy_in(config, &description, &folder, &staged);
    if opened.is_err() {
        remove_folder(&staging)?;
    }
    let (moved, log) = opened?;
    let (id, head, floor) = (log.id(), log.head(), log.floor());
    drop(log);
    let events =
        if head.next() > floor { format!("the events {floor} to {head}") } else { "no events".to_owned() };
    replace_files(&folder, &path, &in_place, &staged).map_err(BackupError::file(&path))?;
    Ok(format!(
        "restored the backup {} into {}: {moved}\n\
         The log was {} and is {id} now. It contains {events}; the numbers after {head} are assigned again, to other \
         events. Consumers that keep their own cursor are refused with an explanation if the cursor names the log \
         ({}:N); others must start over. The cursors of sinks, named consumers and followers are those of the backup. \
         The gateway's key is not in the backup: with another key, the gateway does not start on this registry",
        folder.display(),
        path.display(),
        description.log,
        description.log,
    ))
}

/// Copies a backup to a folder and opens the copy as a log, which gives it a new identity.
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
    let options = config.storage.store_options();
    let opened = EventLog::open(folder, options, TAIL_BYTES).map_err(|error| match error {
        OpenError::Damaged { reason, .. } => BackupError::Damaged { path: backup.to_owned(), reason }.into(),
        error => CommandError::from(error),
    });
    Ok((moved, opened?))
}

/// Deletes the current files and moves the staged files to their place. The log cannot be opened
/// until all files are moved.
fn replace_files(folder: &Path, path: &Path, in_place: &[String], staged: &Path) -> io::Result<()> {
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
    for entry in fs::read_dir(staged)? {
        let name = entry?.file_name();
        if name != "LOCK" {
            fs::rename(staged.join(&name), path.join(&name))?;
            crash_point::reached("restore_moved");
        }
    }
    sync_folder(path)?;
    fs::remove_dir_all(path.join(STAGING))?;
    fs::remove_file(&marker)?;
    sync_folder(path)
}

/// Lists the current files of the log. Leaves out what restores and backups left behind.
fn in_place(path: &Path) -> Result<Vec<String>, CommandError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(BackupError::file(path))? {
        let name = entry.map_err(BackupError::file(path))?.file_name().to_string_lossy().into_owned();
        match &*name {
            // Many file systems have `lost+found` in their root folder.
            "LOCK" | STAGING | RESTORE_UNFINISHED | "lost+found" => {}
            file if is_file_of_backup(file) => names.push(name),
            _ => return Err(CommandError::Foreign { path: path.to_owned(), name }),
        }
    }
    Ok(names)
}

/// Takes RocksDB's lock on the database. The lock is held until the file is dropped.
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
