//! Texts with a meaning: URLs, addresses, paths, names, secrets.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use strum::VariantNames;
use toml::de::DeValue;

use super::{Mismatch, Rule, Shape};
use crate::config::address::{HostPort, HttpUrl, PublicUrl, RelayUrl, WebOrigin};
use crate::config::choices::names_of;
use crate::config::dsn::postgres_options;
use crate::config::error::printable;
use crate::config::network::Network;
use crate::config::secret::{Secret, SecretFile, SecretKey, Token};
use crate::config::sinks::SinkName;
use crate::config::user_agent::UserAgent;
use crate::config::value::{Raw, describe};
use crate::config::webhook::SigningKeys;
use wire::{Filter, PublicKey};

/// A text with a meaning, stored as `T`.
pub struct Text<T> {
    allowed: String,
    /// Whether the text may be a secret, so that errors do not show it.
    is_secret: fn(&str) -> bool,
    /// The error says what in particular is wrong; it may be empty.
    read: fn(&str) -> Result<T, String>,
    show: fn(&T) -> String,
}

impl<T> Rule for Text<T> {
    type Value = T;

    fn read(&self, raw: &Raw<'_>) -> Result<T, Vec<Mismatch>> {
        let (text, why) = match raw.get_ref() {
            DeValue::String(text) => match (self.read)(text) {
                Ok(value) => return Ok(value),
                Err(why) => (&**text, why),
            },
            // A secret may have been written as a value of any type.
            _ => ("", String::new()),
        };
        let found = if (self.is_secret)(text) {
            "a value (secret, not shown)".to_owned()
        } else {
            describe(raw.get_ref())
        };
        if why.is_empty() { self.found(found, raw) } else { self.found(format_args!("{found} ({why})"), raw) }
    }

    fn show(&self, value: &T) -> Option<String> {
        let quoted = serde_json::to_string(&(self.show)(value)).ok()?;
        // JSON escapes only the control characters below space. TOML also forbids DEL, and
        // terminals interpret the control characters above DEL.
        let escaped = |character: char| match character.is_control() {
            true => format!("\\u{:04X}", u32::from(character)),
            false => character.to_string(),
        };
        Some(quoted.chars().map(escaped).collect())
    }

    fn allowed(&self) -> String {
        self.allowed.clone()
    }

    fn shape(&self) -> Shape {
        Shape::Text
    }
}

/// A text for which the errors of `T` say what is wrong.
fn text<T: FromStr<Err: Display> + Display>(allowed: &str) -> Text<T> {
    Text {
        allowed: allowed.to_owned(),
        is_secret: |_| false,
        read: |text| text.parse().map_err(|fault: T::Err| fault.to_string()),
        show: T::to_string,
    }
}

/// A text for which `allowed` explains every error.
fn plain<T: FromStr + Display>(allowed: &str) -> Text<T> {
    Text {
        allowed: allowed.to_owned(),
        is_secret: |_| false,
        read: |text| text.parse().map_err(|_| String::new()),
        show: T::to_string,
    }
}

pub fn relay_url() -> Text<RelayUrl> {
    text("a relay URL (ws:// or wss://, and a host)")
}

pub(crate) fn http_url() -> Text<HttpUrl> {
    text("a URL (http:// or https://, and a host)")
}

/// An [`HttpUrl`] that is also the sink's name. Everybody sees the name, so the URL must have no
/// query.
pub(crate) fn http_url_without_query() -> Text<HttpUrl> {
    Text {
        read: |text| match text.parse::<HttpUrl>() {
            Ok(url) if url.query().is_some() => Err("it has a query".to_owned()),
            Ok(url) => Ok(url),
            Err(fault) => Err(fault.to_string()),
        },
        ..text(
            "a URL (http:// or https://, and a host) without a query, which may hold a secret: with one it belongs \
             in [[output.rest]]",
        )
    }
}

pub fn public_url() -> Text<PublicUrl> {
    text("a URL (http:// or https://, and a host; a path if a proxy puts one before ours; no query)")
}

pub(crate) fn host_port() -> Text<HostPort> {
    text("\"host:port\"")
}

pub(crate) fn web_origin() -> Text<WebOrigin> {
    text("an origin (http:// or https://, a host, and a port if it is not the usual one)")
}

pub(crate) fn ip_address() -> Text<IpAddr> {
    plain("an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::1\"")
}

pub(crate) fn network() -> Text<Network> {
    text("an IP address or a range of addresses such as \"10.0.0.0/8\" or \"fd00::/8\"")
}

pub fn user_agent() -> Text<UserAgent> {
    plain("1 to 200 characters of visible ASCII, with spaces only within")
}

pub(crate) fn sink_name() -> Text<SinkName> {
    plain(SinkName::ALLOWED)
}

pub(crate) fn public_key() -> Text<PublicKey> {
    plain("a public key of 64 lower-case hex digits")
}

/// One of a few names.
pub(crate) fn choice<T: FromStr + Display + VariantNames>() -> Text<T> {
    plain(&names_of::<T>())
}

/// A NIP-01 filter.
pub fn filter() -> Text<Filter> {
    Text {
        allowed: "a NIP-01 filter as JSON, as in '{\"kinds\":[1],\"#t\":[\"nostr\"]}'".to_owned(),
        is_secret: |_| false,
        read: |text| Filter::parse(text).map_err(|fault| printable(&fault.to_string())),
        show: |filter| serde_json::to_string(filter).unwrap_or_default(),
    }
}

fn path(allowed: &str) -> Text<PathBuf> {
    Text {
        allowed: allowed.to_owned(),
        is_secret: |_| false,
        read: read_path,
        show: |path| path.display().to_string(),
    }
}

fn read_path(text: &str) -> Result<PathBuf, String> {
    let is_path = !text.trim().is_empty() && !text.contains('\0');
    is_path.then(|| text.into()).ok_or_else(String::new)
}

pub fn folder() -> Text<PathBuf> {
    path("the path of a folder, which is created if it is missing")
}

pub fn file() -> Text<PathBuf> {
    path("the path of a file")
}

pub fn signing_keys() -> Text<SigningKeys> {
    let allowed = "whsec_ and the base64 of 24 to 64 bytes; up to four of them, separated by spaces";
    Text { is_secret: |_| true, ..text(allowed) }
}

pub fn secret_key() -> Text<SecretKey> {
    Text { is_secret: |_| true, ..text("64 hex digits, or nsec1… (NIP-19)") }
}

/// The values that a token may have.
const TOKEN: &str =
    "16 to 512 characters of visible ASCII without spaces, such as `openssl rand -hex 32` prints";

/// The token of the operator.
pub fn admin_token() -> Text<Secret> {
    Text {
        allowed: TOKEN.to_owned(),
        is_secret: |_| true,
        read: |text| match text.parse::<Token>() {
            Ok(token) => Ok(token.secret().clone()),
            Err(why) => Err(why.to_owned()),
        },
        show: Secret::to_string,
    }
}

/// The token of a reader.
pub(crate) fn token() -> Text<Token> {
    Text { is_secret: |_| true, ..text(TOKEN) }
}

pub(crate) fn token_file() -> Text<SecretFile<Token>> {
    secret_file("a token")
}

/// The URL of a PostgreSQL database, with its password.
pub(crate) fn postgres_dsn() -> Text<Secret> {
    Text {
        allowed: "a URL such as \"postgres://user:password@localhost:5432/moltrade\"".to_owned(),
        is_secret: |_| true,
        read: |text| {
            let dsn = Secret::new(text);
            postgres_options(&dsn).map(|_| dsn)
        },
        show: Secret::to_string,
    }
}

/// A file with a secret. The file is read immediately.
fn secret_file<T: crate::config::secret::Filed>(allowed: &str) -> Text<SecretFile<T>> {
    Text {
        allowed: format!("the path of a file of mode 600 or 400 that holds {allowed}"),
        is_secret: may_be_a_secret,
        read: |text| read_path(text).and_then(|path| SecretFile::read(&path)),
        show: |file| file.path.display().to_string(),
    }
}

pub fn secret_key_file() -> Text<SecretFile<SecretKey>> {
    secret_file("64 hex digits or nsec1… (NIP-19)")
}

pub(crate) fn signing_keys_file() -> Text<SecretFile<SigningKeys>> {
    secret_file("up to four secrets (whsec_…)")
}

/// Whether a text may be a secret that was written in place of the path of its file. A secret is
/// one long word, except for the `/` of base64 after `whsec_`. The path of an existing file is not
/// a secret.
fn may_be_a_secret(text: &str) -> bool {
    const WORD_CHARS_MIN: usize = 20;
    let is_long_word = text.len() >= WORD_CHARS_MIN && !text.contains(['/', '.']);
    let has_prefix = ["whsec_", "nsec1", "ncryptsec1"].iter().any(|prefix| text.contains(prefix));
    text.is_empty() || (is_long_word || has_prefix) && !Path::new(text).exists()
}
