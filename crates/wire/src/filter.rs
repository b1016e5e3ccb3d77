//! NIP-01 filters: parsing, serialisation and matching.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::event::{Tag, VerifiedEvent};
use crate::ids::{ClaimedId, PublicKey};

/// The maximum number of values in one list of a filter.
pub const FILTER_VALUES_MAX: usize = 10_000;

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is not a JSON object.
    #[error("a filter is a JSON object: {0}")]
    NotAnObject(String),
    /// NIP-01 does not define this key.
    #[error("unknown key `{0}`; a filter has ids, authors, kinds, since, until, limit and #<letter>")]
    UnknownKey(String),
    /// A key's value has the wrong form.
    #[error("`{key}` must be {expected}")]
    Value {
        key: String,
        /// The form that the key accepts.
        expected: &'static str,
    },
    /// A list is too long.
    #[error("`{0}` has more than {FILTER_VALUES_MAX} values")]
    TooLong(String),
}

/// A NIP-01 filter. Conditions that are `None` match every event; an empty list matches no event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    ids: Option<Vec<ClaimedId>>,
    authors: Option<Vec<PublicKey>>,
    kinds: Option<Vec<u16>>,
    tags: Vec<(char, Vec<String>)>,
    /// Oldest `created_at`, inclusive.
    pub since: Option<u64>,
    /// Newest `created_at`, inclusive.
    pub until: Option<u64>,
    /// The maximum number of stored events in the answer. The limit does not affect which events
    /// match.
    pub limit: Option<u64>,
}

impl Filter {
    /// A filter that matches every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Matches only these kinds.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = u16>) -> Self {
        self.kinds = Some(sorted(kinds));
        self
    }

    /// Matches only events with these ids.
    pub fn ids(mut self, ids: impl IntoIterator<Item = ClaimedId>) -> Self {
        self.ids = Some(sorted(ids));
        self
    }

    /// Matches only events by these authors.
    pub fn authors(mut self, authors: impl IntoIterator<Item = PublicKey>) -> Self {
        self.authors = Some(sorted(authors));
        self
    }

    /// Reads a filter's JSON.
    ///
    /// # Errors
    /// When the text is not an object, has a key that NIP-01 does not define, has a value of the
    /// wrong form, or has a list of more than [`FILTER_VALUES_MAX`] values.
    pub fn parse(json: &str) -> Result<Self, FilterError> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| FilterError::NotAnObject(error.to_string()))?;
        Self::from_value(&value)
    }

    /// Reads a filter from parsed JSON; see [`parse`](Self::parse).
    ///
    /// # Errors
    /// See [`parse`](Self::parse).
    pub fn from_value(value: &Value) -> Result<Self, FilterError> {
        let members =
            value.as_object().ok_or_else(|| FilterError::NotAnObject("it is of another type".to_owned()))?;
        let mut filter = Self::default();
        for (key, value) in members {
            match key.as_str() {
                "ids" => {
                    filter.ids = Some(list(key, value, "a list of event ids in lower-case hex", |value| {
                        value.as_str()?.parse().ok()
                    })?)
                }
                "authors" => {
                    filter.authors =
                        Some(list(key, value, "a list of public keys in lower-case hex", |value| {
                            value.as_str()?.parse().ok()
                        })?);
                }
                "kinds" => {
                    filter.kinds = Some(list(key, value, "a list of kinds, 0 to 65535", |value| {
                        value.as_u64()?.try_into().ok()
                    })?);
                }
                "since" => filter.since = Some(number(key, value)?),
                "until" => filter.until = Some(number(key, value)?),
                "limit" => filter.limit = Some(number(key, value)?),
                _ => {
                    let letter = tag_letter(key).ok_or_else(|| FilterError::UnknownKey(key.clone()))?;
                    let values =
                        list(key, value, "a list of strings", |value| Some(value.as_str()?.to_owned()))?;
                    filter.tags.push((letter, values));
                }
            }
        }
        filter.tags.sort_unstable(); // The order in which tags were written does not matter for equality.
        Ok(filter)
    }

    /// Whether the event meets all conditions. `limit` is not a condition.
    pub fn matches(&self, event: &VerifiedEvent) -> bool {
        within(self.kinds.as_deref(), &event.kind())
            && within(self.authors.as_deref(), event.pubkey())
            && within(self.ids.as_deref(), &event.id().into())
            && self.since.is_none_or(|since| event.created_at() >= since)
            && self.until.is_none_or(|until| event.created_at() <= until)
            && (self.tags.is_empty() || self.matches_tags(&event.tags()))
    }

    fn matches_tags(&self, tags: &[Tag<'_>]) -> bool {
        self.tags.iter().all(|(letter, wanted)| {
            tags.iter().any(|tag| match tag.as_slice() {
                [name, value, ..] => {
                    name.chars().eq([*letter])
                        && wanted.binary_search_by(|wanted| (**wanted).cmp(&**value)).is_ok()
                }
                _ => false,
            })
        })
    }
}

fn within<T: Ord>(allowed: Option<&[T]>, value: &T) -> bool {
    allowed.is_none_or(|allowed| allowed.binary_search(value).is_ok())
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn tag_letter(key: &str) -> Option<char> {
    let mut rest = key.strip_prefix('#')?.chars();
    rest.next().filter(|letter| letter.is_ascii_alphabetic() && rest.next().is_none())
}

fn number(key: &str, value: &Value) -> Result<u64, FilterError> {
    let wrong = || FilterError::Value { key: key.to_owned(), expected: "a whole number, not negative" };
    value.as_u64().ok_or_else(wrong)
}

fn list<T: Ord>(
    key: &str,
    value: &Value,
    expected: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, FilterError> {
    let wrong = || FilterError::Value { key: key.to_owned(), expected };
    let values = value.as_array().ok_or_else(wrong)?;
    if values.len() > FILTER_VALUES_MAX {
        return Err(FilterError::TooLong(key.to_owned()));
    }
    let values: Option<Vec<T>> = values.iter().map(read).collect();
    values.map(sorted).ok_or_else(wrong)
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(ids) = &self.ids {
            map.serialize_entry("ids", ids)?;
        }
        if let Some(authors) = &self.authors {
            map.serialize_entry("authors", authors)?;
        }
        if let Some(kinds) = &self.kinds {
            map.serialize_entry("kinds", kinds)?;
        }
        for (letter, values) in &self.tags {
            map.serialize_entry(&format!("#{letter}"), values)?;
        }
        for (key, number) in [("since", self.since), ("until", self.until), ("limit", self.limit)] {
            if let Some(number) = number {
                map.serialize_entry(key, &number)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;

    fn matches(filter: &str) -> bool {
        let tags = [["e", "x", "second"], ["t", "nostr", ""], ["long", "y", ""]];
        let tags = tags.map(|tag| tag.map(str::to_owned));
        let event = Signer::from_seed(1).sign(100, 7, &tags, "");
        let filter =
            filter.replace("AUTHOR", &event.pubkey().to_string()).replace("ID", &event.id().to_string());
        Filter::parse(&filter).expect("valid").matches(&event)
    }

    #[test]
    fn every_condition_must_hold() {
        let zeros = format!("{{\"authors\":[\"{}\"]}}", "0".repeat(64));
        for (filter, expected) in [
            ("{}", true),
            (r#"{"kinds":[7]}"#, true),
            (r#"{"kinds":[9,1]}"#, false),
            (r#"{"kinds":[]}"#, false),
            (r#"{"authors":["AUTHOR"]}"#, true),
            (&zeros, false),
            (r#"{"ids":["ID"]}"#, true),
            (r#"{"since":100,"until":100}"#, true),
            (r#"{"since":101}"#, false),
            (r#"{"until":99}"#, false),
            (r##"{"#e":["x"],"#t":["z","nostr"]}"##, true),
            (r##"{"#e":["x"],"#t":["z"]}"##, false),
            (r##"{"#e":["second"]}"##, false),
            (r##"{"#l":["y"]}"##, false),
            (r#"{"kinds":[7],"since":101}"#, false),
            (r#"{"limit":0}"#, true),
        ] {
            assert_eq!(matches(filter), expected, "{filter}");
        }
    }

    #[test]
    fn wrong_filters_are_named() {
        for (filter, message) in [
            ("[]", "JSON object"),
            ("{", "JSON object"),
            (r#"{"kind":[1]}"#, "unknown key `kind`"),
            (r##"{"#tt":["x"]}"##, "unknown key `#tt`"),
            (r#"{"kinds":[70000]}"#, "`kinds` must be"),
            (r#"{"kinds":1}"#, "`kinds` must be"),
            (r#"{"since":-1}"#, "`since` must be"),
            (r#"{"authors":["npub"]}"#, "`authors` must be"),
        ] {
            let error = Filter::parse(filter).expect_err(filter).to_string();
            assert!(error.contains(message), "{filter}: {error}");
        }
        let long = serde_json::json!({ "kinds": vec![1; FILTER_VALUES_MAX + 1] }).to_string();
        assert_eq!(Filter::parse(&long), Err(FilterError::TooLong("kinds".to_owned())));
    }
}
