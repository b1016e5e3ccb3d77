//! What a client says. A consumer whose cursor we keep acknowledges and says nothing else; what others say means
//! nothing, but that they are there.

use axum::extract::ws::Message;

use crate::event_log::Cursor;
use crate::receiver::ack;

/// What a consumer may not say. The text is the reason of the close, which has room for 123 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAck {
    /// A binary message.
    #[error("bad ack: it is binary; send {{\"ack\":N}} as text")]
    Binary,
    /// A text that is no acknowledgement.
    #[error("bad ack: it is not {{\"ack\":N}}")]
    NotAnAck,
    /// Below the one before it, or the cursor at the beginning.
    #[error("bad ack: {found} is below your cursor, which is {cursor}")]
    Backwards {
        /// The acknowledgement.
        found: Cursor,
        /// Where the consumer is.
        cursor: Cursor,
    },
    /// Beyond what was sent.
    #[error("bad ack: {found} was not sent to you on this connection; the last is {sent}")]
    NeverSent {
        /// The acknowledgement.
        found: Cursor,
        /// The last that was sent, or the cursor at the beginning.
        sent: Cursor,
    },
}

/// What a message acknowledges, of a consumer that is at a cursor and was sent events up to another; `None` of
/// a ping or pong.
///
/// # Errors
/// When it is no acknowledgement, or one that cannot be.
pub fn acknowledged(message: &Message, cursor: Cursor, sent: Cursor) -> Result<Option<Cursor>, BadAck> {
    let text = match message {
        Message::Text(text) => text,
        Message::Binary(_) => return Err(BadAck::Binary),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return Ok(None),
    };
    let found = ack::number(text.as_bytes()).map_err(|ack::NotAnAck| BadAck::NotAnAck)?;
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

    fn said(text: &str) -> Result<Option<Cursor>, BadAck> {
        acknowledged(&Message::text(text), Cursor::from_number(5), Cursor::from_number(9))
    }

    #[test]
    fn what_was_sent_may_be_acknowledged_and_the_same_again() {
        for number in 5..=9 {
            assert_eq!(said(&format!("{{\"ack\":{number}}}")), Ok(Some(Cursor::from_number(number))));
        }
        assert_eq!(said(" {\"ack\" : 7}\n"), Ok(Some(Cursor::from_number(7))));
        assert!(matches!(said("{\"ack\":4}"), Err(BadAck::Backwards { .. })));
        assert!(matches!(said("{\"ack\":10}"), Err(BadAck::NeverSent { .. })));
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
            assert_eq!(said(text), Err(BadAck::NotAnAck), "{text}");
        }
        let binary = Message::binary(&b"{\"ack\":7}"[..]);
        assert_eq!(acknowledged(&binary, Cursor::START, Cursor::END), Err(BadAck::Binary));
        let ping = Message::Ping(bytes::Bytes::new());
        assert_eq!(acknowledged(&ping, Cursor::START, Cursor::END), Ok(None));
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
