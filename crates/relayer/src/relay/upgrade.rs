//! The client's side of the WebSocket upgrade (RFC 6455, section 4.1).

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::{Position, Url};

/// A response head may not be longer than this.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Why a server does not upgrade.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ended before the response was complete.
    #[error("the connection ended within the response")]
    Ended,
    /// The response is no HTTP, or longer than anybody needs.
    #[error("the response is not HTTP/1.1")]
    NotHttp,
    /// The server answers something else.
    #[error("the server answers {0} instead of 101")]
    Status(u16),
    /// The server agrees, but not to what was asked.
    #[error("the response's {0} header is wrong")]
    Header(&'static str),
}

/// Asks for the upgrade, and gives the bytes that came behind the response.
///
/// # Errors
/// When the server does not agree.
pub async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    url: &Url,
    user_agent: &str,
) -> Result<Vec<u8>, UpgradeError> {
    let key = BASE64.encode(rand::random::<[u8; 16]>());
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: {user_agent}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut response = Vec::with_capacity(1_024);
    loop {
        if stream.read_buf(&mut response).await? == 0 {
            return Err(UpgradeError::Ended);
        }
        if let Some(head) = check(&response, &key)? {
            response.drain(..head);
            return Ok(response);
        }
        if response.len() > HEAD_BYTES_MAX {
            return Err(UpgradeError::NotHttp);
        }
    }
}

/// How many bytes the response's head takes; `None` if it is not complete.
fn check(response: &[u8], key: &str) -> Result<Option<usize>, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = match parsed.parse(response) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(UpgradeError::NotHttp),
    };
    match parsed.code {
        Some(101) => {}
        Some(code) => return Err(UpgradeError::Status(code)),
        None => return Err(UpgradeError::NotHttp),
    }
    let header = |name: &'static str, right: &dyn Fn(&str) -> bool| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let value = found.and_then(|header| std::str::from_utf8(header.value).ok());
        if value.is_some_and(right) { Ok(()) } else { Err(UpgradeError::Header(name)) }
    };
    let accept = accept(key);
    header("Upgrade", &|value| value.eq_ignore_ascii_case("websocket"))?;
    header("Connection", &|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade")))?;
    header("Sec-WebSocket-Accept", &|value| value.trim() == accept)?;
    Ok(Some(head))
}

fn accept(key: &str) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn response(status: &str, headers: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{headers}\r\n")
    }

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn responses_are_judged() {
        let good = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let whole = response("101 Switching Protocols", good);
        assert!(matches!(check(whole.as_bytes(), KEY), Ok(Some(head)) if head == whole.len()));
        assert!(matches!(check(&whole.as_bytes()[..whole.len() - 1], KEY), Ok(None)));
        for (response, expected) in [
            (response("503 Busy", ""), "the server answers 503 instead of 101"),
            ("SSH-2.0-x\r\n\r\n".to_owned(), "the response is not HTTP/1.1"),
            (
                response("101 X", &good.replace("s3p", "s3q")),
                "the response's Sec-WebSocket-Accept header is wrong",
            ),
            (
                response("101 X", &good.replace("WebSocket\r", "h2c\r")),
                "the response's Upgrade header is wrong",
            ),
            (
                response("101 X", &good.replace("keep-alive, Upgrade", "close")),
                "the response's Connection header is wrong",
            ),
        ] {
            let error = check(response.as_bytes(), KEY).expect_err(&response);
            assert_eq!(error.to_string(), expected);
        }
    }
}
