//! Logging, and the tools for declaring metrics.

pub mod log_buffer;
pub mod metrics;
pub mod tracing;

/// The resident memory of the process in bytes; `None` if it is unknown, as on systems other than
/// Linux.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
