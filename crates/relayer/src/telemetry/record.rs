//! The lines of the log as text or as JSON (`[monitoring] log_format`): those of [`tracing`], and
//! those of code that must not use it.
//!
//! A line of JSON has a stable name in `event`, which alerts can match. In the code it is the
//! `name` of the call; a call without a name has no `event`.

use std::fmt::{self, Debug, Display, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on, lines are JSON or text.
pub fn use_json(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
}

/// Whether lines are JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// A line that is logged without `tracing`, because `tracing` has not started or because nothing
/// may be allocated. Its `Display` ends with a newline.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub level: Level,
    /// The module.
    pub target: &'a str,
    /// The stable name.
    pub event: &'static str,
    pub message: fmt::Arguments<'a>,
    /// Only JSON shows them, so the message must contain what matters.
    pub fields: &'a [(&'static str, &'a dyn Display)],
}

impl Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, target, event, message, fields } = self;
        if !is_json() {
            return writeln!(f, "{Now} {level:>5} {target}: {message}");
        }
        begin(f, *level, target, Some(event))?;
        text(f, message)?;
        f.write_str(",\"fields\":{")?;
        for (index, (name, value)) in fields.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            text(f, name)?;
            f.write_str(":")?;
            text(f, value)?;
        }
        f.write_str("}}\n")
    }
}

/// Formats the lines of `tracing`.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if is_json() { write_json(writer, event) } else { self.text.format_event(context, writer, event) }
    }
}

fn write_json(mut out: impl Write, event: &Event<'_>) -> fmt::Result {
    // Lines of the `log` crate have their target in a field.
    let normalized = event.normalized_metadata();
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    // The default name is `event FILE:LINE`, which is not stable.
    let name = Some(metadata.name()).filter(|name| !name.contains(' '));
    begin(&mut out, *metadata.level(), metadata.target(), name)?;
    out.write_str("\"")?;
    let mut message = Message { out: &mut out, result: Ok(()) };
    event.record(&mut message);
    message.result?;
    out.write_str("\",\"fields\":{")?;
    let mut fields = Fields { out: &mut out, is_first: true, result: Ok(()) };
    event.record(&mut fields);
    fields.result?;
    out.write_str("}}\n")
}

/// Writes the object up to the value of the message.
fn begin(out: &mut impl Write, level: Level, target: &str, event: Option<&str>) -> fmt::Result {
    write!(out, "{{\"timestamp\":\"{Now}\",\"level\":\"{level}\",\"target\":")?;
    text(out, target)?;
    if let Some(event) = event {
        out.write_str(",\"event\":")?;
        text(out, event)?;
    }
    out.write_str(",\"message\":")
}

/// Writes a JSON string.
fn text(out: &mut impl Write, value: impl Display) -> fmt::Result {
    out.write_str("\"")?;
    write!(Escaped(out), "{value}")?;
    out.write_str("\"")
}

/// Escapes what is written to it for a JSON string. Allocates nothing.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut written = 0;
        for (at, character) in text.char_indices().filter(|(_, character)| is_escaped(*character)) {
            self.0.write_str(text.get(written..at).unwrap_or_default())?;
            match character {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                other => write!(self.0, "\\u{:04x}", u32::from(other))?,
            }
            written = at + character.len_utf8();
        }
        self.0.write_str(text.get(written..).unwrap_or_default())
    }
}

/// Whether a character is escaped: those that JSON requires, and those with which foreign text
/// could deceive a reader of the raw log: all control characters, line separators, and marks that
/// change the direction of text.
const fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '"' | '\\'
            | '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Writes the message of an event.
struct Message<'a, W> {
    out: &'a mut W,
    result: fmt::Result,
}

impl<W: Write> Visit for Message<'_, W> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if is_message(field) && self.result.is_ok() {
            self.result = write!(Escaped(self.out), "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Writes the other fields of an event. Numbers and flags keep their type.
struct Fields<'a, W> {
    out: &'a mut W,
    is_first: bool,
    result: fmt::Result,
}

impl<W: Write> Fields<'_, W> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        // The `log` crate passes its metadata as fields.
        if is_message(field) || field.name().starts_with("log.") || self.result.is_err() {
            return;
        }
        let separator = if std::mem::take(&mut self.is_first) { "" } else { "," };
        self.result = self
            .out
            .write_str(separator)
            .and_then(|()| text(self.out, field.name()))
            .and_then(|()| self.out.write_str(":"))
            .and_then(|()| value(self.out));
    }
}

impl<W: Write> Visit for Fields<'_, W> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |out| text(out, format_args!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |out| text(out, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |out| write!(out, "{value}"));
    }
}

fn is_message(field: &Field) -> bool {
    field.name() == "message"
}

/// Shows the present time (RFC 3339).
struct Now;

impl Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SystemTime.format_time(&mut Writer::new(f))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// Always JSON, because the setting is shared with other tests.
    struct Json;

    impl<S, N> FormatEvent<S, N> for Json
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'w> FormatFields<'w> + 'static,
    {
        fn format_event(&self, _: &FmtContext<'_, S, N>, out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
            write_json(out, event)
        }
    }

    fn logged(log_lines: impl FnOnce()) -> String {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(log.clone()).finish();
        tracing::subscriber::with_default(subscriber, log_lines);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_an_object_with_a_name_and_typed_fields() {
        let text = logged(|| {
            let (reason, consumer) = ("a \"quoted\"\nreason", None::<&str>);
            let millis = 7_u128;
            tracing::warn!(name: "sink_parked", count = 3_u64, by_ms = -5, ok = true, millis, reason, consumer, "parked");
        });
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let timestamp = line["timestamp"].take();
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
        assert_eq!(timestamp.as_str().unwrap().len(), "2026-01-01T00:00:00.000000Z".len());
        assert_eq!(
            line,
            json!({
                "timestamp": null, "level": "WARN", "target": "moltrade_relayer::telemetry::record::tests",
                "event": "sink_parked", "message": "parked",
                "fields": {
                    "count": 3, "by_ms": -5, "ok": true, "millis": 7, "reason": "a \"quoted\"\nreason",
                },
            })
        );
    }

    #[test]
    fn a_line_without_a_name_has_no_event() {
        let line: Value = serde_json::from_str(&logged(|| tracing::error!("x"))).unwrap();
        assert_eq!((&line["message"], line.get("event")), (&json!("x"), None));
    }

    #[test]
    fn every_character_survives_and_none_deceives() {
        for character in '\0'..=char::MAX {
            let hostile = format!("a{character}b");
            let mut out = String::new();
            text(&mut out, &hostile).unwrap();
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), hostile, "{out}");
            assert!(!out.contains(char::is_control), "{out:?}");
        }
        let mut out = String::new();
        text(&mut out, "\u{202e}evil\u{2066}\u{1b}[31m\u{9b}").unwrap();
        assert_eq!(out, r#""\u202eevil\u2066\u001b[31m\u009b""#);
    }

    #[test]
    fn a_hostile_message_stays_on_its_line() {
        let hostile = "x\"}\n{\"level\":\"ERROR\",\"event\":\"panic\"}\r\n\u{2028}";
        let text = logged(|| tracing::info!(relay = %hostile, "notice: {hostile}"));
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["fields"]["relay"], hostile);
        assert_eq!(line["message"], format!("notice: {hostile}"));
    }
}
