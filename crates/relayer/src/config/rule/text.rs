//! Texts with a meaning: URLs, addresses, paths, names, secrets.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Mismatch, Rule};
use crate::config::dsn::postgres_options;
use crate::config::error::printable;
use crate::config::raw::{Kind, Raw, Shape};
use crate::config::secret::{Secret, SecretFile, SecretKey};
use crate::config::sink::{Compression, Framing, SinkName, Start};
use crate::config::types::{
    HostPort, HttpUrl, InvalidUrl, LogLevel, PublicUrl, Registration, RelayUrl, UserAgent, WebOrigin,
};
use crate::config::webhook::{InvalidSecret, SigningKeys};
use crate::nip19::InvalidKey;
use wire::{Filter, PublicKey};

/// A text with a meaning, kept as `T`.
pub struct Text<T> {
    allowed: &'static str,
    /// What was found is not shown if it may be a secret.
    secret: fn(&str) -> bool,
    /// The error, if not empty, says what in particular is wrong.
    read: fn(&str) -> Result<T, String>,
    show: fn(&T) -> Option<String>,
}

impl<T> Rule for Text<T> {
    type Value = T;

    fn read(&self, raw: &Raw) -> Result<T, Vec<Mismatch>> {
        let fault = match &raw.kind {
            Kind::Text(text) => match (self.read)(text) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            },
            _ => String::new(),
        };
        let is_secret = match &raw.kind {
            Kind::Text(text) => (self.secret)(text),
            // What is meant for a secret may be one of any kind.
            _ => (self.secret)(""),
        };
        let found = if is_secret { "a value (secret, not shown)".to_owned() } else { raw.describe() };
        let because = if fault.is_empty() { fault } else { format!(" ({fault})") };
        let what = format!("found {found}{because}; allowed: {}", self.allowed);
        Err(vec![Mismatch::new(raw.offset, what)])
    }

    fn show(&self, value: &T) -> Option<String> {
        (self.show)(value).map(|text| quoted(&text))
    }

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Text
    }
}

/// A relay's address.
pub fn relay_url() -> Text<RelayUrl> {
    Text {
        allowed: "a relay URL (ws:// or wss://, and a host)",
        secret: |_| false,
        read: |text| text.parse().map_err(|fault: InvalidUrl| fault.to_string()),
        show: |url| Some(url.to_string()),
    }
}

/// Where events are posted.
pub fn http_url() -> Text<HttpUrl> {
    Text {
        allowed: "a URL (http:// or https://, and a host)",
        secret: |_| false,
        read: |text| text.parse().map_err(|fault: InvalidUrl| fault.to_string()),
        show: |url: &HttpUrl| {
            let query = if url.query().is_some() { "?***" } else { "" };
            Some(format!("{}{query}", url.without_query()))
        },
    }
}

/// Where events are posted, by nothing but its address, which is shown to everybody.
pub fn plain_http_url() -> Text<HttpUrl> {
    Text {
        allowed: "a URL (http:// or https://, and a host) without a query, which may hold a secret: with one \
                  it belongs into [[output.rest]]",
        read: |text| match text.parse::<HttpUrl>() {
            Ok(url) if url.query().is_some() => Err("it has a query".to_owned()),
            Ok(url) => Ok(url),
            Err(fault) => Err(fault.to_string()),
        },
        ..http_url()
    }
}

/// How bodies are compressed.
pub fn compression() -> Text<Compression> {
    Text {
        allowed: "\"none\", \"gzip\" or \"zstd\"",
        secret: |_| false,
        read: |text| Compression::named(text).ok_or_else(String::new),
        show: |compression| Some(compression.as_str().to_owned()),
    }
}

/// What requests are signed with, or nothing.
pub fn signing_keys() -> Text<Option<SigningKeys>> {
    Text {
        allowed: "whsec_ and the base64 of 24 to 64 bytes; up to four of them with a space between",
        secret: |_| true,
        read: |text| text.parse().map(Some).map_err(|fault: InvalidSecret| fault.to_string()),
        show: |keys| keys.as_ref().map(SigningKeys::to_string),
    }
}

/// Whether what stands in the place of a path may be the secret itself, which somebody will put
/// there. Secrets are one long word, but for the `/` of base64 behind `whsec_`; a path that exists
/// is no secret.
fn may_be_a_secret(text: &str) -> bool {
    const WORD_CHARS_MIN: usize = 20;
    let is_long_word = text.len() >= WORD_CHARS_MIN && !text.contains(['/', '.']);
    let has_prefix = ["whsec_", "nsec1", "ncryptsec1"].iter().any(|prefix| text.contains(prefix));
    text.is_empty() || (is_long_word || has_prefix) && !std::path::Path::new(text).exists()
}

/// A file with what requests are signed with, which is read at once, or nothing.
pub fn signing_keys_file() -> Text<Option<SecretFile<SigningKeys>>> {
    Text {
        allowed: "the path of a file of mode 600 or 400 that holds up to four secrets (whsec_…)",
        secret: may_be_a_secret,
        read: |text| path(text).and_then(|path| SecretFile::read(&path)).map(Some),
        show: |file| file.as_ref().map(|file| file.path.display().to_string()),
    }
}

/// Where events are sent by TCP.
pub fn host_port() -> Text<HostPort> {
    Text {
        allowed: "\"host:port\"",
        secret: |_| false,
        read: |text| text.parse().map_err(|fault: InvalidUrl| fault.to_string()),
        show: |address| Some(address.as_str().to_owned()),
    }
}

/// Whose pages may read.
pub fn web_origin() -> Text<WebOrigin> {
    Text {
        allowed: "an origin (http:// or https://, a host, and a port if it is not the usual one)",
        secret: |_| false,
        read: |text| text.parse().map_err(|fault: InvalidUrl| fault.to_string()),
        show: |origin| Some(origin.as_str().to_owned()),
    }
}

/// A local address to listen on.
pub fn ip_address() -> Text<IpAddr> {
    Text {
        allowed: "an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::1\"",
        secret: |_| false,
        read: |text| text.parse().map_err(|_| String::new()),
        show: |address| Some(address.to_string()),
    }
}

/// A folder.
pub fn folder() -> Text<PathBuf> {
    Text {
        allowed: "the path of a folder, which is created if it is missing",
        secret: |_| false,
        read: path,
        show: |path| Some(path.display().to_string()),
    }
}

/// A file, or nothing.
pub fn file_or_none() -> Text<Option<PathBuf>> {
    Text {
        allowed: "the path of a file",
        secret: |_| false,
        read: |text| path(text).map(Some),
        show: |path| path.as_ref().map(|path| path.display().to_string()),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    match text.trim().is_empty() || text.contains('\0') {
        true => Err(String::new()),
        false => Ok(PathBuf::from(text)),
    }
}

/// What the API is called from outside, or nothing.
pub fn public_url() -> Text<Option<PublicUrl>> {
    Text {
        allowed: "a URL (http:// or https://, and a host; a path if a proxy puts one before ours; no query)",
        secret: |_| false,
        read: |text| text.parse().map(Some).map_err(|fault: InvalidUrl| fault.to_string()),
        show: |url| url.as_ref().map(|url| url.as_str().to_owned()),
    }
}

/// How the gateway introduces itself.
pub fn user_agent() -> Text<UserAgent> {
    Text {
        allowed: "1 to 200 characters of visible ASCII, with spaces only within",
        secret: |_| false,
        read: |text| UserAgent::new(text).ok_or_else(String::new),
        show: |agent| Some(agent.written().to_owned()),
    }
}

/// Who may register new bots.
pub fn registration() -> Text<Registration> {
    Text {
        allowed: "\"open\", \"approve\" or \"closed\"",
        secret: |_| false,
        read: |text| Registration::named(text).ok_or_else(String::new),
        show: |registration| Some(registration.as_str().to_owned()),
    }
}

/// How much is logged.
pub fn log_level() -> Text<LogLevel> {
    Text {
        allowed: "\"trace\", \"debug\", \"info\", \"warn\" or \"error\"",
        secret: |_| false,
        read: |text| LogLevel::named(text).ok_or_else(String::new),
        show: |level| Some(level.as_str().to_owned()),
    }
}

/// The address of a Postgres database with its password, or nothing.
pub fn postgres_dsn() -> Text<Option<Secret>> {
    Text {
        allowed: "a URL such as \"postgres://user:password@localhost:5432/moltrade\"",
        secret: |_| true,
        read: |text| {
            let dsn = Secret::new(text);
            postgres_options(&dsn).map(|_| Some(dsn))
        },
        show: |dsn| dsn.as_ref().map(Secret::to_string),
    }
}

/// What admits to the API's changing calls, or nothing. It travels in a header, so it is visible ASCII.
pub fn admin_token() -> Text<Option<Secret>> {
    Text {
        allowed: "16 to 512 characters of visible ASCII without spaces, such as `openssl rand -hex 32` prints",
        secret: |_| true,
        read: |text| match text.len() {
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("it has spaces, or characters that are not visible ASCII".to_owned())
            }
            0..16 => Err("it is too short".to_owned()),
            16..=512 => Ok(Some(Secret::new(text))),
            _ => Err("it is too long".to_owned()),
        },
        show: |token| token.as_ref().map(Secret::to_string),
    }
}

/// A Nostr secret key, or nothing.
pub fn secret_key() -> Text<Option<SecretKey>> {
    Text {
        allowed: "64 hex digits, or nsec1… (NIP-19)",
        secret: |_| true,
        read: |text| text.parse().map(Some).map_err(|fault: InvalidKey| fault.to_string()),
        show: |key| key.as_ref().map(SecretKey::to_string),
    }
}

/// A file with a Nostr secret key, which is read at once, or nothing.
pub fn secret_key_file() -> Text<Option<SecretFile<SecretKey>>> {
    Text {
        allowed: "the path of a file of mode 600 or 400 that holds 64 hex digits or nsec1… (NIP-19)",
        secret: may_be_a_secret,
        read: |text| path(text).and_then(|path| SecretFile::read(&path)).map(Some),
        show: |file| file.as_ref().map(|file| file.path.display().to_string()),
    }
}

/// What a sink is called.
pub fn sink_name() -> Text<SinkName> {
    Text {
        allowed: SinkName::ALLOWED,
        secret: |_| false,
        read: |text| SinkName::new(text).ok_or_else(String::new),
        show: |name| Some(name.as_str().to_owned()),
    }
}

/// How events are told apart on a TCP connection.
pub fn framing() -> Text<Framing> {
    Text {
        allowed: "\"length\" or \"ndjson\"",
        secret: |_| false,
        read: |text| Framing::named(text).ok_or_else(String::new),
        show: |framing| Some(framing.as_str().to_owned()),
    }
}

/// Where a new sink begins.
pub fn start() -> Text<Start> {
    Text {
        allowed: "\"now\" or \"oldest\"",
        secret: |_| false,
        read: |text| Start::named(text).ok_or_else(String::new),
        show: |start| Some(start.as_str().to_owned()),
    }
}

/// An author of events.
pub fn public_key() -> Text<PublicKey> {
    Text {
        allowed: "a public key of 64 lower-case hex digits",
        secret: |_| false,
        read: |text| text.parse().map_err(|_| String::new()),
        show: |key| Some(key.to_string()),
    }
}

/// A NIP-01 filter, or nothing.
pub fn filter() -> Text<Option<Filter>> {
    Text {
        allowed: "a NIP-01 filter as JSON, as in '{\"kinds\":[1],\"#t\":[\"nostr\"]}'",
        secret: |_| false,
        read: |text| Filter::parse(text).map(Some).map_err(|fault| printable(&fault.to_string())),
        show: |filter| filter.as_ref().and_then(|filter| serde_json::to_string(filter).ok()),
    }
}

/// `text` as a TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
