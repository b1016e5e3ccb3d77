//! Log lines, and what metrics are declared with.

pub mod log_buffer;
pub mod metrics;
pub mod tracing;

/// Resident memory of the process in bytes, on Linux.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
