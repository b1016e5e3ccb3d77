//! Transfers the files of a backup from one folder to another. SST files never change and are
//! hard-linked where possible; all other files are copied.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::CommandError;
use crate::crash_point;
use crate::event_log::backup::{BackupError, DESCRIPTION, Description, is_file_of_log, sync_folder};
use crate::event_log::free_space::Reserve;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    files: usize,
    bytes: u64,
    linked: usize,
    copied_bytes: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, linked, copied_bytes } = self;
        write!(f, "{files} files of {} in all, {linked} of them hard links", Bytes(*bytes))?;
        write!(f, ", {} copied", Bytes(*copied_bytes))
    }
}

/// Displays a number of bytes with a readable unit.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_000 => write!(f, "{bytes} bytes"),
            bytes @ 10_000..10_000_000 => write!(f, "{} KB", bytes / 1_000),
            bytes => write!(f, "{} MB", bytes / 1_000_000),
        }
    }
}

/// Whether this is the name of a file in a backup folder.
pub(super) fn is_file_of_backup(name: &str) -> bool {
    is_file_of_log(name) || name.strip_suffix(".new").unwrap_or(name) == DESCRIPTION
}

/// Transfers the described files to an existing empty folder and syncs the folder.
pub(super) fn transfer(
    description: &Description,
    from: &Path,
    to: &Path,
    reserve: &Reserve,
) -> Result<Moved, CommandError> {
    let device =
        |folder: &Path| fs::metadata(folder).map(|found| found.dev()).map_err(BackupError::file(folder));
    let same_device = device(from)? == device(to)?;
    let is_linked = |name: &str| same_device && name.ends_with(".sst");
    let to_copy = description.files.iter().filter(|(name, _)| !is_linked(name)).map(|(_, bytes)| *bytes);
    reserve.check(to_copy.fold(0, u64::saturating_add))?;
    let total = description.bytes();
    let (mut moved, mut shown) = (Moved::default(), Instant::now());
    for (name, bytes) in &description.files {
        let (source, target) = (from.join(name), to.join(name));
        // The system may forbid links to other users' files.
        if is_linked(name) && fs::hard_link(&source, &target).is_ok() {
            moved.linked += 1;
        } else {
            reserve.check(*bytes)?;
            copy(&source, &target).map_err(BackupError::file(&target))?;
            moved.copied_bytes += bytes;
        }
        moved.files += 1;
        moved.bytes += bytes;
        crash_point::reached("backup_file");
        if shown.elapsed() >= PROGRESS_INTERVAL {
            // Standard error may be closed.
            let _ = writeln!(io::stderr(), "{} of {}", Bytes(moved.bytes), Bytes(total));
            shown = Instant::now();
        }
    }
    sync_folder(to).map_err(BackupError::file(to))?;
    Ok(moved)
}

fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let mut copy = File::create_new(target)?;
    io::copy(&mut File::open(source)?, &mut copy)?;
    copy.sync_all()
}
