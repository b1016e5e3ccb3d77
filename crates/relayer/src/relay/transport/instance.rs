//! Recognises the gateway itself when a relay's URL leads back to it.

use std::fmt;

/// A random id of this process, sent with every request to a relay in the header
/// [`HEADER`](Self::HEADER). Our server refuses a request that carries the server's own id: `508
/// Loop Detected`. Other relay software may do the same.
///
/// Each start has a new id, which reveals nothing about the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstanceId(u128);

impl InstanceId {
    /// The header that carries the id, in requests and in the server's answers.
    pub const HEADER: &str = "Relayer-Instance";

    /// `508 Loop Detected` (RFC 5842), the status for a request that comes from the server itself.
    pub(crate) const REFUSAL: u16 = 508;

    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Whether the value of a header is this id, ignoring surrounding spaces and the case of the
    /// digits.
    pub fn is(self, header: &[u8]) -> bool {
        header.trim_ascii().eq_ignore_ascii_case(self.to_string().as_bytes())
    }
}

/// The form that is sent: 32 hexadecimal digits.
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_equals_only_itself() {
        let id = InstanceId(0xabc);
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert!(id.is(b"00000000000000000000000000000abc"));
        assert!(id.is(b" 00000000000000000000000000000ABC "));
        for other in [&b""[..], b"abc", b"00000000000000000000000000000abd", &[0xff; 32]] {
            assert!(!id.is(other));
        }
        assert!(!InstanceId::random().is(InstanceId::random().to_string().as_bytes()));
    }
}
