//! The free space of the disk. Every write that adds data first checks the free space: once RocksDB
//! has met a full disk, it refuses all writes until it is reopened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Reads the bytes that are free for an unprivileged process. Tests replace this function.
#[derive(Clone)]
pub struct FreeSpace(Arc<dyn Fn() -> io::Result<u64> + Send + Sync>);

impl FreeSpace {
    /// The free space of the file system that holds `path`.
    pub fn of(path: PathBuf) -> Self {
        Self::from_fn(move || {
            let figures = rustix::fs::statvfs(&path)?;
            Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
        })
    }

    /// Lets a test decide how much space is free.
    pub fn from_fn(bytes: impl Fn() -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// The bytes that are free.
    ///
    /// # Errors
    /// When the file system cannot be queried.
    pub fn bytes(&self) -> io::Result<u64> {
        (self.0)()
    }
}

/// The space that must stay free on a disk, because RocksDB needs the space to flush its memory.
#[derive(Debug, Clone)]
pub struct Reserve {
    pub free_space: FreeSpace,
    /// The bytes that must stay free.
    pub bytes_min: u64,
}

/// The disk is too full for a write.
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
    /// No reserve: every write passes.
    pub fn none() -> Self {
        Self { free_space: FreeSpace::from_fn(|| Ok(u64::MAX)), bytes_min: 0 }
    }

    /// Checks whether `bytes` can be written. Passes if the file system cannot be queried.
    ///
    /// # Errors
    /// When the disk is too full.
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
