//! Hides the secrets of a request if the text of the response repeats them.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use url::Url;

use crate::config::{HttpUrl, RestOptions};
use crate::limits::{ANSWER_SHOWN_MAX, ESCAPES_MAX, SECRET_BYTES_MIN};

/// The secrets in the requests to one sink.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Collects the header values, the query, and those of their parts that sinks repeat: the key
    /// after `Bearer`, the password in `Basic`, the value of a parameter. Very short parts are
    /// ignored: they reveal little and occur in many responses.
    pub(super) fn of(url: &HttpUrl, options: &RestOptions) -> Self {
        let mut secrets = Vec::new();
        for value in options.headers.map().values() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            for part in value.split_whitespace() {
                secrets.push(part.to_owned());
                let user = BASE64_STANDARD.decode(part).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                if let Some((user, (_, password))) =
                    user.as_deref().and_then(|u| Some((u, u.split_once(':')?)))
                {
                    secrets.extend([user.to_owned(), password.to_owned()]);
                }
            }
            secrets.push(value);
        }
        if let Some(query) = url.query() {
            secrets.push(query.to_owned());
            secrets.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
            let pairs = url::form_urlencoded::parse(query.as_bytes());
            secrets.extend(pairs.map(|(_, value)| value.into_owned()));
        }
        secrets.extend(secrets.clone().iter().map(|secret| unescaped(secret).into_owned()));
        // The scheme is not a secret, and sinks name the scheme when a key is missing.
        let is_secret =
            |text: &String| text.len() >= SECRET_BYTES_MIN && !text.eq_ignore_ascii_case("Bearer");
        secrets.retain(is_secret);
        secrets.sort_unstable();
        secrets.dedup();
        Self(secrets)
    }

    /// Returns the beginning of the text on one line, or a note if the text repeats a secret.
    pub(super) fn redact(&self, text: &str) -> String {
        if self.are_in(text) {
            return "(hidden: it repeats a secret of the request)".to_owned();
        }
        let shown: String = text.chars().take(ANSWER_SHOWN_MAX).collect();
        shown.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "")
    }

    /// Returns the target of a redirect, which may be relative to the URL of the request. User,
    /// password, query and fragment are removed, because they may be a third party's secrets.
    /// `None` if the target is invalid.
    pub(super) fn redact_location(&self, asked: &HttpUrl, location: &str) -> Option<String> {
        let mut url = Url::parse(asked.as_str()).ok()?.join(location).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        // Both fail for URLs without a host, which have neither user nor password.
        let is_bare = url.set_username("").and_then(|()| url.set_password(None)).is_ok();
        is_bare.then(|| self.redact(url.as_str()))
    }

    /// Whether the text contains a secret, plain or escaped (even repeatedly) for URLs, JSON or
    /// HTML.
    fn are_in(&self, text: &str) -> bool {
        let mut text = Cow::Borrowed(text);
        for _ in 0..=ESCAPES_MAX {
            if self.0.iter().any(|secret| text.contains(secret)) {
                return true;
            }
            match unescaped(&text) {
                Cow::Borrowed(_) => return false,
                Cow::Owned(plain) => text = Cow::Owned(plain),
            }
        }
        // Text with more layers of escapes is hidden, too.
        true
    }
}

/// Removes one layer of escapes from a text: `%2F`, `\u002f`, `\x2f`, `\/`, `&#47;`, `&#x2F;`,
/// `&amp;`.
fn unescaped(text: &str) -> Cow<'_, str> {
    let mut plain: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        match escape(rest) {
            Some((bytes, length)) => {
                plain
                    .get_or_insert_with(|| text.as_bytes().get(..at).unwrap_or_default().to_vec())
                    .extend(bytes);
                at += length;
            }
            None => {
                if let Some(plain) = &mut plain {
                    plain.extend(rest.first());
                }
                at += 1;
            }
        }
    }
    match plain {
        Some(plain) => Cow::Owned(String::from_utf8_lossy(&plain).into_owned()),
        None => Cow::Borrowed(text),
    }
}

/// Returns the bytes that a leading escape stands for, and the length of the escape.
fn escape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let number = |digits: &[u8], radix| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let character = |code| Some(char::from_u32(code)?.to_string().into_bytes());
    match text {
        [b'%', high, low, ..] => Some((vec![u8::try_from(number(&[*high, *low], 16)?).ok()?], 3)),
        [b'\\', b'u', digits @ ..] => Some((character(number(digits.get(..4)?, 16)?)?, 6)),
        [b'\\', b'x', digits @ ..] => Some((character(number(digits.get(..2)?, 16)?)?, 4)),
        [b'\\', escaped, ..] if escaped.is_ascii_punctuation() => Some((vec![*escaped], 2)),
        [b'&', name @ ..] => {
            let end = name.iter().take(10).position(|byte| *byte == b';')?;
            let bytes = match name.get(..end)? {
                [b'#', b'x' | b'X', digits @ ..] => character(number(digits, 16)?)?,
                [b'#', digits @ ..] => character(number(digits, 10)?)?,
                b"amp" => b"&".to_vec(),
                b"lt" => b"<".to_vec(),
                b"gt" => b">".to_vec(),
                b"quot" => b"\"".to_vec(),
                b"apos" => b"'".to_vec(),
                b"sol" => b"/".to_vec(),
                b"plus" => b"+".to_vec(),
                b"equals" => b"=".to_vec(),
                _ => return None,
            };
            Some((bytes, end + 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tok/en+with/slash=secret99";
    const HIDDEN: &str = "(hidden: it repeats a secret of the request)";

    fn secrets(query: &str, headers: &str) -> (HttpUrl, Secrets) {
        let sink = format!("address = 'https://sink.example/hook{query}'\nheaders = {{ {headers} }}");
        let text = format!("[[output.rest]]\nname = 'a'\n{sink}");
        let file = std::path::Path::new("config.toml");
        let config = crate::config::Config::parse(Some((file, &text)), []).unwrap().config;
        let sink = config.output.rest_sinks().remove(0);
        let secrets = Secrets::of(&sink.address, &sink.options);
        (sink.address, secrets)
    }

    #[test]
    fn a_secret_is_found_in_every_escaped_form() {
        let (_, secrets) = secrets("", &format!("Authorization = 'Bearer {TOKEN}'"));
        for form in [
            TOKEN.to_owned(),
            TOKEN.replace('/', "\\/"),
            TOKEN.replace('+', "\\u002b").replace('=', "\\x3D"),
            TOKEN.replace('+', "&#43;").replace('/', "&#x2F;").replace('=', "&equals;"),
            TOKEN.replace('/', "%2f").replace('+', "%2B"),
            TOKEN.replace('/', "%252F"),
            TOKEN.replace('/', "\\\\\\/"),
            TOKEN.replace('/', "&amp;#47;"),
            TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        ] {
            assert_eq!(secrets.redact(&format!("{{\"got\":\"Bearer {form}\"}}")), HIDDEN, "{form}");
        }
        assert_eq!(secrets.redact(&format!("%{}2F", "25".repeat(9))), HIDDEN, "escaped again and again");
        for harmless in ["no token", "100 %, \\o/ & more; &nbsp; %zz %é \\u12", "tok/en+with/slash"] {
            assert_eq!(secrets.redact(harmless), harmless);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }

    #[test]
    fn parts_of_headers_and_queries_are_secrets_too() {
        let basic = BASE64_STANDARD.encode("user:hunter22");
        let (_, secrets) = secrets("?key=a%2Fb%2Fc%2Fd&x=1", &format!("Authorization = 'Basic {basic}'"));
        for repeated in ["hunter22", &basic, "user:hunter22", "key=a%2Fb", "a/b/c/d", "a\\/b\\/c\\/d"] {
            assert_eq!(secrets.redact(&format!("not {repeated}%2Fc%2Fd&x=1!")), HIDDEN, "{repeated}");
        }
        assert_eq!(secrets.redact("Basic x=1"), "Basic x=1", "short parts are ignored");
    }

    #[test]
    fn a_location_is_shown_without_possible_secrets() {
        let (asked, secrets) = secrets("?key=hunter22", &format!("X-Key = '{TOKEN}'"));
        for (location, shown) in [
            ("https://a.example/x?token=1#y", Some("https://a.example/x")),
            ("https://me:password@a.example:8443/", Some("https://a.example:8443/")),
            ("/other?token=1", Some("https://sink.example/other")),
            ("../b#access=1", Some("https://sink.example/b")),
            ("//a.example", Some("https://a.example/")),
            ("https://a.example/hunter22/x", Some(HIDDEN)),
            ("https://a.example/tok%2Fen+with/slash=secret99", Some(HIDDEN)),
            ("https://[", None),
            ("mailto:me", None),
        ] {
            assert_eq!(secrets.redact_location(&asked, location).as_deref(), shown, "{location}");
        }
        let long = format!("https://a.example/{}", "x".repeat(5_000));
        assert_eq!(secrets.redact_location(&asked, &long).map(|shown| shown.len()), Some(ANSWER_SHOWN_MAX));
    }
}
