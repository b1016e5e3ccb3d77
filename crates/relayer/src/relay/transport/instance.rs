//! How the gateway recognises itself, when a relay's URL leads back to it.

use std::fmt;

/// A random number of this process. The gateway sends it with every request to a relay, in the header
/// [`HEADER`](Self::HEADER); its own server, and any relay software that does likewise, refuses a request
/// that carries its own number with `508 Loop Detected`.
///
/// The number is new with every start, and says nothing about the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstanceId(u128);

impl InstanceId {
    /// The header that carries the id, in requests and in the server's answers.
    pub const HEADER: &str = "Relayer-Instance";

    /// `508 Loop Detected` (RFC 5842): the status with which a server refuses a request of its own.
    pub const REFUSAL: u16 = 508;

    /// A new one, which no other process has.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Whether the value of a header is this id. Spaces around it and the case of its digits do not matter.
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
    fn an_id_knows_itself_and_nobody_else() {
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
