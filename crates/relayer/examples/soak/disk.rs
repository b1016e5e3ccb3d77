//! A small file system in memory that a test can fill. Mounting requires root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::Outcome;

/// A mounted tmpfs. Dropping this value unmounts the tmpfs.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub fn mount(folder: &Path, mebibytes: u64) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "soak"]).arg(folder);
        let status = mount.status().context("`mount` does not start")?;
        anyhow::ensure!(status.success(), "cannot mount a tmpfs: run as root, or with --no-mounts");
        Ok(Self { folder: folder.to_owned() })
    }

    /// The file that fills the disk.
    pub fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

/// Fills a disk by writing the filler file.
pub fn fill(filler: &Path) -> Outcome<()> {
    let block = vec![0; 64 << 10];
    let mut file = File::create(filler)?;
    loop {
        match file.write(&block) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The unmount is lazy, because the gateway may still be shutting down.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.folder.display());
        }
    }
}
