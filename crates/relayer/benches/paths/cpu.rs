//! CPU time of this process, all threads.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// User and system time since the process began.
pub fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Microseconds each of `count` things took.
pub fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
