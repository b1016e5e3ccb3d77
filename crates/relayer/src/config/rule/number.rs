//! Whole numbers: counts, sizes, spans of time, ports, kinds.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Mismatch, Rule};
use crate::config::raw::{Kind, Raw, Shape};

/// A whole number within bounds, kept as `T`.
pub struct Whole<T> {
    range: RangeInclusive<u64>,
    /// Whether 0 is allowed too, with a meaning of its own.
    or_zero: bool,
    unit: &'static str,
    read: fn(u64) -> Option<T>,
    show: fn(&T) -> u64,
}

impl<T> Rule for Whole<T> {
    type Value = T;

    fn read(&self, raw: &Raw) -> Result<T, Vec<Mismatch>> {
        let Kind::Integer(Some(number), _) = &raw.kind else { return self.mismatch(raw) };
        u64::try_from(*number)
            .ok()
            .filter(|number| self.range.contains(number) || (self.or_zero && *number == 0))
            .and_then(self.read)
            .map_or_else(|| self.mismatch(raw), Ok)
    }

    fn show(&self, value: &T) -> Option<String> {
        Some((self.show)(value).to_string())
    }

    fn allowed(&self) -> String {
        let zero = if self.or_zero { "0, or " } else { "" };
        format!("{zero}a whole number{} from {} to {}", self.unit, self.range.start(), self.range.end())
    }

    fn shape(&self) -> Shape {
        Shape::Plain
    }
}

/// How many; never none.
pub fn count(range: RangeInclusive<u64>) -> Whole<NonZeroUsize> {
    Whole {
        range,
        or_zero: false,
        unit: "",
        read: |n| usize::try_from(n).ok().and_then(NonZeroUsize::new),
        show: |n| n.get() as u64,
    }
}

/// How many at most of what is kept in memory, 0 for as many as there are.
pub fn count_or_none(range: RangeInclusive<u64>) -> Whole<Option<NonZeroUsize>> {
    Whole {
        range,
        or_zero: true,
        unit: "",
        read: |n| usize::try_from(n).ok().map(NonZeroUsize::new),
        show: |n| n.map_or(0, |n| n.get() as u64),
    }
}

/// How many events.
pub fn events(range: RangeInclusive<u64>) -> Whole<u64> {
    Whole { range, or_zero: false, unit: " of events", read: Some, show: |n| *n }
}

/// How many at most, 0 for as many as there are.
pub fn number_or_none(range: RangeInclusive<u64>) -> Whole<Option<NonZeroU32>> {
    Whole {
        range,
        or_zero: true,
        unit: "",
        read: |n| u32::try_from(n).ok().map(NonZeroU32::new),
        show: |n| n.map_or(0, |n| u64::from(n.get())),
    }
}

/// A size that is held in memory.
pub fn bytes(range: RangeInclusive<u64>) -> Whole<usize> {
    Whole { range, or_zero: false, unit: " of bytes", read: |n| usize::try_from(n).ok(), show: |n| *n as u64 }
}

/// A size on disk.
pub fn disk_bytes(range: RangeInclusive<u64>) -> Whole<u64> {
    Whole { range, or_zero: false, unit: " of bytes", read: Some, show: |n| *n }
}

/// A size on disk, 0 for none.
pub fn disk_bytes_or_none(range: RangeInclusive<u64>) -> Whole<Option<NonZeroU64>> {
    let show = |n: &Option<NonZeroU64>| n.map_or(0, NonZeroU64::get);
    Whole { range, or_zero: true, unit: " of bytes", read: |n| Some(NonZeroU64::new(n)), show }
}

/// A span of seconds.
pub fn seconds(range: RangeInclusive<u64>) -> Whole<Duration> {
    Whole {
        range,
        or_zero: false,
        unit: " of seconds",
        read: |n| Some(Duration::from_secs(n)),
        show: Duration::as_secs,
    }
}

/// A span of seconds, 0 for none.
pub fn seconds_or_none(max: u64) -> Whole<Option<Duration>> {
    Whole {
        range: 1..=max,
        or_zero: true,
        unit: " of seconds",
        read: |n| Some((n > 0).then_some(Duration::from_secs(n))),
        show: |span| span.map_or(0, |span| span.as_secs()),
    }
}

/// A span of milliseconds.
pub fn milliseconds(range: RangeInclusive<u64>) -> Whole<Duration> {
    Whole {
        range,
        or_zero: false,
        unit: " of milliseconds",
        read: |n| Some(Duration::from_millis(n)),
        show: |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A span of hours.
pub fn hours(range: RangeInclusive<u64>) -> Whole<Duration> {
    Whole {
        range,
        or_zero: false,
        unit: " of hours",
        read: |n| n.checked_mul(3600).map(Duration::from_secs),
        show: |span| span.as_secs() / 3600,
    }
}

/// A span of hours, 0 for none.
pub fn hours_or_none(max: u64) -> Whole<Option<Duration>> {
    Whole {
        range: 1..=max,
        or_zero: true,
        unit: " of hours",
        read: |n| Some((n > 0).then_some(Duration::from_secs(n.checked_mul(3600)?))),
        show: |span| span.map_or(0, |span| span.as_secs() / 3600),
    }
}

/// A TCP port, 0 for one that the system picks.
pub fn port() -> Whole<u16> {
    Whole {
        range: 0..=65_535,
        or_zero: false,
        unit: "",
        read: |n| u16::try_from(n).ok(),
        show: |port| u64::from(*port),
    }
}

/// A TCP port, 0 for none.
pub fn port_or_none() -> Whole<Option<NonZeroU16>> {
    Whole {
        range: 1..=65_535,
        or_zero: true,
        unit: "",
        read: |n| u16::try_from(n).ok().map(NonZeroU16::new),
        show: |port| port.map_or(0, |port| u64::from(port.get())),
    }
}

/// An event kind (NIP-01).
pub fn kind() -> Whole<u16> {
    port()
}
