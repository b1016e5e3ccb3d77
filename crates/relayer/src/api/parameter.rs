//! The parameters of paths and query strings. One declaration says how a parameter is called, which
//! values are valid, and how it is described.

use std::fmt::Display;

use serde_json::{Value, json};

use super::query::{QueryError, whole_number};

/// A parameter of a query string, or a header with the same meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub name: &'static str,
    /// The error code for an invalid value.
    pub code: &'static str,
    pub form: Form,
    pub about: &'static str,
}

/// A parameter of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathParameter {
    pub name: &'static str,
    pub form: Form,
    pub about: &'static str,
}

/// The valid values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `SEQ`, or `LOG:SEQ`.
    Cursor,
    /// The name of a consumer.
    Name,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    Count {
        least: usize,
        most: usize,
        /// The value if the parameter is absent; `None` if it then has no effect.
        default: Option<usize>,
    },
    /// A time in Unix seconds.
    Time,
    /// A number of seconds within bounds.
    Seconds {
        least: u64,
        most: u64,
    },
    /// A list of event kinds.
    Kinds,
    /// A list of public keys in hex.
    Authors,
    /// A NIP-01 filter.
    Filter,
    /// A public key in hex or as `npub1…`.
    PublicKey,
    /// An event's id.
    EventId,
    Text,
}

/// 32 bytes in hex.
pub(super) const HEX_32: &str = "^[0-9a-f]{64}$";

/// A public key, in the forms that [`public_key`](crate::nip19::public_key) reads.
pub(super) const PUBLIC_KEY: &str = "^([0-9a-fA-F]{64}|npub1[02-9ac-hj-np-z]{58})$";

impl Parameter {
    /// The error for an invalid value.
    pub fn wrong(&self, expected: impl Display) -> QueryError {
        QueryError::Value { name: self.name, code: self.code, expected: expected.to_string() }
    }

    /// Parses a number within the bounds of [`Form::Count`].
    pub fn count(&self, value: &str) -> Result<usize, QueryError> {
        let Form::Count { least, most, .. } = self.form else {
            return Err(self.wrong("a parameter with bounds"));
        };
        let number = whole_number(value).and_then(|number| usize::try_from(number).ok());
        let expected = format_args!("a number from {least} to {most}");
        number.filter(|count| (least..=most).contains(count)).ok_or_else(|| self.wrong(expected))
    }

    /// Returns the default of [`Form::Count`], or its maximum without a default.
    pub const fn default_count(&self) -> usize {
        match self.form {
            Form::Count { default: Some(default), .. } => default,
            Form::Count { most, .. } => most,
            _ => usize::MAX,
        }
    }

    pub(super) fn description(&self) -> Value {
        described(self.name, "query", self.form, self.about)
    }

    pub(super) fn header_description(&self) -> Value {
        described(self.name, "header", self.form, self.about)
    }
}

impl PathParameter {
    pub(super) fn description(&self) -> Value {
        described(self.name, "path", self.form, self.about)
    }
}

/// Returns the OpenAPI parameter object.
fn described(name: &str, place: &str, form: Form, about: &str) -> Value {
    let is_list = matches!(form, Form::Kinds | Form::Authors | Form::Choices(_));
    let mut described = json!({
        "name": name, "in": place, "required": place == "path", "description": about,
    });
    let (key, value) = match form {
        Form::Filter => ("content", json!({ "application/json": { "schema": form.schema() } })),
        _ => ("schema", form.schema()),
    };
    if let Value::Object(described) = &mut described {
        described.insert(key.to_owned(), value);
        if is_list {
            described.insert("style".to_owned(), "form".into());
            described.insert("explode".to_owned(), false.into());
        }
    }
    described
}

impl Form {
    fn schema(self) -> Value {
        match self {
            Self::Cursor => json!({ "type": "string", "pattern": "^([0-9a-f]{16}:)?[0-9]{1,20}$" }),
            Self::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" }),
            Self::Choice(words) => json!({ "type": "string", "enum": words }),
            Self::Choices(words) => list(json!({ "type": "string", "enum": words })),
            Self::Count { least, most, default: None } => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Self::Count { least, most, default: Some(default) } => {
                json!({ "type": "integer", "minimum": least, "maximum": most, "default": default })
            }
            Self::Time => json!({ "type": "integer", "minimum": 0 }),
            Self::Seconds { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Kinds => list(kind()),
            Self::Authors => list(json!({ "type": "string", "pattern": HEX_32 })),
            Self::Filter => filter(),
            Self::PublicKey => json!({ "type": "string", "pattern": PUBLIC_KEY }),
            Self::EventId => json!({ "type": "string", "pattern": HEX_32 }),
            Self::Text => json!({ "type": "string", "minLength": 1 }),
        }
    }
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

fn kind() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX })
}

/// The filters that [`wire::Filter`] reads.
fn filter() -> Value {
    let list_of =
        |items| json!({ "type": "array", "items": items, "maxItems": wire::filter::FILTER_VALUES_MAX });
    let hex = || list_of(json!({ "type": "string", "pattern": HEX_32 }));
    let time = json!({ "type": "integer", "minimum": 0 });
    json!({
        "type": "object",
        "properties": {
            "ids": hex(), "authors": hex(), "kinds": list_of(kind()),
            "since": time, "until": time, "limit": time,
        },
        "patternProperties": { "^#[A-Za-z]$": list_of(json!({ "type": "string" })) },
        "additionalProperties": false,
    })
}
