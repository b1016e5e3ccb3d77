//! CPU time of this process, or of some threads.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Fallible;

/// User and system time of all threads since the process started.
pub fn used() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// User and system time of the calling thread.
pub fn used_by_thread() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// User and system time of the current threads whose names satisfy `is_meant`.
pub fn used_by_named(is_meant: impl Fn(&str) -> bool) -> Fallible<Duration> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let folder = thread?.path();
        let name = std::fs::read_to_string(folder.join("comm"))?;
        if is_meant(name.trim_end()) {
            let times = std::fs::read_to_string(folder.join("schedstat"))?;
            let on_cpu = times.split(' ').next().unwrap_or_default();
            sum += Duration::from_nanos(on_cpu.parse()?);
        }
    }
    Ok(sum)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Microseconds per item, for `count` items.
pub fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
