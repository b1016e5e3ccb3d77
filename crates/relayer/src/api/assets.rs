//! Files that the program contains: pages, and the scripts and styles that they load.

use std::borrow::Cow;
use std::fmt::Write;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

/// What a page may load: scripts, styles and data of this server, and nothing else. Pages contain
/// no inline scripts or styles, and no script may turn text into elements or code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file with its version, which changes with its content.
#[derive(Debug)]
pub(super) struct Asset {
    content_type: &'static str,
    content: Cow<'static, str>,
    pub version: String,
}

/// How long a browser may use a file without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caching {
    /// The browser asks each time, and is told if nothing has changed.
    Revalidate,
    /// The URL contains the version, so the file at it never changes.
    Immutable,
}

impl Asset {
    pub fn new(content_type: &'static str, content: impl Into<Cow<'static, str>>) -> Self {
        let content = content.into();
        let hash = digest(&SHA256, content.as_bytes());
        let version = hash.as_ref().iter().take(8).fold(String::new(), |mut version, byte| {
            // Writing to a string cannot fail.
            let _ = write!(version, "{byte:02x}");
            version
        });
        Self { content_type, content, version }
    }

    /// Answers a request for the file.
    pub fn answer(&self, request: &HeaderMap, caching: Caching) -> Response {
        let tag = format!("\"{}\"", self.version);
        let is_known = request.get_all(header::IF_NONE_MATCH).iter().any(|known| {
            let known = known.to_str().unwrap_or_default();
            known.split(',').any(|known| [tag.as_str(), "*"].contains(&known.trim().trim_start_matches("W/")))
        });
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.content.clone().into_response(),
        };
        let cache_control = match caching {
            Caching::Revalidate => "no-cache",
            Caching::Immutable => "public, max-age=31536000, immutable",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
