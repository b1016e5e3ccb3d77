//! Decides which web pages may connect to `/ws` and `/fanout`.

use axum::http::{HeaderMap, StatusCode, header};

use super::auth::foreign_origin;
use super::error::ApiError;
use crate::config::{Output, WebOrigin};
use crate::serve::Patience;

#[derive(Debug, Clone)]
pub(crate) struct WebSocketOptions {
    /// Whether `/ws` is served.
    pub(crate) is_enabled: bool,
    /// When a slow or silent client is disconnected.
    pub patience: Patience,
    /// The origins whose pages may connect. Empty: any page may read, and only our own pages may
    /// change a consumer's cursor.
    pub allowed_origins: Vec<WebOrigin>,
}

impl From<&Output> for WebSocketOptions {
    fn from(output: &Output) -> Self {
        Self {
            is_enabled: output.websocket_enabled,
            patience: Patience::from(output),
            allowed_origins: output.allowed_origins.clone(),
        }
    }
}

impl WebSocketOptions {
    /// Whether the web page that makes a request may read events. Browsers send the page's true
    /// origin; other programs can send any origin.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let allowed =
            |origin: &[u8]| self.allowed_origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin);
        self.allowed_origins.is_empty()
            || headers.get_all(header::ORIGIN).iter().all(|origin| allowed(origin.as_bytes()))
    }

    /// Whether a request that is [allowed](Self::allows) may also change something. If the list of
    /// origins is empty, only pages with our own origin may.
    pub(super) fn allows_change(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match foreign_origin(headers) {
            Some(origin) if self.allowed_origins.is_empty() => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                format!(
                    "a page of {origin} connects with `consumer`, which moves a cursor that the gateway keeps, and no \
                     pages may do that while [output] allowed_origins is empty; name the origin there, written as \
                     browsers send it (https://app.example), or connect without `consumer`"
                ),
            )),
            _ => Ok(()),
        }
    }
}
