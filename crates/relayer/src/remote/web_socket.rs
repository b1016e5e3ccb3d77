//! A WebSocket of the gateway, over the same client as other calls: same TLS, same token, and a
//! refusal is an ordinary answer.

use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Method, StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Answer, Remote, causes, log_of, read, send};
use crate::event_log::LogId;

/// Bytes in one read.
const READ_BYTES: usize = 64 << 10;

/// How the gateway answers a request for a WebSocket.
#[derive(Debug)]
pub(crate) enum Opened {
    Open {
        socket: Box<WebSocketStream<Upgraded>>,
        /// The identity of the log, if the answer names one.
        log: Option<LogId>,
    },
    Refused(Answer),
}

impl Remote {
    /// Opens a WebSocket. Each message, and the body of a refusal, has at most `bytes_max` bytes.
    ///
    /// # Errors When the gateway does not answer, refuses the connection, or its answer is invalid.
    pub async fn web_socket(&self, path: &str, bytes_max: usize) -> Result<Opened, String> {
        let key = generate_key();
        let request = self
            .request(Method::GET, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Opened::Refused(read(response, path, bytes_max).await?));
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|accept| accept.as_bytes());
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err("its answer is not that of a WebSocket server".to_owned());
        }
        let log = log_of(&response);
        let stream = response.upgrade().await.map_err(|error| causes(&error.without_url()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
        Ok(Opened::Open { socket: Box::new(socket), log })
    }
}
