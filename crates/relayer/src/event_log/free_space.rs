//! The free space of the disk. Every write that adds data first checks the free space: once RocksDB
//! has met a full disk, it refuses all writes until it is reopened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
/// Clones share the limit.
#[derive(Debug, Clone)]
pub struct Reserve {
    pub free_space: FreeSpace,
    bytes_min: Arc<AtomicU64>,
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
    /// `bytes_min` bytes must stay free.
    pub fn new(free_space: FreeSpace, bytes_min: u64) -> Self {
        Self { free_space, bytes_min: Arc::new(AtomicU64::new(bytes_min)) }
    }

    /// No reserve: every write passes.
    pub fn none() -> Self {
        Self::new(FreeSpace::from_fn(|| Ok(u64::MAX)), 0)
    }

    /// The bytes that must stay free.
    pub fn bytes_min(&self) -> u64 {
        self.bytes_min.load(Ordering::Relaxed)
    }

    pub(crate) fn set_bytes_min(&self, bytes_min: u64) {
        self.bytes_min.store(bytes_min, Ordering::Relaxed);
    }

    /// Checks whether `bytes` can be written. Passes if the file system cannot be queried.
    ///
    /// # Errors
    /// When the disk is too full.
    pub fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let Ok(free) = self.free_space.bytes() else { return Ok(()) };
        let min_free_bytes = self.bytes_min();
        if free < bytes.saturating_add(min_free_bytes) {
            return Err(NoRoom { free, bytes, min_free_bytes });
        }
        Ok(())
    }
}

impl fmt::Debug for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeSpace({:?})", self.bytes())
    }
}
