//! How much room the disk has. The writer asks before each batch, so that RocksDB never meets a full
//! disk, after which it would take no more writes until it is opened again.

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

impl fmt::Debug for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeSpace({:?})", self.bytes())
    }
}
