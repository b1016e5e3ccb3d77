//! The client side of the WebSocket upgrade (RFC 6455, section 4.1).

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::{Position, Url};

use super::instance::InstanceId;
use crate::clock::system_time;
use crate::limits::{RELAY_HEAD_BYTES_MAX, RELAY_HEADERS_MAX};
use crate::net::backoff::retry_after;

/// The maximum length of a kept reason phrase. The phrases of the RFC are shorter.
const REASON_CHARS_MAX: usize = 80;

/// The maximum Retry-After. Longer values are not plausible.
const RETRY_AFTER_SECS_MAX: u64 = 24 * 60 * 60;

/// Why the upgrade failed.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection ended before the response was complete.
    #[error("the connection ended within the response")]
    Ended,
    /// The response is not HTTP, or too long.
    #[error("the response is not HTTP/1.1")]
    NotHttp,
    /// The server answered with a status other than 101.
    #[error("the server answers {code}{}{reason} instead of 101", if .reason.is_empty() { "" } else { " " })]
    Status {
        code: u16,
        /// The reason phrase, truncated to one line, control characters escaped.
        reason: Box<str>,
        /// The Retry-After header in seconds, at most a day.
        retry_after_secs: Option<u64>,
    },
    /// The server is this process.
    #[error("the server is this gateway itself")]
    Ourselves,
    /// A header of the 101 response is wrong.
    #[error("the response's {0} header is wrong")]
    Header(&'static str),
}

/// Requests the upgrade, and returns the bytes that came after the response.
///
/// # Errors
/// If the server refuses, or is this `instance`.
pub async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    url: &Url,
    user_agent: &str,
    instance: InstanceId,
) -> Result<Vec<u8>, UpgradeError> {
    let key = BASE64.encode(rand::random::<[u8; 16]>());
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: {user_agent}\r\n\
         {instance_header}: {instance}\r\n\r\n",
        instance_header = InstanceId::HEADER,
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (mut response, mut passed_over) = (Vec::with_capacity(1_024), 0);
    loop {
        match check(&response, &key, instance)? {
            Head::Agrees(head) => {
                response.drain(..head);
                return Ok(response);
            }
            Head::Interim(head) => {
                response.drain(..head);
                passed_over += head;
            }
            Head::Incomplete => {
                if passed_over + response.len() > RELAY_HEAD_BYTES_MAX {
                    return Err(UpgradeError::NotHttp);
                }
                if stream.read_buf(&mut response).await? == 0 {
                    return Err(UpgradeError::Ended);
                }
            }
        }
    }
}

/// What the head of a response says. The numbers are the head's length in bytes.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// The server agreed to the upgrade.
    Agrees(usize),
    /// An interim response, after which another response follows (RFC 9110, section 15.2).
    Interim(usize),
    /// More bytes are needed.
    Incomplete,
}

/// Checks the head at the start of a response.
fn check(response: &[u8], key: &str, instance: InstanceId) -> Result<Head, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; RELAY_HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = match parsed.parse(response) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(Head::Incomplete),
        Err(_) => return Err(UpgradeError::NotHttp),
    };
    let has = |name: &str, right: &dyn Fn(&[u8]) -> bool| {
        parsed.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name) && right(header.value))
    };
    if has(InstanceId::HEADER, &|value| instance.is(value)) {
        return Err(UpgradeError::Ourselves);
    }
    match parsed.code {
        Some(101) => {}
        Some(100..200) => return Ok(Head::Interim(head)),
        Some(InstanceId::REFUSAL) => return Err(UpgradeError::Ourselves),
        Some(_) => return Err(refused(&parsed)),
        None => return Err(UpgradeError::NotHttp),
    }
    let header = |name: &'static str, right: &dyn Fn(&[u8]) -> bool| {
        if has(name, right) { Ok(()) } else { Err(UpgradeError::Header(name)) }
    };
    let accept = accept(key);
    header("Upgrade", &|value| value.eq_ignore_ascii_case(b"websocket"))?;
    header("Connection", &|value| {
        value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    })?;
    header("Sec-WebSocket-Accept", &|value| value.trim_ascii() == accept.as_bytes())?;
    Ok(Head::Agrees(head))
}

/// The error for a server that refuses the upgrade.
fn refused(response: &httparse::Response<'_, '_>) -> UpgradeError {
    let after = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Retry-After"));
    let after = after.and_then(|header| retry_after(std::str::from_utf8(header.value).ok()?, system_time()));
    UpgradeError::Status {
        code: response.code.unwrap_or_default(),
        reason: response.reason.unwrap_or_default().escape_debug().take(REASON_CHARS_MAX).collect(),
        retry_after_secs: after.map(|after| after.as_secs().min(RETRY_AFTER_SECS_MAX)),
    }
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

    #[track_caller]
    fn judge(response: &str) -> Result<Head, UpgradeError> {
        check(response.as_bytes(), KEY, us())
    }

    fn us() -> InstanceId {
        static US: std::sync::OnceLock<InstanceId> = std::sync::OnceLock::new();
        *US.get_or_init(InstanceId::random)
    }

    const GOOD: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn responses_are_judged() {
        let whole = response("101 Switching Protocols", GOOD);
        assert!(matches!(judge(&whole), Ok(Head::Agrees(head)) if head == whole.len()));
        assert!(matches!(judge(&whole[..whole.len() - 1]), Ok(Head::Incomplete)));
        let twice = response("101 X", &format!("Connection: keep-alive\r\n{GOOD}"));
        assert!(matches!(judge(&twice), Ok(Head::Agrees(_))), "one of several headers says it");
        let interim = response("103 Early Hints", "Link: </x>; rel=preload\r\n");
        let followed = judge(&format!("{interim}{whole}"));
        assert!(matches!(followed, Ok(Head::Interim(head)) if head == interim.len()));
        for (response, expected) in [
            (response("503 Busy", ""), "the server answers 503 Busy instead of 101"),
            (response("503", ""), "the server answers 503 instead of 101"),
            ("SSH-2.0-x\r\n\r\n".to_owned(), "the response is not HTTP/1.1"),
            (
                response("101 X", &GOOD.replace("s3p", "s3q")),
                "the response's Sec-WebSocket-Accept header is wrong",
            ),
            (
                response("101 X", &GOOD.replace("WebSocket\r", "h2c\r")),
                "the response's Upgrade header is wrong",
            ),
            (
                response("101 X", &GOOD.replace("keep-alive, Upgrade", "close")),
                "the response's Connection header is wrong",
            ),
        ] {
            let error = judge(&response).expect_err(&response);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_refusal_has_a_short_reason_and_retry_after() {
        for (headers, expected) in [
            ("", None),
            ("Retry-After: 120\r\n", Some(120)),
            ("retry-after:  7 \r\n", Some(7)),
            ("Retry-After: 99999999\r\n", Some(86_400)),
            ("Retry-After: 99999999999999999999999\r\n", Some(86_400)),
            ("Retry-After: -1\r\n", None),
            ("Retry-After: Tue, 14 Nov 2023 22:13:20 GMT\r\n", None),
            ("Retry-After: Fri, 14 Nov 2053 22:13:20 GMT\r\n", Some(86_400)),
        ] {
            let error = judge(&response("429 Too Many Requests", headers)).expect_err("refused");
            let UpgradeError::Status { code: 429, reason, retry_after_secs } = error else {
                panic!("{error}")
            };
            assert_eq!(&*reason, "Too Many Requests");
            assert_eq!(retry_after_secs, expected, "{headers}");
        }
        let long = judge(&response(&format!("500 \t{}", "x".repeat(2_000)), "")).expect_err("refused");
        let shown = long.to_string();
        assert!(shown.contains(r"500 \tx") && shown.chars().all(|char| !char.is_control()), "{shown}");
        assert!(shown.len() < 150, "{shown}");
    }

    #[test]
    fn we_recognise_ourselves() {
        for (status, id, ourselves) in [
            ("508 Loop Detected", None, true),
            ("101 X", Some(us()), true),
            ("403 Forbidden", Some(us()), true),
            ("101 X", Some(InstanceId::random()), false),
        ] {
            let id = id.map(|id| format!("relayer-instance: {id}\r\n")).unwrap_or_default();
            let judged = judge(&response(status, &format!("{GOOD}{id}")));
            assert_eq!(matches!(judged, Err(UpgradeError::Ourselves)), ourselves, "{status} {id}");
        }
    }
}
