//! The rules that values are checked by: each reads a raw value, says what is allowed, and writes TOML.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::{Kind, Raw, Shape};
use super::secret::{KeyFile, Secret, SecretKey};
use super::types::{HostPort, HttpUrl, LogLevel, RelayUrl, UserAgent};

/// A value that breaks its rule.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// Where, as [`Raw::offset`].
    pub(super) offset: usize,
    /// `found …; allowed: …`.
    pub(super) what: String,
}

/// One kind of value.
pub(super) trait Rule {
    /// What a value becomes once it is checked.
    type Value;

    /// Checks a value; every item of a list that is wrong is named.
    fn read(&self, raw: &Raw) -> Result<Self::Value, Vec<Mismatch>>;

    /// The value in TOML; `None` if it is not set.
    fn show(&self, value: &Self::Value) -> Option<String>;

    /// What is allowed, to be read after "allowed: ".
    fn allowed(&self) -> String;

    /// How the environment spells it.
    fn shape(&self) -> Shape;

    /// The complaint about a value that breaks the rule.
    fn mismatch<T>(&self, raw: &Raw) -> Result<T, Vec<Mismatch>> {
        let what = format!("found {}; allowed: {}", raw.describe(), self.allowed());
        Err(vec![Mismatch { offset: raw.offset, what }])
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Rule for Flag {
    type Value = bool;

    fn read(&self, raw: &Raw) -> Result<bool, Vec<Mismatch>> {
        match raw.kind {
            Kind::Flag(flag) => Ok(flag),
            _ => self.mismatch(raw),
        }
    }

    fn show(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Plain
    }
}

/// A whole number within bounds, kept as `T`.
pub(super) struct Whole<T> {
    range: RangeInclusive<u64>,
    /// Whether 0 is allowed too, with a meaning of its own.
    or_zero: bool,
    unit: &'static str,
    read: fn(u64) -> Option<T>,
    show: fn(&T) -> u64,
}

impl<T> Rule for Whole<T> {
    type Value = T;

    fn read(&self, raw: &Raw) -> Result<T, Vec<Mismatch>> {
        let Kind::Integer(Some(number), _) = &raw.kind else { return self.mismatch(raw) };
        u64::try_from(*number)
            .ok()
            .filter(|number| self.range.contains(number) || (self.or_zero && *number == 0))
            .and_then(self.read)
            .map_or_else(|| self.mismatch(raw), Ok)
    }

    fn show(&self, value: &T) -> Option<String> {
        Some((self.show)(value).to_string())
    }

    fn allowed(&self) -> String {
        let zero = if self.or_zero { "0, or " } else { "" };
        format!("{zero}a whole number{} from {} to {}", self.unit, self.range.start(), self.range.end())
    }

    fn shape(&self) -> Shape {
        Shape::Plain
    }
}

/// How many; never none.
pub(super) fn count(range: RangeInclusive<u64>) -> Whole<NonZeroUsize> {
    Whole {
        range,
        or_zero: false,
        unit: "",
        read: |n| usize::try_from(n).ok().and_then(NonZeroUsize::new),
        show: |n| n.get() as u64,
    }
}

/// How many at most, 0 for as many as there are.
pub(super) fn number_or_none(range: RangeInclusive<u64>) -> Whole<Option<NonZeroU32>> {
    Whole {
        range,
        or_zero: true,
        unit: "",
        read: |n| u32::try_from(n).ok().map(NonZeroU32::new),
        show: |n| n.map_or(0, |n| u64::from(n.get())),
    }
}

/// A size that is held in memory.
pub(super) fn bytes(range: RangeInclusive<u64>) -> Whole<usize> {
    Whole { range, or_zero: false, unit: " of bytes", read: |n| usize::try_from(n).ok(), show: |n| *n as u64 }
}

/// A size on disk.
pub(super) fn disk_bytes(range: RangeInclusive<u64>) -> Whole<u64> {
    Whole { range, or_zero: false, unit: " of bytes", read: Some, show: |n| *n }
}

/// A size on disk, 0 for none.
pub(super) fn disk_bytes_or_none(range: RangeInclusive<u64>) -> Whole<Option<NonZeroU64>> {
    let show = |n: &Option<NonZeroU64>| n.map_or(0, NonZeroU64::get);
    Whole { range, or_zero: true, unit: " of bytes", read: |n| Some(NonZeroU64::new(n)), show }
}

/// A span of seconds.
pub(super) fn seconds(range: RangeInclusive<u64>) -> Whole<Duration> {
    Whole {
        range,
        or_zero: false,
        unit: " of seconds",
        read: |n| Some(Duration::from_secs(n)),
        show: Duration::as_secs,
    }
}

/// A span of milliseconds.
pub(super) fn milliseconds(range: RangeInclusive<u64>) -> Whole<Duration> {
    Whole {
        range,
        or_zero: false,
        unit: " of milliseconds",
        read: |n| Some(Duration::from_millis(n)),
        show: |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A span of hours, 0 for none.
pub(super) fn hours_or_none(max: u64) -> Whole<Option<Duration>> {
    Whole {
        range: 1..=max,
        or_zero: true,
        unit: " of hours",
        read: |n| Some((n > 0).then_some(Duration::from_secs(n.checked_mul(3600)?))),
        show: |span| span.map_or(0, |span| span.as_secs() / 3600),
    }
}

/// A TCP port, 0 for one that the system picks.
pub(super) fn port() -> Whole<u16> {
    Whole {
        range: 0..=65_535,
        or_zero: false,
        unit: "",
        read: |n| u16::try_from(n).ok(),
        show: |port| u64::from(*port),
    }
}

/// A TCP port, 0 for none.
pub(super) fn port_or_none() -> Whole<Option<NonZeroU16>> {
    Whole {
        range: 1..=65_535,
        or_zero: true,
        unit: "",
        read: |n| u16::try_from(n).ok().map(NonZeroU16::new),
        show: |port| port.map_or(0, |port| u64::from(port.get())),
    }
}

/// An event kind (NIP-01).
pub(super) fn kind() -> Whole<u16> {
    port()
}

/// A text with a meaning, kept as `T`.
pub(super) struct Text<T> {
    allowed: &'static str,
    /// Never show what was found.
    secret: bool,
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
        let found = if self.secret { "a value (secret, not shown)".to_owned() } else { raw.describe() };
        let because = if fault.is_empty() { fault } else { format!(" ({fault})") };
        let what = format!("found {found}{because}; allowed: {}", self.allowed);
        Err(vec![Mismatch { offset: raw.offset, what }])
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
pub(super) fn relay_url() -> Text<RelayUrl> {
    Text {
        allowed: "a relay URL (ws:// or wss://, and a host)",
        secret: false,
        read: |text| text.parse().map_err(|fault: super::InvalidUrl| fault.to_string()),
        show: |url| Some(url.to_string()),
    }
}

/// Where events are posted.
pub(super) fn http_url() -> Text<HttpUrl> {
    Text {
        allowed: "a URL (http:// or https://, and a host)",
        secret: false,
        read: |text| text.parse().map_err(|fault: super::InvalidUrl| fault.to_string()),
        show: |url| Some(url.as_str().to_owned()),
    }
}

/// Where events are sent by TCP.
pub(super) fn host_port() -> Text<HostPort> {
    Text {
        allowed: "\"host:port\"",
        secret: false,
        read: |text| text.parse().map_err(|fault: super::InvalidUrl| fault.to_string()),
        show: |address| Some(address.as_str().to_owned()),
    }
}

/// A local address to listen on.
pub(super) fn ip_address() -> Text<IpAddr> {
    Text {
        allowed: "an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::1\"",
        secret: false,
        read: |text| text.parse().map_err(|_| String::new()),
        show: |address| Some(address.to_string()),
    }
}

/// A folder.
pub(super) fn folder() -> Text<PathBuf> {
    Text {
        allowed: "the path of a folder, which is created if it is missing",
        secret: false,
        read: path,
        show: |path| Some(path.display().to_string()),
    }
}

/// A file, or nothing.
pub(super) fn file_or_none() -> Text<Option<PathBuf>> {
    Text {
        allowed: "the path of a file",
        secret: false,
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

/// How the gateway introduces itself.
pub(super) fn user_agent() -> Text<UserAgent> {
    Text {
        allowed: "1 to 200 characters of visible ASCII, with spaces only within",
        secret: false,
        read: |text| UserAgent::new(text).ok_or_else(String::new),
        show: |agent| Some(agent.written().to_owned()),
    }
}

/// How much is logged.
pub(super) fn log_level() -> Text<LogLevel> {
    Text {
        allowed: "\"trace\", \"debug\", \"info\", \"warn\" or \"error\"",
        secret: false,
        read: |text| LogLevel::named(text).ok_or_else(String::new),
        show: |level| Some(level.as_str().to_owned()),
    }
}

/// The address of a Postgres database with its password, or nothing.
pub(super) fn postgres_dsn() -> Text<Option<Secret>> {
    Text {
        allowed: "a URL such as \"postgres://user:password@localhost:5432/moltrade\"",
        secret: true,
        read: |text| match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(Some(Secret::new(text))),
            Ok(_) => Err("its scheme is not postgres://".to_owned()),
            Err(_) => Err("it is not a URL".to_owned()),
        },
        show: |dsn| dsn.as_ref().map(Secret::to_string),
    }
}

/// What admits to the API's changing calls, or nothing. It travels in a header, so it is visible ASCII.
pub(super) fn admin_token() -> Text<Option<Secret>> {
    Text {
        allowed: "16 to 512 characters of visible ASCII without spaces, such as `openssl rand -hex 32` prints",
        secret: true,
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
pub(super) fn secret_key() -> Text<Option<SecretKey>> {
    Text {
        allowed: "64 hex digits, or nsec1… (NIP-19)",
        secret: true,
        read: |text| text.parse().map(Some).map_err(|fault: super::InvalidKey| fault.to_string()),
        show: |key| key.as_ref().map(SecretKey::to_string),
    }
}

/// A file with a Nostr secret key, which is read at once, or nothing.
pub(super) fn secret_key_file() -> Text<Option<KeyFile>> {
    Text {
        allowed: "the path of a file of mode 600 or 400 that holds 64 hex digits or nsec1… (NIP-19)",
        // Somebody will put the key itself here.
        secret: true,
        read: |text| path(text).and_then(|path| KeyFile::read(&path)).map(Some),
        show: |file| file.as_ref().map(|file| file.path.display().to_string()),
    }
}

/// A list whose items obey one rule; an item that is listed twice counts once.
pub(super) struct List<R, C> {
    item: R,
    items_max: usize,
    collection: PhantomData<fn() -> C>,
}

/// A list of at most `items_max`.
pub(super) fn list<R, C>(item: R, items_max: usize) -> List<R, C> {
    List { item, items_max, collection: PhantomData }
}

impl<R, C> Rule for List<R, C>
where
    R: Rule,
    R::Value: Ord + Clone,
    C: FromIterator<R::Value>,
    for<'a> &'a C: IntoIterator<Item = &'a R::Value>,
{
    type Value = C;

    fn read(&self, raw: &Raw) -> Result<C, Vec<Mismatch>> {
        let Kind::List(items) = &raw.kind else { return self.mismatch(raw) };
        if items.len() > self.items_max {
            let what = format!("found {} items; allowed: {}", items.len(), self.allowed());
            return Err(vec![Mismatch { offset: raw.offset, what }]);
        }
        let (mut values, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for item in items {
            match self.item.read(item) {
                Ok(value) if seen.insert(value.clone()) => values.push(value),
                Ok(_) => {}
                Err(fault) => faults.extend(fault),
            }
        }
        if faults.is_empty() { Ok(values.into_iter().collect()) } else { Err(faults) }
    }

    fn show(&self, values: &C) -> Option<String> {
        const COLUMNS: usize = 80;
        let items: Vec<String> = values.into_iter().filter_map(|value| self.item.show(value)).collect();
        let line = format!("[{}]", items.join(", "));
        if line.len() <= COLUMNS { Some(line) } else { Some(format!("[\n    {},\n]", items.join(",\n    "))) }
    }

    fn allowed(&self) -> String {
        format!("a list of at most {} items, each {}", self.items_max, self.item.allowed())
    }

    fn shape(&self) -> Shape {
        Shape::List { of_text: self.item.shape() == Shape::Text }
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
