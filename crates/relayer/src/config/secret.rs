//! Values that are used but never shown: in no log, no error and no response.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use wire::Signer;

use crate::nip19::{self, InvalidKey};

/// A value that is used but never shown: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, which must not reach a log, an error or a response.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether these bytes are the secret. Compares in constant time: the duration reveals only the
    /// length of the secret.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(bytes).into()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A token of the API. It is sent in a header, so it is visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    pub const fn secret(&self) -> &Secret {
        &self.0
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.len() {
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("it has spaces, or characters that are not visible ASCII")
            }
            0..16 => Err("it is too short"),
            16..=512 => Ok(Self(Secret::new(text))),
            _ => Err("it is too long"),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A valid Nostr secret key that prints as `***`. Cloning only increments a reference count.
#[derive(Clone)]
pub struct SecretKey(Arc<Signer>);

impl SecretKey {
    pub fn signer(&self) -> &Arc<Signer> {
        &self.0
    }
}

impl FromStr for SecretKey {
    type Err = InvalidKey;

    /// Reads 64 hex digits or `nsec1…` (NIP-19).
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let secret = nip19::secret_key(text)?;
        Signer::from_secret(&secret)
            .map(|signer| Self(Arc::new(signer)))
            .ok_or(InvalidKey("its number is not a secret key of secp256k1"))
    }
}

/// Keys are the same if they sign as the same author.
impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.pubkey() == other.0.pubkey()
    }
}

impl Eq for SecretKey {}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(***)")
    }
}

/// A file that holds a secret. Only the file's owner may have access to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile<T> {
    pub path: PathBuf,
    /// The secret at the time of reading.
    pub secret: T,
}

/// A secret that can be read from a file.
pub trait Filed: FromStr<Err: fmt::Display> {
    /// What error messages call the secret, for example "secret key".
    const CALLED: &'static str;
}

impl Filed for SecretKey {
    const CALLED: &'static str = "secret key";
}

impl Filed for Token {
    const CALLED: &'static str = "token";
}

impl<T: Filed> SecretFile<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// When the file cannot be read, other users may access it, or it holds no valid secret. The
    /// error does not quote its contents.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        /// Secrets have at most a few hundred characters. An editor may add white space.
        const BYTES_MAX: u64 = 1024;
        let unreadable = |fault: std::io::Error| format!("it cannot be read: {fault}");
        // The type is checked before opening, because opening a pipe would wait for its other end.
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("its mode is {mode:03o}, which gives others access: run chmod 600"));
        }
        let mut text = String::new();
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        match text.trim() {
            "" => Err("it is empty".to_owned()),
            _ if text.len() as u64 > BYTES_MAX => Err(format!("it is larger than a {}", T::CALLED)),
            secret => match secret.parse() {
                Ok(secret) => Ok(Self { path: path.to_owned(), secret }),
                Err(fault) => Err(format!("it holds no {}: {fault}", T::CALLED)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of NIP-19, in both forms.
    const HEX: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
    const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";

    #[test]
    fn secrets_do_not_print() {
        let (secret, key) = (Secret::new("hunter2"), HEX.parse::<SecretKey>().unwrap());
        assert_eq!(format!("{secret} {secret:?} {key} {key:?}"), "*** Secret(***) *** SecretKey(***)");
    }

    #[test]
    fn a_key_is_written_in_hex_or_as_nip_19_says() {
        let key: SecretKey = HEX.parse().unwrap();
        for same in [NSEC, &NSEC.to_uppercase(), &HEX.to_uppercase()] {
            assert_eq!(same.parse::<SecretKey>().unwrap(), key);
        }
        assert_eq!(
            key.signer().pubkey().to_string(),
            "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
        );
        assert_ne!("01".repeat(32).parse::<SecretKey>().unwrap(), key);
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(text.parse::<SecretKey>().expect_err(text).to_string(), why, "{text}");
    }

    #[test]
    fn what_is_no_secret_key_says_why() {
        refused("", "it neither has 64 digits nor begins with nsec1");
        refused(&HEX[1..], "it neither has 64 digits nor begins with nsec1");
        refused(&HEX.replace('d', "g"), "not all of it are hex digits");
        refused(&"é".repeat(32), "not all of it are hex digits");
        for no_key in ["00".repeat(32), "ff".repeat(32)] {
            refused(&no_key, "its number is not a secret key of secp256k1");
        }
        for wrong in ["nsec1", &NSEC.replace("laq", "lap"), &NSEC.replacen('n', "N", 1)] {
            refused(wrong, "a character of it is wrong or missing");
        }
        let npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
        refused(npub, "it is a public key; the secret one begins with nsec1");
        refused("ncryptsec1qgg9947", "it is encrypted (NIP-49); decrypt it first");
        refused(&NSEC.replacen("nsec", "note", 1), "it does not begin with nsec1");
        for (what, wrong) in [
            ("31 bytes", "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9u7jpluy"),
            ("33 bytes", "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqz4mqznl"),
            ("bech32m", "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laq9009uk"),
        ] {
            let why = wrong.parse::<SecretKey>().expect_err(what).to_string();
            assert_eq!(why, "a character of it is wrong or missing", "{what}");
        }
    }
}
