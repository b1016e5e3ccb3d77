//! The memory of the process, as Linux counts it.

use std::fs::read_to_string;
use std::path::Path;

/// The resident memory of the process in bytes.
#[derive(Debug, Clone, Copy)]
pub struct ResidentMemory {
    pub total: u64,
    /// Pages of files: the program and its libraries. The kernel can drop them.
    pub of_files: u64,
}

impl ResidentMemory {
    /// `None` if it is unknown, as on systems other than Linux.
    pub fn now() -> Option<Self> {
        Self::parse(&read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let total = kib_of("VmRSS:", status)?;
        let of_files = kib_of("RssFile:", status)?.checked_add(kib_of("RssShmem:", status)?)?;
        Some(Self { total, of_files })
    }
}

/// See [`ResidentMemory::total`].
pub fn resident_bytes() -> Option<u64> {
    ResidentMemory::now().map(|memory| memory.total)
}

/// The bytes that the process may use: the limit of its control group, or else the memory of the
/// machine. `None` if they are unknown.
pub(crate) fn memory_limit_bytes() -> Option<u64> {
    let machine = kib_of("MemTotal:", &read_to_string("/proc/meminfo").ok()?)?;
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    // The line of version 2; a parent may have a lower limit.
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limits = Path::new(group).ancestors().filter_map(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
        // The text "max" means that there is no limit.
        read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.chain([machine]).min()
}

/// The bytes in a line such as `VmRSS:  1024 kB`.
fn kib_of(name: &str, text: &str) -> Option<u64> {
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_read() {
        let status = "Name:\tx\nVmRSS:\t    100 kB\nRssAnon:\t      60 kB\nRssFile:\t      30 kB\nRssShmem:\t      10 kB\n";
        let memory = ResidentMemory::parse(status).unwrap();
        assert_eq!((memory.total, memory.of_files), (102_400, 40_960));
        assert!(ResidentMemory::parse("VmRSS:\t lots kB\n").is_none());
    }

    #[test]
    fn this_process_has_memory_and_a_limit() {
        let memory = ResidentMemory::now().unwrap();
        assert!(memory.of_files > 0 && memory.of_files < memory.total, "{memory:?}");
        assert!(memory_limit_bytes().unwrap() >= memory.total);
    }
}
