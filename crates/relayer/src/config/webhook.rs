//! What a request to a sink carries besides its body: signatures (Standard Webhooks), and headers
//! that the operator configures.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;

use super::secret::{Filed, Secret};

/// The secrets that sign requests, at most [`SigningKeys::MAX`]. Every secret signs each request.
///
/// They are written as in Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes, separated
/// by spaces. They are never shown.
#[derive(Clone)]
pub struct SigningKeys {
    written: Secret,
    keys: Vec<hmac::Key>,
}

impl SigningKeys {
    /// Changing a secret takes two. Each secret costs a signature for every request.
    pub const MAX: usize = 4;

    /// The value of `webhook-signature` for a request with this id and time (Unix seconds). Each
    /// secret adds `v1,` and the base64 of HMAC-SHA256 over `id.time.body`.
    pub fn sign(&self, id: &str, time: u64, body: &[u8]) -> String {
        let signatures = self.keys.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{time}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// Why a text is not a valid webhook secret. The error does not quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(&'static str);

impl FromStr for SigningKeys {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let keys: Vec<_> = text.split_whitespace().map(key).collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(InvalidSecret("it is empty")),
            1..=Self::MAX => Ok(Self { written: Secret::new(text), keys }),
            _ => Err(InvalidSecret("it has more than four secrets")),
        }
    }
}

fn key(text: &str) -> Result<hmac::Key, InvalidSecret> {
    let encoded = text.strip_prefix("whsec_").ok_or(InvalidSecret("it does not begin with whsec_"))?;
    let bytes = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| InvalidSecret("the text after whsec_ is not base64 (with its = at the end)"))?;
    match bytes.len() {
        24..=64 => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
        _ => Err(InvalidSecret("it does not hold 24 to 64 bytes")),
    }
}

impl Filed for SigningKeys {
    const CALLED: &'static str = "signing secret";
}

impl PartialEq for SigningKeys {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl fmt::Display for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(***)")
    }
}

/// Headers that the operator configures. Their values may be secrets and are never shown.
#[derive(Clone, PartialEq, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// The headers that an operator cannot configure: the gateway sets them, or they concern the
    /// connection.
    const OURS: [HeaderName; 10] = [
        HeaderName::from_static("relayer-log"),
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::EXPECT,
        header::HOST,
    ];

    /// The headers to send.
    pub const fn map(&self) -> &HeaderMap {
        &self.0
    }

    /// Adds a header.
    ///
    /// # Errors
    /// When the header is not allowed. The error does not quote the value.
    pub(super) fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name: HeaderName = name.parse().map_err(|_| "its name is not valid for a header".to_owned())?;
        if Self::OURS.contains(&name) || name.as_str().starts_with("webhook-") {
            return Err("the gateway sets it itself".to_owned());
        }
        let value = HeaderValue::from_str(value);
        let mut value = value.map_err(|_| "its value has characters that headers cannot have".to_owned())?;
        value.set_sensitive(true);
        match self.0.insert(name, value) {
            None => Ok(()),
            Some(_) => Err("it occurs more than once".to_owned()),
        }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_as_the_specification_does() {
        let keys: SigningKeys = SECRET.parse().unwrap();
        let signed = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two: SigningKeys = format!("whsec_{} {SECRET}", "A".repeat(32)).parse().unwrap();
        let both = two.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert!(both.ends_with(&format!(" {signed}")) && both.matches("v1,").count() == 2, "{both}");
    }

    #[test]
    fn what_is_no_secret_says_why_and_nothing_of_it() {
        for (text, why) in [
            (" ", "it is empty"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "it does not begin with whsec_"),
            ("whsec_é", "the text after whsec_ is not base64 (with its = at the end)"),
            ("whsec_AAAA", "it does not hold 24 to 64 bytes"),
            (&[SECRET; 5].join(" "), "it has more than four secrets"),
        ] {
            assert_eq!(text.parse::<SigningKeys>().expect_err(text).to_string(), why);
        }
        let keys: SigningKeys = SECRET.parse().unwrap();
        assert_eq!(format!("{keys} {keys:?}"), "*** SigningKeys(***)");
    }

    #[test]
    fn headers_are_the_operators_and_not_ours() {
        let mut headers = Headers::default();
        headers.add("Authorization", "Bearer hunter2").unwrap();
        for (name, value) in
            [("authorization", "x"), ("content-type", "x"), ("Webhook-Id", "x"), ("a b", "x"), ("x", "a\nb")]
        {
            assert!(headers.add(name, value).is_err(), "{name}");
        }
        assert_eq!(format!("{headers:?}"), r#"{"authorization"}"#);
    }
}
