//! Calls the API of a running gateway, for commands. Its answers may come from another program on
//! the port, so they are bounded, and text from them is made printable. [`web_socket`] opens a
//! WebSocket.

mod web_socket;

use std::future::pending;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use futures_util::future::select_all;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::RootCertStore;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::config::{Config, Secret};
use crate::event_log::LogId;
use crate::limits::DIAL_STEP_TIMEOUT;
use crate::net::tls;
pub(crate) use crate::printable::printable;

pub(crate) use web_socket::Opened;

/// The environment variable with the token that is sent to the gateway.
pub const TOKEN_VARIABLE: &str = "MOLTRADE_RELAYER_TOKEN";

/// The gateway that is asked.
#[derive(Debug)]
pub enum Target<'a> {
    /// The gateway that this configuration describes.
    Configured(&'a Config),
    /// The gateway at this URL.
    Url(&'a str),
}

/// The result of a command that follows a gateway.
#[derive(Debug)]
pub enum End {
    /// As it was asked to.
    Done,
    /// Trying again would not help.
    Failed(String),
    /// The gateway cannot be reached, and the command may not wait for it.
    Unreachable(String),
}

/// The API of a gateway.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    /// The URL, without a slash at its end.
    pub url: String,
    token: Option<Secret>,
}

/// An answer of the gateway.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    /// The identity of the log, if the answer names one.
    pub log: Option<LogId>,
    body: Vec<u8>,
}

/// Parses the URL of a gateway.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write it as http://127.0.0.1:8080"))?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
        return Err("write http:// or https://, a host, and nothing else but a port or a path".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

impl Target<'_> {
    /// The URL, without a slash at its end.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn url(&self) -> Result<String, String> {
        match self {
            Target::Url(url) => parse_url(url).map_err(|why| format!("--url: {why}")),
            Target::Configured(config) => match config.local_api_address() {
                Some(address) => Ok(format!("http://{address}")),
                None => {
                    Err("the port of the gateway is unknown because [output] websocket_port is 0; use --url"
                        .to_owned())
                }
            },
        }
    }
}

impl Remote {
    /// `timeout` limits each call as a whole.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(url: String, token: Option<Secret>, timeout: Duration) -> Result<Self, String> {
        let tls = match url.starts_with("https:") {
            true => tls::client_config(None, 0),
            false => tls::config_of(RootCertStore::empty()),
        };
        let tls = tls.map_err(|error| error.to_string())?;
        let client = Client::builder().tls_backend_preconfigured(tls).redirect(Policy::none()).no_proxy();
        let client = client.connect_timeout(DIAL_STEP_TIMEOUT.min(timeout)).timeout(timeout).build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, url, token })
    }

    /// Makes a call and reads an answer of up to `bytes_max` bytes.
    ///
    /// # Errors
    /// Why there is no answer, or what is wrong with it.
    pub async fn call(&self, method: Method, path: &str, bytes_max: usize) -> Result<Answer, String> {
        read(send(self.request(method, path)).await?, path, bytes_max).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = request.header(CONTENT_TYPE, "application/json");
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }
}

async fn send(request: RequestBuilder) -> Result<Response, String> {
    request.send().await.map_err(|error| {
        let why = match () {
            () if error.is_connect() => "cannot connect",
            () if error.is_timeout() => "it does not answer in time",
            () => "the request failed",
        };
        format!("{why}: {}", causes(&error.without_url()))
    })
}

async fn read(mut response: Response, path: &str, bytes_max: usize) -> Result<Answer, String> {
    let (status, log, mut body) = (response.status(), log_of(&response), Vec::new());
    while let Some(bytes) = response.chunk().await.map_err(|error| causes(&error.without_url()))? {
        body.extend_from_slice(&bytes);
        if body.len() > bytes_max {
            let path = path.split('?').next().unwrap_or_default();
            return Err(format!("its answer to {path} is longer than {bytes_max} bytes"));
        }
    }
    Ok(Answer { status, log, body })
}

fn log_of(response: &Response) -> Option<LogId> {
    response.headers().get(LogId::HEADER).and_then(|id| id.to_str().ok()?.parse().ok())
}

impl Answer {
    /// Parses the body.
    ///
    /// # Errors
    /// When the body is not such JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("its answer is invalid: {error}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns why a call with the token of the environment failed.
    pub fn refusal(&self) -> String {
        let why = self.failure();
        match self.status {
            StatusCode::UNAUTHORIZED => format!(
                "{why}; set {TOKEN_VARIABLE} to the token of one of [[api.readers]], or to the admin_token of [api]"
            ),
            _ => why,
        }
    }

    /// Returns why the call failed: the gateway's message, or the status.
    pub fn failure(&self) -> String {
        let answer: Option<Value> = self.json().ok();
        let message = answer.and_then(|answer| Some(printable(answer.get("message")?.as_str()?, 500)));
        message.unwrap_or_else(|| format!("it answered {}", self.status))
    }
}

/// Waits for one of these signals.
pub(crate) async fn signalled<const KINDS: usize>(kinds: [SignalKind; KINDS]) {
    let wait = |kind| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                // Without a handler, the signal ends the process at once.
                Err(_) => pending().await,
            }
        })
    };
    select_all(kinds.map(wait)).await;
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    printable(&text, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_gateway_and_nothing_else() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://relayer.example/", "https://relayer.example"),
            ("https://relayer.example/behind/", "https://relayer.example/behind"),
        ] {
            assert_eq!(parse_url(text).as_deref(), Ok(url));
        }
        for text in
            ["", "127.0.0.1:8080", "ws://a.example", "http://u:p@a.example", "http://a.example?x", "http://"]
        {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
