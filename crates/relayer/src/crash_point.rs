//! Named places at which tests make a debug build fail.
//!
//! `MOLTRADE_CRASH_POINT=before_commit:37` aborts the process when `before_commit` is reached for
//! the 37th time; `before_commit:37:panic` panics there, and `before_commit:37:hang` blocks
//! forever. Commas separate several crash points. Release builds have no crash points.

/// Fails here if `MOLTRADE_CRASH_POINT` says so.
#[cfg(debug_assertions)]
pub fn reached(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Point {
        name: String,
        times: AtomicU64,
        action: String,
    }

    fn point(setting: &str) -> Option<Point> {
        let mut parts = setting.split(':').map(str::to_owned);
        let (name, times) = (parts.next()?, parts.next()?.parse().ok()?);
        Some(Point { name, times: AtomicU64::new(times), action: parts.next().unwrap_or_default() })
    }

    static POINTS: LazyLock<Vec<Point>> = LazyLock::new(|| {
        let setting = std::env::var("MOLTRADE_CRASH_POINT").unwrap_or_default();
        setting.split(',').filter_map(point).collect()
    });
    for point in POINTS.iter().filter(|point| point.name == name) {
        if point.times.fetch_sub(1, Ordering::Relaxed) != 1 {
            continue;
        }
        match &*point.action {
            #[expect(clippy::panic, reason = "a test asked for it")]
            "panic" => panic!("the crash point {name} was reached"),
            "hang" => loop {
                std::thread::park();
            },
            _ => std::process::abort(),
        }
    }
}

/// Does nothing: release builds have no crash points.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_: &str) {}
