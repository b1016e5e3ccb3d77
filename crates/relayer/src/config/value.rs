//! Unchecked values. Those from TOML and those from the environment have the same type.

use toml::Spanned;
use toml::de::DeValue;

use super::error::printable;
use super::rules::Shape;

/// A value as it was written, with its position in the file. The position of a value from the
/// environment is meaningless.
pub(super) type Raw<'a> = Spanned<DeValue<'a>>;

/// Reads the text of an environment variable.
pub(super) fn from_environment(text: &str, shape: Shape) -> Raw<'_> {
    let trimmed = text.trim();
    let verbatim = || Spanned::new(0..0, DeValue::String(text.into()));
    let as_toml = || DeValue::parse(trimmed).unwrap_or_else(|_| verbatim());
    match shape {
        Shape::Text => verbatim(),
        Shape::Plain => as_toml(),
        Shape::List { .. } if trimmed.starts_with('[') => as_toml(),
        Shape::List { of_text } => {
            let item = if of_text { Shape::Text } else { Shape::Plain };
            let between = |c: char| matches!(c, ',' | ';') || c.is_whitespace();
            let items = trimmed.split(between).filter(|item| !item.is_empty());
            let items = items.map(|text| from_environment(text, item)).collect();
            Spanned::new(0..0, DeValue::Array(items))
        }
    }
}

/// Describes a value for an error message.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) => printable(&number.to_string()),
        DeValue::String(text) => format!("\"{}\"", printable(&without_password(text))),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Float(_) => "a number with a fraction".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
    }
}

/// Hides what may be a secret in `scheme://user:password@host/path?query`: even a refused URL must
/// not put a password into a log. The text need not be a URL.
fn without_password(text: &str) -> String {
    let (before, query) = text.split_once('?').map_or((text, ""), |(before, _)| (before, "?***"));
    let hidden = match before.split_once("://") {
        // An `@` after the question mark means that the password contains both characters.
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
