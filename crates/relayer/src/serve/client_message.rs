//! Messages of clients. A consumer sends acknowledgements and nothing else; messages of other
//! clients are only signs of life.

use axum::extract::ws::Message;

use crate::event_log::Cursor;
use crate::receiver::ack;

/// A message that a consumer may not send. The text of this error is the close reason, at most 123
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAck {
    /// The message is binary.
    #[error("bad ack: it is binary; send {{\"ack\":N}} as text")]
    Binary,
    /// The text is not an acknowledgement.
    #[error("bad ack: it is not {{\"ack\":N}}")]
    NotAnAck,
    /// The sequence is below the previous acknowledgement, or below the cursor at the start.
    #[error("bad ack: {found} is below your cursor, which is {cursor}")]
    Backwards { found: Cursor, cursor: Cursor },
    /// The sequence is beyond the last event that was sent.
    #[error("bad ack: {found} was not sent to you on this connection; the last is {sent}")]
    NeverSent { found: Cursor, sent: Cursor },
}

/// Returns the acknowledgement in a consumer's message; `None` for a ping or pong. `cursor` is the
/// consumer's cursor, and `sent` the last event that was sent.
pub(super) fn parse_ack(message: &Message, cursor: Cursor, sent: Cursor) -> Result<Option<Cursor>, BadAck> {
    let text = match message {
        Message::Text(text) => text,
        Message::Binary(_) => return Err(BadAck::Binary),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return Ok(None),
    };
    let found = ack::parse(text.as_bytes()).map_err(|ack::NotAnAck| BadAck::NotAnAck)?;
    let found = Cursor::from_number(found);
    if found < cursor {
        return Err(BadAck::Backwards { found, cursor });
    }
    if found > sent {
        return Err(BadAck::NeverSent { found, sent });
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Cursor>, BadAck> {
        parse_ack(&Message::text(text), Cursor::from_number(5), Cursor::from_number(9))
    }

    #[test]
    fn what_was_sent_may_be_acknowledged_repeatedly() {
        for number in 5..=9 {
            assert_eq!(parse(&format!("{{\"ack\":{number}}}")), Ok(Some(Cursor::from_number(number))));
        }
        assert_eq!(parse(" {\"ack\" : 7}\n"), Ok(Some(Cursor::from_number(7))));
        assert!(matches!(parse("{\"ack\":4}"), Err(BadAck::Backwards { .. })));
        assert!(matches!(parse("{\"ack\":10}"), Err(BadAck::NeverSent { .. })));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "7",
            "[7]",
            "{}",
            "{\"ack\":\"7\"}",
            "{\"ack\":7,\"x\":1}",
            "{\"ack\":7}{\"ack\":7}",
            "{\"ack\":7,\"ack\":7}",
            "{\"ack\":7.0}",
            "{\"ack\":-7}",
            "{\"ack\":null}",
            "{\"Ack\":7}",
            "{\"ack\":18446744073709551616}",
        ] {
            assert_eq!(parse(text), Err(BadAck::NotAnAck), "{text}");
        }
        let binary = Message::binary(&b"{\"ack\":7}"[..]);
        assert_eq!(parse_ack(&binary, Cursor::START, Cursor::END), Err(BadAck::Binary));
        let ping = Message::Ping(bytes::Bytes::new());
        assert_eq!(parse_ack(&ping, Cursor::START, Cursor::END), Ok(None));
    }

    #[test]
    fn a_reason_fits_into_a_close() {
        let (cursor, sent) = (Cursor::END, Cursor::END);
        for bad in [
            BadAck::Binary,
            BadAck::NotAnAck,
            BadAck::Backwards { found: cursor, cursor },
            BadAck::NeverSent { found: cursor, sent },
        ] {
            assert!(bad.to_string().len() <= 123, "{bad}");
        }
    }
}
