//! The NIP-11 document: what a relay says about itself, as far as we use it.

use std::collections::HashMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The maximum length of a text that is only displayed.
const TEXT_CHARS_MAX: usize = 100;

/// The length of the shortest `REQ`. A smaller stated maximum is ignored.
const MESSAGE_BYTES_MIN: u32 = 128;

/// The fields of a NIP-11 document that we act on or display.
///
/// None of these fields is verified, and any may be absent. Absent fields are omitted from the
/// stored JSON, so ten thousand documents stay small on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Information {
    /// The maximum number of events in the answer to one filter. The relay lowers a larger `limit`
    /// to this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_limit: Option<NonZeroU32>,
    /// The maximum number of events in the answer to a filter without a `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_limit: Option<NonZeroU32>,
    /// How many subscriptions one connection may have open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_subscriptions: Option<NonZeroU32>,
    /// How many filters one `REQ` may have. NIP-11 no longer lists this field, but relays still
    /// send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_filters: Option<NonZeroU32>,
    /// The maximum length of a message to the relay, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_message_length: Option<NonZeroU32>,
    /// The relay serves nothing before NIP-42 authentication.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) auth_required: bool,
    /// The relay requires payment.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) payment_required: bool,
    /// The relay supports NIP-77.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negentropy: bool,
    /// The name of the software: at most 100 characters, control characters escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<Box<str>>,
    /// The version of the software, bounded and escaped in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Box<str>>,
}

/// The document is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not a JSON object, which NIP-11 requires")]
pub struct NotAnObject;

/// The fields of a JSON object as raw text, so that one invalid field does not affect the others.
type Fields<'a> = HashMap<String, &'a RawValue>;

impl Information {
    /// Parses a document. Fields with a wrong type or an impossible value are treated as absent.
    ///
    /// # Errors
    /// If the document is not a JSON object.
    pub fn parse(document: &[u8]) -> Result<Self, NotAnObject> {
        let fields: Fields<'_> = serde_json::from_slice(document).map_err(|_| NotAnObject)?;
        let limits: Fields<'_> = field(&fields, "limitation").unwrap_or_default();
        let nips: Vec<&RawValue> = field(&fields, "supported_nips").unwrap_or_default();
        let says = |name| field(&limits, name).unwrap_or(false);
        Ok(Self {
            max_limit: count(&limits, "max_limit"),
            default_limit: count(&limits, "default_limit"),
            max_subscriptions: count(&limits, "max_subscriptions"),
            max_filters: count(&limits, "max_filters"),
            max_message_length: count(&limits, "max_message_length")
                .filter(|bytes| bytes.get() >= MESSAGE_BYTES_MIN),
            auth_required: says("auth_required"),
            payment_required: says("payment_required"),
            negentropy: nips.iter().any(|nip| nip.get() == "77"),
            software: text(&fields, "software"),
            version: text(&fields, "version"),
        })
    }
}

fn field<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// A positive integer, which may be written as `500.0`.
fn count(fields: &Fields<'_>, name: &str) -> Option<NonZeroU32> {
    let number: f64 = field(fields, name)?;
    let whole = number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number);
    if whole { NonZeroU32::new(number as u32) } else { None }
}

fn text(fields: &Fields<'_>, name: &str) -> Option<Box<str>> {
    let text: String = field(fields, name)?;
    let shown: String = text.escape_debug().take(TEXT_CHARS_MAX).collect();
    (!shown.is_empty()).then(|| shown.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Information {
        Information::parse(document.as_bytes()).expect(document)
    }

    /// Checks the stored form of a document.
    #[track_caller]
    fn check(document: &str, expect: &str) {
        let information = parse(document);
        let stored = serde_json::to_string(&information).expect("plain data");
        assert_eq!(stored, expect, "{document}");
        assert_eq!(serde_json::from_str::<Information>(&stored).expect("the same"), information);
    }

    #[test]
    fn fields_that_we_use_are_kept() {
        check(
            r#"{"name": "a relay", "icon": "x", "supported_nips": [1, 11, 77], "software": "strfry", "version": "1.0.4",
                "limitation": {"max_limit": 500, "default_limit": 100, "max_subscriptions": 20, "max_filters": 10,
                    "max_message_length": 131072, "auth_required": true, "payment_required": true, "min_pow_difficulty": 0}}"#,
            r#"{"max_limit":500,"default_limit":100,"max_subscriptions":20,"max_filters":10,"max_message_length":131072,"auth_required":true,"payment_required":true,"negentropy":true,"software":"strfry","version":"1.0.4"}"#,
        );
        check("{}", "{}");
    }

    #[test]
    fn an_invalid_field_is_absent_and_does_not_affect_others() {
        for limitation in [
            r#""max_limit": "500""#,
            r#""max_limit": null"#,
            r#""max_limit": [500]"#,
            r#""max_limit": {"max_limit": 500}"#,
            r#""max_limit": 0"#,
            r#""max_limit": -1"#,
            r#""max_limit": 1.5"#,
            r#""max_limit": 1e999"#,
            r#""max_limit": 4294967296"#,
            r#""max_limit": 99999999999999999999999999"#,
            r#""max_message_length": 3"#,
            r#""auth_required": "yes""#,
            r#""auth_required": 1"#,
        ] {
            check(
                &format!(r#"{{"software": "x", "limitation": {{{limitation}, "default_limit": 7}}}}"#),
                r#"{"default_limit":7,"software":"x"}"#,
            );
        }
        for rest in [
            r#""limitation": []"#,
            r#""limitation": "max_limit""#,
            r#""supported_nips": "77""#,
            r#""supported_nips": {"77": 77}"#,
            r#""supported_nips": [null, "77", [77], 770, 1e999]"#,
            r#""software": 5"#,
            r#""software": """#,
            r#""software": "\ud800""#,
            r#""description": "\ud800", "pubkey": 1e999"#,
        ] {
            check(&format!(r#"{{{rest}, "version": "1"}}"#), r#"{"version":"1"}"#);
        }
        check(r#"{"limitation": {"max_limit": 500.0}}"#, r#"{"max_limit":500}"#);
        check(r#"{"limitation": {"max_limit": 1, "max_limit": 2}}"#, r#"{"max_limit":2}"#);
        check(r#"{"supported_nips": ["x", 77]}"#, r#"{"negentropy":true}"#);
    }

    #[test]
    fn texts_are_truncated_and_escaped() {
        let information = parse("{\"software\": \"a\\u001b[31m\\n\\u202eb\", \"version\": \"vé\"}");
        assert_eq!(information.software.as_deref(), Some(r"a\u{1b}[31m\n\u{202e}b"));
        assert_eq!(information.version.as_deref(), Some("vé"));
        let information = parse(&format!(r#"{{"software": "{}"}}"#, "é".repeat(30_000)));
        assert_eq!(information.software.map(|text| text.chars().count()), Some(TEXT_CHARS_MAX));
    }

    #[test]
    fn a_document_that_is_not_an_object_is_refused() {
        let deep = "[".repeat(60_000);
        for document in ["", "[]", "null", "\"{}\"", "{", "{} {}", "<html>", "\u{feff}{}", deep.as_str()] {
            assert!(Information::parse(document.as_bytes()).is_err(), "{document}");
        }
        assert!(Information::parse(b"{\"name\": \"\xff\"}").is_err());
    }

    #[test]
    fn the_struct_is_small() {
        assert!(size_of::<Information>() <= 56, "{} bytes", size_of::<Information>());
    }
}
