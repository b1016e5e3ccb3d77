//! Fetches a relay's NIP-11 document over HTTP/1.1.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::{Position, Url};

use super::dial::DialError;
use super::instance::InstanceId;
use crate::limits::{INFORMATION_BYTES_MAX, INFORMATION_TIMEOUT, RELAY_HEAD_BYTES_MAX, RELAY_HEADERS_MAX};
use crate::net::Stream;
use crate::relay::information::{Information, NotAnObject};

/// Why the NIP-11 document of a relay is not available.
#[derive(Debug, thiserror::Error)]
pub enum InformationError {
    /// The relay cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server does not speak HTTP, or the connection ended early.
    #[error("HTTP: {}", with_cause(.0))]
    Http(#[from] hyper::Error),
    /// The status is not 200. Redirects are not followed, because they could lead to any address.
    #[error("the server answers {0} instead of 200")]
    Status(u16),
    /// The document is too long.
    #[error("the NIP-11 document has more than {INFORMATION_BYTES_MAX} bytes")]
    TooLong,
    /// The body is not a NIP-11 document.
    #[error(transparent)]
    NotAnObject(#[from] NotAnObject),
    /// The document did not arrive in time.
    #[error("NIP-11: no document within {secs} s", secs = INFORMATION_TIMEOUT.as_secs())]
    Timeout,
}

/// hyper's message says what failed; only the error's source says why.
fn with_cause(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Requests the document over an open connection.
///
/// # Errors
/// If no usable document arrives.
pub(crate) async fn fetch(
    stream: Stream,
    url: &Url,
    user_agent: &str,
    instance: InstanceId,
) -> Result<Information, InformationError> {
    let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(ACCEPT, "application/nostr+json")
        .header(USER_AGENT, user_agent)
        .header(CONNECTION, "close")
        .header(InstanceId::HEADER, instance.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|_| DialError::Url)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(RELAY_HEADERS_MAX)
        .max_header_size(RELAY_HEAD_BYTES_MAX)
        .max_buf_size(INFORMATION_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // The spawned task drives the connection and is aborted when this function returns.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    let ours = response.headers().get(InstanceId::HEADER).is_some_and(|id| instance.is(id.as_bytes()));
    match response.status() {
        status if ours || status == InstanceId::REFUSAL => Err(DialError::Ourselves.into()),
        StatusCode::OK => Ok(Information::parse(&body(response).await?)?),
        status => Err(InformationError::Status(status.as_u16())),
    }
}

/// Reads the whole body, up to the maximum length.
async fn body(response: Response<Incoming>) -> Result<Vec<u8>, InformationError> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len() + data.len() > INFORMATION_BYTES_MAX {
                return Err(InformationError::TooLong);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
