//! The fixed-size values of NIP-01 and their lower-case hex form.
//!
//! [`ClaimedId`] and [`EventId`] hold the same 32 bytes but make different promises: the first was
//! received, the second was recomputed from the event's content.

use std::fmt;

use secp256k1::XOnlyPublicKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not one of this module's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hex digits")]
pub struct HexError {
    /// The expected number of digits.
    pub expected: usize,
}

/// Decodes exactly `2 * N` lower-case hex digits.
fn decode<const N: usize>(hex: &[u8]) -> Result<[u8; N], HexError> {
    let mut bytes = [0; N];
    let malformed = HexError { expected: 2 * N };
    // Without an early exit, the compiler processes many digits at once.
    let upper = hex.iter().fold(false, |upper, digit| upper | digit.is_ascii_uppercase());
    if hex.len() != 2 * N || upper {
        return Err(malformed);
    }
    faster_hex::hex_decode(hex, &mut bytes).map_err(|_| malformed)?;
    Ok(bytes)
}

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Appends the lower-case hex form.
            pub fn write_hex(&self, out: &mut Vec<u8>) {
                let mut hex = [0; 2 * $bytes];
                out.extend_from_slice(self.hex(&mut hex).as_bytes());
            }

            fn hex<'a>(&self, buffer: &'a mut [u8; 2 * $bytes]) -> &'a str {
                // The buffer has exactly the length that the encoder requires.
                faster_hex::hex_encode(&self.0, buffer).map_or("", |hex| &*hex)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.hex(&mut [0; 2 * $bytes]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.hex(&mut [0; 2 * $bytes]))
            }
        }
    };
}

/// Constructors for values that need no verification.
macro_rules! readable {
    ($name:ident) => {
        impl $name {
            pub const fn from_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
                Self(bytes)
            }

            /// Reads the lower-case hex form.
            ///
            /// # Errors
            /// When the length is wrong or a byte is not a lower-case hex digit.
            pub fn from_hex(hex: &[u8]) -> Result<Self, HexError> {
                decode(hex).map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = HexError;

            fn from_str(hex: &str) -> Result<Self, HexError> {
                Self::from_hex(hex.as_bytes())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Hex;
                impl de::Visitor<'_> for Hex {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} lower-case hex digits", 2 * size_of::<$name>())
                    }

                    fn visit_str<E: de::Error>(self, hex: &str) -> Result<$name, E> {
                        $name::from_hex(hex.as_bytes()).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Hex)
            }
        }
    };
}

hex_bytes!(
    /// An event id as claimed: nothing is known about the event yet.
    ClaimedId,
    32
);
readable!(ClaimedId);

hex_bytes!(
    /// The id of a verified event: the SHA-256 of its NIP-01 serialisation.
    EventId,
    32
);

hex_bytes!(
    /// A BIP-340 x-only public key, not necessarily on the curve.
    PublicKey,
    32
);
readable!(PublicKey);

hex_bytes!(
    /// A BIP-340 signature.
    Signature,
    64
);
readable!(Signature);

impl PublicKey {
    /// Whether the key is a point of secp256k1, so that a secret key for it can exist. Takes about
    /// 5 us.
    pub fn is_on_curve(&self) -> bool {
        XOnlyPublicKey::from_slice(&self.0).is_ok()
    }
}

impl EventId {
    /// Called by `verify` and `sign`, which have computed the id, and for text that this crate
    /// wrote.
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<EventId> for ClaimedId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl PartialEq<ClaimedId> for EventId {
    fn eq(&self, claimed: &ClaimedId) -> bool {
        self.0 == claimed.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_numbers_are_no_points() {
        assert!(crate::Signer::from_seed(1).pubkey().is_on_curve());
        for off in [[0; 32], [0xff; 32], [5; 32]] {
            assert!(!PublicKey::from_bytes(off).is_on_curve(), "{off:02x?}");
        }
    }

    #[test]
    fn hex_is_lower_case_and_exact() {
        let lower = "0f".repeat(32);
        let id: ClaimedId = lower.parse().expect("valid");
        assert_eq!(id.to_string(), lower);
        for wrong in ["0F".repeat(32), "0f".repeat(31), "0f".repeat(33), "zz".repeat(32), String::new()] {
            assert!(wrong.parse::<ClaimedId>().is_err(), "{wrong}");
        }
    }
}
