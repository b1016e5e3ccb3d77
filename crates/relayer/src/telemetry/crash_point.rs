//! Named places at which a debug build can be told to die, so that tests can crash it where it hurts.
//!
//! `MOLTRADE_CRASH_POINT=before_commit:37` aborts the process when `before_commit` is reached for the
//! 37th time. Release builds have no crash points.

/// Dies here if the environment says so.
#[cfg(debug_assertions)]
pub fn reached(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let setting = std::env::var("MOLTRADE_CRASH_POINT").ok()?;
        let (name, times) = setting.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    if let Some((wanted, times)) = &*WANTED
        && wanted == name
        && times.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Does nothing: release builds have no crash points.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_: &str) {}
