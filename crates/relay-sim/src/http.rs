//! HTTP before a connection becomes a WebSocket: parses requests and writes responses.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The maximum size of a request.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// The bytes are not a request that a relay accepts.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRequest;

/// A client's HTTP request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The path, without a query.
    pub path: String,
    /// `Host`: the relay's name as the client wrote it.
    pub host: String,
    /// `Sec-WebSocket-Key`, if the client wants a WebSocket.
    pub key: Option<String>,
    /// `Accept`.
    pub accept: String,
    /// `User-Agent`, if present.
    pub user_agent: Option<String>,
}

/// Removes an HTTP request without a body from the bytes, if the request is complete.
///
/// # Errors
/// When the request is not a GET, or is too long.
pub fn take_request(bytes: &mut Vec<u8>) -> Result<Option<Request>, BadRequest> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > REQUEST_BYTES_MAX { Err(BadRequest) } else { Ok(None) };
    };
    let head: Vec<u8> = bytes.drain(..end + 4).collect();
    let head = String::from_utf8(head).map_err(|_| BadRequest)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else { return Err(BadRequest) };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut request = Request { path, ..Request::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "host" => request.host = value,
            "accept" => request.accept = value,
            "sec-websocket-key" => request.key = Some(value),
            "user-agent" => request.user_agent = Some(value),
            _ => {}
        }
    }
    Ok(Some(request))
}

/// The response that upgrades the connection to a WebSocket.
pub fn upgrade_response(key: &str) -> String {
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    let accept = BASE64_STANDARD.encode(digest.bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A response that ends the connection.
pub fn response(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_rfc_6455() {
        let mut bytes =
            b"GET /r/3?x=1 HTTP/1.1\r\nHost: x:1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest"
                .to_vec();
        let request = take_request(&mut bytes).expect("valid").expect("complete");
        assert_eq!((request.path.as_str(), bytes.as_slice()), ("/r/3", &b"rest"[..]));
        assert_eq!((request.host.as_str(), request.user_agent), ("x:1", None));
        let response = upgrade_response(&request.key.expect("a WebSocket"));
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert_eq!(take_request(&mut b"GET / HTTP".to_vec()), Ok(None));
        assert_eq!(take_request(&mut b"POST / HTTP/1.1\r\n\r\n".to_vec()), Err(BadRequest));
    }
}
