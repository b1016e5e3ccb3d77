//! Whole numbers: counts, sizes, durations, ports, kinds.

use std::marker::PhantomData;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::{Mismatch, Rule};
use crate::config::value::Raw;

/// A whole number within bounds, stored as `T`.
pub struct Whole<T> {
    range: RangeInclusive<u64>,
    unit: &'static str,
    /// The value of one unit in `T`'s own unit, which is a millisecond for durations.
    factor: u64,
    stored_as: PhantomData<fn() -> T>,
}

/// A type that stores a whole number.
pub trait Number: Sized {
    /// Whether 0 is allowed outside of the bounds and means `None`.
    const ZERO_IS_NONE: bool = false;

    fn from_u64(number: u64) -> Option<Self>;

    fn to_u64(&self) -> u64;
}

macro_rules! numbers {
    ($($plain:ty)*) => { $(
        impl Number for $plain {
            fn from_u64(number: u64) -> Option<Self> {
                number.try_into().ok()
            }

            fn to_u64(&self) -> u64 {
                *self as u64
            }
        }

        impl Number for NonZero<$plain> {
            fn from_u64(number: u64) -> Option<Self> {
                Self::new(number.try_into().ok()?)
            }

            fn to_u64(&self) -> u64 {
                self.get() as u64
            }
        }
    )* };
}
numbers!(u16 u32 u64 usize);

impl Number for Duration {
    fn from_u64(number: u64) -> Option<Self> {
        Some(Self::from_millis(number))
    }

    fn to_u64(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

impl<N: Number> Number for Option<N> {
    const ZERO_IS_NONE: bool = true;

    fn from_u64(number: u64) -> Option<Self> {
        if number == 0 { Some(None) } else { N::from_u64(number).map(Some) }
    }

    fn to_u64(&self) -> u64 {
        self.as_ref().map_or(0, N::to_u64)
    }
}

impl<T: Number> Rule for Whole<T> {
    type Value = T;

    fn read(&self, raw: &Raw<'_>) -> Result<T, Vec<Mismatch>> {
        let DeValue::Integer(written) = raw.get_ref() else { return self.mismatch(raw) };
        i128::from_str_radix(written.as_str(), written.radix())
            .ok()
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| self.range.contains(number) || (T::ZERO_IS_NONE && *number == 0))
            .and_then(|number| T::from_u64(number.checked_mul(self.factor)?))
            .map_or_else(|| self.mismatch(raw), Ok)
    }

    fn show(&self, value: &T) -> Option<String> {
        value.to_u64().checked_div(self.factor).map(|number| number.to_string())
    }

    fn allowed(&self) -> String {
        let zero = if T::ZERO_IS_NONE { "0, or " } else { "" };
        format!("{zero}a whole number{} from {} to {}", self.unit, self.range.start(), self.range.end())
    }
}

const fn of_unit<T>(range: RangeInclusive<u64>, unit: &'static str, factor: u64) -> Whole<T> {
    Whole { range, unit, factor, stored_as: PhantomData }
}

pub const fn whole<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, "", 1)
}

pub const fn events<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, " of events", 1)
}

pub const fn bytes<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, " of bytes", 1)
}

pub const fn milliseconds<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, " of milliseconds", 1)
}

pub const fn seconds<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, " of seconds", 1_000)
}

pub const fn hours<T>(range: RangeInclusive<u64>) -> Whole<T> {
    of_unit(range, " of hours", 3_600_000)
}

/// An event kind (NIP-01).
pub const fn kind() -> Whole<u16> {
    whole(0..=65_535)
}
