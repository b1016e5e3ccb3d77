//! Refuses shared secrets that others know or can guess.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use wire::PublicKey;
use zeroize::Zeroizing;

use crate::limits::{SHARED_SECRET_BYTES_MAX, SHARED_SECRET_BYTES_MIN};

/// The prefixes of NIP-19 texts and of encrypted keys (NIP-49).
const NIP19: [&str; 8] =
    ["npub1", "nsec1", "note1", "nprofile1", "nevent1", "naddr1", "nrelay1", "ncryptsec1"];

/// Hex digits of a key or an event id.
const KEY_DIGITS: usize = 64;

/// The minimum number of different bytes. Sixteen random hex digits have ten different ones on
/// average.
const DIFFERENT_MIN: usize = 7;

/// Why a shared secret is refused. The error text follows "`shared_secret`" in a sentence, and does
/// not quote the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WeakSecret {
    #[error("must have {SHARED_SECRET_BYTES_MIN} to {SHARED_SECRET_BYTES_MAX} bytes")]
    Length,
    #[error("must not hold a Nostr key or another text of NIP-19 (npub1…, nsec1…)")]
    Nip19,
    /// The secret contains a key in hex, or hex digits that look like a key.
    #[error("must not hold {KEY_DIGITS} hex digits in a row, as Nostr keys and event ids have")]
    HexDigits,
    /// The secret contains a key of the request in base64.
    #[error("must not hold the public key of the bot, the follower or the gateway")]
    PublicKey,
    #[error("has too little variety: too few different characters, a repetition or a sequence")]
    LittleVariety,
}

/// Checks a shared secret. `keys` are the public keys of the bot, the follower and the gateway.
pub fn check(secret: &[u8], keys: &[PublicKey]) -> Result<(), WeakSecret> {
    if !(SHARED_SECRET_BYTES_MIN..=SHARED_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(WeakSecret::Length);
    }
    let lower = Zeroizing::new(secret.to_ascii_lowercase());
    if NIP19.iter().any(|prefix| contains(&lower, prefix.as_bytes())) {
        return Err(WeakSecret::Nip19);
    }
    if lower.split(|byte| !byte.is_ascii_hexdigit()).any(|digits| digits.len() >= KEY_DIGITS) {
        return Err(WeakSecret::HexDigits);
    }
    let holds = |key: &PublicKey| {
        let texts = [STANDARD_NO_PAD.encode(key.as_bytes()), URL_SAFE_NO_PAD.encode(key.as_bytes())];
        texts.iter().any(|text| contains(secret, text.as_bytes()))
    };
    if keys.iter().any(holds) {
        return Err(WeakSecret::PublicKey);
    }
    if has_variety(secret) { Ok(()) } else { Err(WeakSecret::LittleVariety) }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn has_variety(secret: &[u8]) -> bool {
    let mut different = Zeroizing::new(secret.to_vec());
    different.sort_unstable();
    different.dedup();
    let after = |distance| secret.iter().zip(secret.iter().skip(distance));
    // The secret may repeat a short text.
    let longest = SHARED_SECRET_BYTES_MIN.min(secret.len() / 2);
    let repeats = (1..=longest).any(|period| after(period).all(|(one, other)| one == other));
    // The secret may consist of small steps: "abcdef…", "987654…", "aabbcc…"
    let steps = after(1).filter(|(one, other)| one.abs_diff(**other) <= 1).count();
    different.len() >= DIFFERENT_MIN && !repeats && steps * 2 < secret.len()
}

#[cfg(test)]
mod tests {
    use wire::Signer;

    use super::*;
    use crate::nip19::{npub, nsec};

    fn key(seed: u64) -> PublicKey {
        *Signer::from_seed(seed).pubkey()
    }

    fn checked(secret: &str) -> Result<(), WeakSecret> {
        check(secret.as_bytes(), &[key(1), key(2), key(3)])
    }

    #[test]
    fn secrets_that_others_know_are_refused() {
        for secret in [
            npub(&key(1)),
            npub(&key(9)).to_uppercase(),
            format!("nostr:{}", npub(&key(9))),
            nsec(&Signer::from_seed(9).secret()).to_string(),
            "note1fntxtkcy9pjwucqwa9mddn7v03wwwsu9j330jj350nvhpky2tuaspk6nqc".to_owned(),
            "my secret is nprofile1qqs".to_owned(),
        ] {
            assert_eq!(checked(&secret), Err(WeakSecret::Nip19), "{secret}");
        }
        let hex = key(9).to_string();
        let forms =
            [hex.clone(), hex.to_uppercase(), format!("0x{hex}"), format!("{hex}{hex}"), format!("({hex})")];
        for secret in forms {
            assert_eq!(checked(&secret), Err(WeakSecret::HexDigits), "{secret}");
        }
        for seed in 1..4 {
            let key = key(seed);
            let forms =
                [STANDARD_NO_PAD.encode(key.as_bytes()) + "=", URL_SAFE_NO_PAD.encode(key.as_bytes())];
            for secret in forms {
                assert_eq!(checked(&secret), Err(WeakSecret::PublicKey), "{secret}");
            }
        }
        assert_eq!(checked(&STANDARD_NO_PAD.encode(key(4).as_bytes())), Ok(()), "a key of nobody here");
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused() {
        for secret in ["fifteen letters", "", &"é".repeat(129)] {
            assert_eq!(checked(secret), Err(WeakSecret::Length), "{secret}");
        }
        for secret in [
            "aaaaaaaaaaaaaaaa",
            "                ",
            "abababababababab",
            "password12password12",
            "abcdefghijabcdefghijabcde",
            "0123456789abcdef",
            "zyxwvutsrqponmlk",
            "aabbccddeeffgghh",
            "1212121234343434",
        ] {
            assert_eq!(checked(secret), Err(WeakSecret::LittleVariety), "{secret}");
        }
    }

    #[test]
    fn random_texts_are_accepted() {
        for secret in [
            "kxN0x4kTDdPmw8ZBtDMZWQ==",
            "9f8a1c0b7d2e4f63",
            "correct horse battery staple",
            "ein Geheimnis mit ü",
        ] {
            assert_eq!(checked(secret), Ok(()), "{secret}");
        }
        for _ in 0..1_000 {
            let secret = STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>());
            assert_eq!(checked(&secret), Ok(()), "{secret}");
        }
    }
}
