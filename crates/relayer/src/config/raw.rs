//! Values before they are checked, the same whether they came from TOML or from the environment.

use toml::Spanned;
use toml::de::DeValue;

use super::error::printable;

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raw {
    pub(super) kind: Kind,
    /// Byte offset in the file; of no meaning for the environment.
    pub(super) offset: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Flag(bool),
    /// `None` if it does not fit into 128 bits; the text is kept for the message.
    Integer(Option<i128>, String),
    Text(String),
    List(Vec<Raw>),
    /// Keys and values, in their order.
    Table(Vec<Member>),
    /// Something that no key takes: a float, a date.
    Other(&'static str),
}

/// A key of a table, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    /// As [`Raw::offset`], of the key.
    pub(super) offset: usize,
    pub(super) value: Raw,
}

/// How the text of an environment variable is read: it has no syntax of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Number or flag, as TOML writes it.
    Plain,
    /// Text, as it is.
    Text,
    /// A TOML array, or items separated by commas, semicolons or white space.
    List { of_text: bool },
}

impl Raw {
    /// From a parsed file.
    pub(super) fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let kind = match value.get_ref() {
            DeValue::Boolean(flag) => Kind::Flag(*flag),
            DeValue::Integer(number) => {
                Kind::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok(), number.to_string())
            }
            DeValue::String(text) => Kind::Text(text.to_string()),
            DeValue::Array(items) => Kind::List(items.iter().map(Self::from_toml).collect()),
            DeValue::Float(_) => Kind::Other("a number with a fraction"),
            DeValue::Datetime(_) => Kind::Other("a date"),
            DeValue::Table(members) => Kind::Table(
                members
                    .iter()
                    .map(|(key, value)| Member {
                        key: key.get_ref().to_string(),
                        offset: key.span().start,
                        value: Self::from_toml(value),
                    })
                    .collect(),
            ),
        };
        Self { kind, offset: value.span().start }
    }

    /// From the text of an environment variable.
    pub(super) fn from_environment(text: &str, shape: Shape) -> Self {
        let trimmed = text.trim();
        let as_toml = || DeValue::parse(trimmed).ok().map(|value| Self::from_toml(&value));
        let verbatim = |text: &str| Self { kind: Kind::Text(text.to_owned()), offset: 0 };
        match shape {
            Shape::Text => verbatim(text),
            Shape::Plain => as_toml().unwrap_or_else(|| verbatim(text)),
            Shape::List { .. } if trimmed.starts_with('[') => as_toml().unwrap_or_else(|| verbatim(text)),
            Shape::List { of_text } => {
                let item = if of_text { Shape::Text } else { Shape::Plain };
                let between = |c: char| matches!(c, ',' | ';') || c.is_whitespace();
                let items = trimmed.split(between).filter(|item| !item.is_empty());
                Self {
                    kind: Kind::List(items.map(|text| Self::from_environment(text, item)).collect()),
                    offset: 0,
                }
            }
        }
    }

    /// The value as a message names it.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Flag(flag) => flag.to_string(),
            Kind::Integer(_, text) => printable(text),
            Kind::Text(text) => format!("\"{}\"", printable(&without_password(text))),
            Kind::List(_) => "a list".to_owned(),
            Kind::Table(_) => "a table".to_owned(),
            Kind::Other(what) => (*what).to_owned(),
        }
    }
}

/// `scheme://user:password@host/path?query` without what may be a secret in it: even a refused URL is not to
/// put a password into a log. It need not be a URL at all.
fn without_password(text: &str) -> String {
    let (before, query) = text.split_once('?').map_or((text, ""), |(before, _)| (before, "?***"));
    let hidden = match before.split_once("://") {
        // A password may have a question mark in it, so that what hides it stands behind that.
        Some((scheme, _)) if !query.is_empty() && text.rfind('@') > Some(before.len()) => {
            format!("{scheme}://***")
        }
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => before.to_owned(),
        },
        None => before.to_owned(),
    };
    hidden + query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_a_url_is_not_described() {
        for (text, shown) in [
            ("http://a.example/x", "http://a.example/x"),
            ("http://me:pass@a.example/x?key=1", "http://***@a.example/x?***"),
            ("http://a.example/n?user=a@b.example&token=SECRET", "http://***?***"),
            ("http://me:pa?ss@a.example/", "http://***?***"),
            ("a.example/n?token=SECRET", "a.example/n?***"),
            ("https:a.example/n?token=SECRET", "https:a.example/n?***"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
