//! Keys as people write them: hex, or bech32 with a prefix that says which (NIP-19).

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use wire::PublicKey;
use zeroize::Zeroizing;

/// Why a text is no key. It says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKey(pub(crate) &'static str);

/// Reads a secret key: 64 hex digits or `nsec1…`. The number may still be none of secp256k1.
///
/// # Errors
/// When it is neither.
pub fn secret_key(text: &str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    if !text.starts_with(['n', 'N']) {
        return hex(text, InvalidKey("it neither has 64 digits nor begins with nsec1")).map(Zeroizing::new);
    }
    let decoded = decode(text)?;
    match decoded.hrp().to_lowercase().as_str() {
        "nsec" => bytes(&decoded).map(Zeroizing::new),
        "npub" => Err(InvalidKey("it is a public key; the secret one begins with nsec1")),
        "ncryptsec" => Err(InvalidKey("it is encrypted (NIP-49); it must be decrypted before")),
        _ => Err(InvalidKey("it does not begin with nsec1")),
    }
}

/// Reads a public key: 64 hex digits or `npub1…`, and a point of secp256k1.
///
/// # Errors
/// When it is none.
pub fn public_key(text: &str) -> Result<PublicKey, InvalidKey> {
    let bytes = if text.starts_with(['n', 'N']) {
        let decoded = decode(text)?;
        match decoded.hrp().to_lowercase().as_str() {
            "npub" => bytes(&decoded)?,
            "nsec" => {
                return Err(InvalidKey(
                    "it is a secret key, which nobody else should see; the public one begins with npub1",
                ));
            }
            _ => return Err(InvalidKey("it does not begin with npub1")),
        }
    } else {
        hex(text, InvalidKey("it neither has 64 hex digits nor begins with npub1"))?
    };
    let key = PublicKey::from_bytes(bytes);
    if key.is_on_curve() { Ok(key) } else { Err(InvalidKey("it is no point of the curve secp256k1")) }
}

/// `npub1…`
pub fn npub(key: &PublicKey) -> String {
    encode("npub", key.as_bytes())
}

/// `nsec1…`
pub fn nsec(secret: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(encode("nsec", secret))
}

fn encode(prefix: &str, bytes: &[u8; 32]) -> String {
    // Neither the prefix nor the length can be wrong.
    let encoded = Hrp::parse(prefix).ok().and_then(|prefix| bech32::encode::<Bech32>(prefix, bytes).ok());
    encoded.unwrap_or_default()
}

fn decode(text: &str) -> Result<CheckedHrpstring<'_>, InvalidKey> {
    CheckedHrpstring::new::<Bech32>(text).map_err(|_| InvalidKey("a character of it is wrong or missing"))
}

fn bytes(decoded: &CheckedHrpstring<'_>) -> Result<[u8; 32], InvalidKey> {
    let wrong = InvalidKey("it does not hold 32 bytes");
    decoded.validate_segwit_padding().map_err(|_| wrong)?;
    let bytes: Vec<u8> = decoded.byte_iter().take(33).collect();
    bytes.try_into().map_err(|_| wrong)
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
    fn what_is_no_public_key_says_why() {
        for (text, why) in [
            ("", "neither"),
            (&PUBLIC_HEX[1..], "neither"),
            (&PUBLIC_HEX.replace('7', "g"), "not all"),
            (NSEC, "it is a secret key"),
            (&NPUB.replace("ptg", "ptq"), "wrong or missing"),
            (&"ff".repeat(32), "no point"),
            (&"é".repeat(32), "not all"),
            (&encode("note", &[1; 32]), "does not begin with npub1"),
        ] {
            let error = public_key(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
