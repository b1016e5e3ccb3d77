//! Parses keys in hex or in bech32 (NIP-19), with errors that people can read.

use nostr::key;
use nostr::nips::nip19::{FromBech32, ToBech32};
use wire::PublicKey;
use zeroize::Zeroizing;

/// Why a text is not a key. The error does not quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKey(pub(crate) &'static str);

/// Parses a secret key: 64 hex digits or `nsec1…`. Does not check whether hex digits are a valid
/// key of secp256k1.
///
/// # Errors
/// When the text has neither form.
pub fn secret_key(text: &str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    match prefix(text).as_deref() {
        None => hex(text, InvalidKey("it neither has 64 digits nor begins with nsec1")).map(Zeroizing::new),
        Some("nsec") => decode(text).map(|key: key::SecretKey| Zeroizing::new(key.to_secret_bytes())),
        Some("npub") => Err(InvalidKey("it is a public key; the secret one begins with nsec1")),
        Some("ncryptsec") => Err(InvalidKey("it is encrypted (NIP-49); decrypt it first")),
        Some(_) => Err(InvalidKey("it does not begin with nsec1")),
    }
}

/// Parses a public key: 64 hex digits or `npub1…`. The key must be a point of secp256k1.
///
/// # Errors
/// When the text is not a public key.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, InvalidKey> {
    let bytes = match prefix(text).as_deref() {
        None => hex(text, InvalidKey("it neither has 64 hex digits nor begins with npub1"))?,
        Some("npub") => decode(text).map(key::PublicKey::to_bytes)?,
        Some("nsec") => {
            return Err(InvalidKey(
                "it is a secret key, which nobody else should see; the public one begins with npub1",
            ));
        }
        Some(_) => return Err(InvalidKey("it does not begin with npub1")),
    };
    let key = PublicKey::from_bytes(bytes);
    if key.is_on_curve() { Ok(key) } else { Err(InvalidKey("it is not a point of the curve secp256k1")) }
}

/// Formats a public key as `npub1…`.
pub fn npub(key: &PublicKey) -> String {
    let Ok(npub) = key::PublicKey::from_byte_array(*key.as_bytes()).to_bech32();
    npub
}

/// Formats a secret key as `nsec1…`; returns an empty text if the key is invalid for secp256k1.
pub fn nsec(secret: &[u8; 32]) -> Zeroizing<String> {
    let nsec = key::SecretKey::from_slice(secret).map(|key| {
        let Ok(nsec) = key.to_bech32();
        nsec
    });
    Zeroizing::new(nsec.unwrap_or_default())
}

/// Returns the part before the first `1` of a bech32 text, in lower case. Returns `None` if the
/// text does not begin with `n`: every NIP-19 prefix does, and no hex key does.
fn prefix(text: &str) -> Option<String> {
    let is_bech32 = text.starts_with(['n', 'N']);
    is_bech32.then(|| text.split_once('1').map_or(text, |(prefix, _)| prefix).to_ascii_lowercase())
}

/// Decodes a text whose prefix must be that of `K`. The library also accepts bech32m, which NIP-19
/// does not allow; encoding the key again reveals such a text.
fn decode<K: FromBech32 + ToBech32>(text: &str) -> Result<K, InvalidKey> {
    let key = K::from_bech32(text).ok().filter(|key| {
        let encoded = key.to_bech32().map(Zeroizing::new);
        encoded.is_ok_and(|encoded| encoded.eq_ignore_ascii_case(text))
    });
    key.ok_or(InvalidKey("a character of it is wrong or missing"))
}

fn hex(text: &str, wrong_length: InvalidKey) -> Result<[u8; 32], InvalidKey> {
    if text.len() != 64 {
        return Err(wrong_length);
    }
    let mut bytes = [0; 32];
    let decoded = faster_hex::hex_decode(text.as_bytes(), &mut bytes);
    decoded.map(|()| bytes).map_err(|_| InvalidKey("not all of it are hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of NIP-19.
    const PUBLIC_HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
    const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";

    #[test]
    fn a_public_key_is_read_and_written_both_ways() {
        for text in [PUBLIC_HEX, NPUB, &NPUB.to_uppercase(), &PUBLIC_HEX.to_uppercase()] {
            let key = public_key(text).expect(text);
            assert_eq!((key.to_string().as_str(), npub(&key).as_str()), (PUBLIC_HEX, NPUB));
        }
        assert_eq!(*nsec(&secret_key(NSEC).unwrap()), NSEC);
    }

    #[test]
    fn an_error_says_why_a_text_is_not_a_public_key() {
        for (text, why) in [
            ("", "neither"),
            (&PUBLIC_HEX[1..], "neither"),
            (&PUBLIC_HEX.replace('7', "g"), "not all"),
            (NSEC, "it is a secret key"),
            (&NPUB.replace("ptg", "ptq"), "wrong or missing"),
            (&"ff".repeat(32), "not a point"),
            (&"é".repeat(32), "not all"),
            (&NPUB.replacen("npub", "note", 1), "does not begin with npub1"),
        ] {
            let error = public_key(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
