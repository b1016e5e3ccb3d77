//! The identity of a log. A new identity tells consumers that sequence numbers now mean other
//! events.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A random number that is stored in the log. Restoring a backup replaces the number, because the
/// gateway then assigns the sequence numbers after the backup again, to other events.
///
/// 64 random bits are enough: an identity must only differ from the few other identities that a
/// consumer sees.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(u64);

impl LogId {
    /// The header with the identity, in responses of the API and in requests to HTTP sinks.
    pub const HEADER: &str = "Relayer-Log";

    const DIGITS: usize = 16;

    /// A new identity.
    pub fn random() -> Self {
        Self(rand::random())
    }

    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) const fn to_number(self) -> u64 {
        self.0
    }
}

/// The written form: 16 lower-case hexadecimal digits.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// The error for a text that is not the written form of a [`LogId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log's identity has 16 lower-case hexadecimal digits")]
pub struct NotALogId;

impl FromStr for LogId {
    type Err = NotALogId;

    fn from_str(text: &str) -> Result<Self, NotALogId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != Self::DIGITS || !text.bytes().all(is_digit) {
            return Err(NotALogId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotALogId)
    }
}

impl Serialize for LogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_reads_back() {
        for number in [0, 0xabc, u64::MAX, rand::random()] {
            let id = LogId::from_number(number);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(LogId::from_number(0xabc).to_string(), "0000000000000abc");
        for text in
            ["", "abc", "0000000000000ABC", "+000000000000abc", "00000000000000abc", "000000000000abcg", "é"]
        {
            assert_eq!(text.parse::<LogId>(), Err(NotALogId), "{text}");
        }
    }
}
