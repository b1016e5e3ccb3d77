//! Why a connection ended.

use std::fmt;

use crate::relay::protocol::{ExchangeError, Refusal};
use crate::relay::transport::{DialError, SocketError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DisconnectReason {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Conversation(#[from] ExchangeError),
    #[error("the relay closed the connection{0}")]
    Closed(CloseReason),
    #[error("the relay could not process our authentication: {0}")]
    NotAccepted(String),
    #[error("the relay did not answer a ping")]
    Silent,
    #[error("the relay does not read what we send")]
    NotReading,
    #[error("the relay exceeded its offence budget (forgeries or protocol violations)")]
    Offences,
    #[error("the gateway is stopping")]
    Stopping,
}

/// The reason in a close frame (RFC 6455, section 7.1.5): empty, or `: ` followed by the code and
/// the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CloseReason(Box<str>);

impl CloseReason {
    /// Parses the payload of a close frame.
    pub fn parse(payload: &[u8]) -> Self {
        let Some((code, text)) = payload.split_first_chunk() else { return Self(Box::default()) };
        let code = u16::from_be_bytes(*code);
        match &*Refusal::parse(&String::from_utf8_lossy(text)).text {
            "" => Self(format!(": {code}").into()),
            text => Self(format!(": {code} {text}").into()),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_is_the_relay_text_on_one_line() {
        for (payload, shown) in [
            (&b""[..], "the relay closed the connection"),
            (b"\x03", "the relay closed the connection"),
            (b"\x03\xe8", "the relay closed the connection: 1000"),
            (
                b"\x03\xf0too many\nconnections",
                "the relay closed the connection: 1008 too many\\nconnections",
            ),
            (b"\x0f\xa0\xff", "the relay closed the connection: 4000 \u{fffd}"),
        ] {
            assert_eq!(DisconnectReason::Closed(CloseReason::parse(payload)).to_string(), shown);
        }
    }
}
