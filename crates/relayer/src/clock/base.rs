//! The base of a wall-clock time: the difference between the wall clock and the time since boot.
//! The base changes when the clock is set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::unix_ms;
use crate::limits::CLOCK_STEP_MIN;

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Unix milliseconds.
    pub(crate) wall_ms: u64,
    /// The time since boot, which cannot be set.
    pub(crate) since_boot: Duration,
}

/// If reading both clocks takes longer, both are read again: a pause between the two reads would
/// look like a step.
const READING_MAX: Duration = Duration::from_millis(50);
const READINGS_MAX: u32 = 20;

impl Reading {
    pub fn system() -> Self {
        for _ in 0..READINGS_MAX {
            let before = since_boot();
            let wall_ms = unix_ms();
            let after = since_boot();
            if after.saturating_sub(before) <= READING_MAX {
                return Self { wall_ms, since_boot: after };
            }
        }
        Self { wall_ms: unix_ms(), since_boot: since_boot() }
    }

    pub fn base(self, boot: u64) -> Base {
        let since_boot = i64::try_from(self.since_boot.as_millis()).unwrap_or(i64::MAX);
        let wall_ms = i64::try_from(self.wall_ms).unwrap_or(i64::MAX);
        Base { boot, wall_at_boot_ms: wall_ms.saturating_sub(since_boot) }
    }
}

/// A setting of the wall clock. Times with the same base can be subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    boot: u64,
    /// The wall clock's time at boot, in Unix milliseconds.
    wall_at_boot_ms: i64,
}

impl Base {
    /// Whether the clock was not set between these two bases.
    pub fn is_same(self, other: Self) -> bool {
        let apart = self.wall_at_boot_ms.abs_diff(other.wall_at_boot_ms);
        self.boot == other.boot && u128::from(apart) < CLOCK_STEP_MIN.as_millis()
    }

    /// How many milliseconds this base is ahead of `other`.
    pub(crate) const fn ahead_of(self, other: Self) -> i64 {
        self.wall_at_boot_ms.saturating_sub(other.wall_at_boot_ms)
    }
}

/// Identifies the current boot. Where the system has no boot id, each process gets a random id.
pub(super) fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let digits: Option<String> = id.map(|id| id.chars().filter(char::is_ascii_hexdigit).take(16).collect());
    digits.and_then(|digits| u64::from_str_radix(&digits, 16).ok()).unwrap_or_else(rand::random)
}

/// The time since boot, including time in suspend, which the wall clock also includes.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static FIRST: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    FIRST.elapsed()
}
