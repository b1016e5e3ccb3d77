//! CPU time of this process, or of one thread.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// User and system time of all threads since the process began.
pub fn used() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// User and system time of the calling thread.
pub fn used_by_thread() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Microseconds each of `count` things took.
pub fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
