//! How much room the disk has. Every write that adds something asks first, so that RocksDB never
//! meets a full disk, after which it would take no more writes until it is opened again.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Tells the bytes that are free for an unprivileged process. Tests put their own disk in its place.
#[derive(Clone)]
pub struct FreeSpace(Arc<dyn Fn() -> io::Result<u64> + Send + Sync>);

impl FreeSpace {
    /// Of the file system that holds `path`.
    pub fn of(path: PathBuf) -> Self {
        Self::from_fn(move || {
            let figures = rustix::fs::statvfs(&path)?;
            Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
        })
    }

    /// Whatever the function says.
    pub fn from_fn(bytes: impl Fn() -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// The bytes that are free.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn bytes(&self) -> io::Result<u64> {
        (self.0)()
    }
}

/// What must stay free on a disk, besides what is about to be written: RocksDB needs it to write
/// down what it holds in memory.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// The disk.
    pub free_space: FreeSpace,
    /// The bytes that must stay free.
    pub bytes_min: u64,
}

/// The disk has too little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {free} bytes free, and {needed} are needed: {bytes} to write, and {min_free_bytes} that must stay free \
     ([storage] min_free_bytes); make room", needed = bytes.saturating_add(*min_free_bytes)
)]
pub struct NoRoom {
    /// The bytes that are free.
    pub free: u64,
    /// The bytes to write.
    pub bytes: u64,
    /// The bytes that must stay free.
    pub min_free_bytes: u64,
}

impl Reserve {
    /// Whatever the disk says, there is room.
    pub fn none() -> Self {
        Self { free_space: FreeSpace::from_fn(|| Ok(u64::MAX)), bytes_min: 0 }
    }

    /// Whether so many bytes can be written. If the file system does not tell, the write shows it.
    ///
    /// # Errors
    /// When there is too little room.
    pub fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let Ok(free) = self.free_space.bytes() else { return Ok(()) };
        if free < bytes.saturating_add(self.bytes_min) {
            return Err(NoRoom { free, bytes, min_free_bytes: self.bytes_min });
        }
        Ok(())
    }
}

impl fmt::Debug for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeSpace({:?})", self.bytes())
    }
}
