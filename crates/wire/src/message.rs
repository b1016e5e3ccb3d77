//! The messages of NIP-01, NIP-42 and NIP-77 in both directions.
//!
//! Reading checks only the form. The event in an `EVENT` message remains text, which
//! [`UnverifiedEvent`](crate::UnverifiedEvent) parses.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::filter::Filter;

/// Why a text is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The text is not a JSON array.
    #[error("not a JSON array")]
    NotAnArray,
    /// The array does not begin with a known message type.
    #[error("unknown message type")]
    UnknownType,
    /// There are too few or too many parts, or a part has the wrong type.
    #[error("wrong parts for this message type")]
    WrongParts,
}

/// What an `EOSE` says about stored events that were not sent (NIP-67). Other hints are ignored,
/// and so is `finish`: a relay that truncates answers unknowingly would send `finish`, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// `more`: the relay has more matching events.
    pub more: bool,
    /// `auth`: more events may match for an authenticated client.
    pub auth: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayMessage<'a> {
    /// An event of a subscription.
    Event {
        /// The subscription's id.
        subscription: Cow<'a, str>,
        /// The event object's text.
        event: &'a str,
    },
    /// The relay has sent the stored events of a subscription.
    Eose {
        /// The subscription's id.
        subscription: Cow<'a, str>,
        /// What the relay says about stored events that were not sent.
        hints: Hints,
    },
    /// The relay ended a subscription.
    Closed {
        /// The subscription's id.
        subscription: Cow<'a, str>,
        /// `prefix: text`.
        reason: Cow<'a, str>,
    },
    /// A text for humans.
    Notice(Cow<'a, str>),
    /// The response to an event that the client sent.
    Ok {
        /// The event's id.
        id: Cow<'a, str>,
        /// Whether the relay accepted the event.
        accepted: bool,
        /// `prefix: text`, or empty.
        reason: Cow<'a, str>,
    },
    /// A NIP-42 challenge.
    Auth {
        /// The challenge to sign.
        challenge: Cow<'a, str>,
    },
    /// One step of a NIP-77 set reconciliation.
    NegMsg {
        /// The reconciliation's id.
        subscription: Cow<'a, str>,
        /// The negentropy message, in hex.
        message: Cow<'a, str>,
    },
    /// The relay ended a NIP-77 set reconciliation.
    NegErr {
        /// The reconciliation's id.
        subscription: Cow<'a, str>,
        /// `prefix: text`.
        reason: Cow<'a, str>,
    },
}

impl<'a> RelayMessage<'a> {
    /// Reads a frame from a relay.
    ///
    /// # Errors
    /// When the frame is not one of these messages.
    pub fn parse(frame: &'a [u8]) -> Result<Self, MessageError> {
        let parts = parts(frame)?;
        let (kind, rest) = parts.split_first().ok_or(MessageError::UnknownType)?;
        match (&*text(kind).map_err(|_| MessageError::UnknownType)?, rest) {
            ("EVENT", [subscription, event, ..]) => {
                Ok(Self::Event { subscription: text(subscription)?, event: event.get() })
            }
            ("EOSE", [subscription, rest @ ..]) => {
                Ok(Self::Eose { subscription: text(subscription)?, hints: Hints::read(rest) })
            }
            ("CLOSED", [subscription]) => {
                Ok(Self::Closed { subscription: text(subscription)?, reason: Cow::Borrowed("") })
            }
            ("CLOSED", [subscription, reason, ..]) => {
                Ok(Self::Closed { subscription: text(subscription)?, reason: text(reason)? })
            }
            ("NOTICE", [notice, ..]) => Ok(Self::Notice(text(notice)?)),
            ("OK", [id, accepted]) => {
                Ok(Self::Ok { id: text(id)?, accepted: flag(accepted)?, reason: Cow::Borrowed("") })
            }
            ("OK", [id, accepted, reason, ..]) => {
                Ok(Self::Ok { id: text(id)?, accepted: flag(accepted)?, reason: text(reason)? })
            }
            ("AUTH", [challenge, ..]) => Ok(Self::Auth { challenge: text(challenge)? }),
            ("NEG-MSG", [subscription, message, ..]) => {
                Ok(Self::NegMsg { subscription: text(subscription)?, message: text(message)? })
            }
            ("NEG-ERR", [subscription, reason, ..]) => {
                Ok(Self::NegErr { subscription: text(subscription)?, reason: text(reason)? })
            }
            ("EVENT" | "EOSE" | "CLOSED" | "NOTICE" | "OK" | "AUTH" | "NEG-MSG" | "NEG-ERR", _) => {
                Err(MessageError::WrongParts)
            }
            _ => Err(MessageError::UnknownType),
        }
    }

    pub fn to_json(&self) -> String {
        match self {
            Self::Event { subscription, event } => format!(r#"["EVENT",{},{event}]"#, quoted(subscription)),
            Self::Eose { subscription, hints } => {
                format!(r#"["EOSE",{}{}]"#, quoted(subscription), hints.to_json())
            }
            Self::Closed { subscription, reason } => {
                format!(r#"["CLOSED",{},{}]"#, quoted(subscription), quoted(reason))
            }
            Self::Notice(notice) => format!(r#"["NOTICE",{}]"#, quoted(notice)),
            Self::Ok { id, accepted, reason } => {
                format!(r#"["OK",{},{accepted},{}]"#, quoted(id), quoted(reason))
            }
            Self::Auth { challenge } => format!(r#"["AUTH",{}]"#, quoted(challenge)),
            Self::NegMsg { subscription, message } => {
                format!(r#"["NEG-MSG",{},{}]"#, quoted(subscription), quoted(message))
            }
            Self::NegErr { subscription, reason } => {
                format!(r#"["NEG-ERR",{},{}]"#, quoted(subscription), quoted(reason))
            }
        }
    }
}

impl Hints {
    /// Reads the hint after the subscription's id, if it is an array of strings.
    fn read(rest: &[&RawValue]) -> Self {
        let hints =
            rest.first().and_then(|hints| serde_json::from_str::<Vec<Cow<'_, str>>>(hints.get()).ok());
        let has = |name| hints.iter().flatten().any(|hint| hint == name);
        Self { more: has("more"), auth: has("auth") }
    }

    const fn to_json(self) -> &'static str {
        match (self.more, self.auth) {
            (false, false) => "",
            (true, false) => r#",["more"]"#,
            (false, true) => r#",["auth"]"#,
            (true, true) => r#",["more","auth"]"#,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Requests stored and future events.
    Req {
        /// The subscription's id, 1 to 64 characters.
        subscription: Cow<'a, str>,
        /// An event matches if any of the filters matches.
        filters: Vec<Filter>,
    },
    /// Ends a subscription.
    Close {
        /// The subscription's id.
        subscription: Cow<'a, str>,
    },
    /// Publishes an event.
    Event {
        /// The event object's text.
        event: &'a str,
    },
    /// Answers a NIP-42 challenge.
    Auth {
        /// The signed event of kind 22242, as text.
        event: &'a str,
    },
    /// Starts a NIP-77 set reconciliation.
    NegOpen {
        /// The reconciliation's id, 1 to 64 characters.
        subscription: Cow<'a, str>,
        /// The events to reconcile.
        filter: Filter,
        /// The first negentropy message, in hex.
        message: Cow<'a, str>,
    },
    /// One step of a NIP-77 set reconciliation.
    NegMsg {
        /// The reconciliation's id.
        subscription: Cow<'a, str>,
        /// The negentropy message, in hex.
        message: Cow<'a, str>,
    },
    /// Ends a NIP-77 set reconciliation.
    NegClose {
        /// The reconciliation's id.
        subscription: Cow<'a, str>,
    },
}

impl<'a> ClientMessage<'a> {
    /// Reads a frame from a client.
    ///
    /// # Errors
    /// When the frame is not one of these messages, or a filter is invalid.
    pub fn parse(frame: &'a [u8]) -> Result<Self, MessageError> {
        let parts = parts(frame)?;
        let (kind, rest) = parts.split_first().ok_or(MessageError::UnknownType)?;
        match (&*text(kind).map_err(|_| MessageError::UnknownType)?, rest) {
            ("REQ", [subscription, filters @ ..]) if !filters.is_empty() => {
                let filters = filters.iter().map(|filter| Filter::parse(filter.get()));
                let filters: Result<_, _> = filters.collect();
                Ok(Self::Req {
                    subscription: subscription_id(subscription)?,
                    filters: filters.map_err(|_| MessageError::WrongParts)?,
                })
            }
            ("CLOSE", [subscription]) => Ok(Self::Close { subscription: subscription_id(subscription)? }),
            ("EVENT", [event]) => Ok(Self::Event { event: event.get() }),
            ("AUTH", [event]) => Ok(Self::Auth { event: event.get() }),
            ("NEG-OPEN", [subscription, filter, message]) => Ok(Self::NegOpen {
                subscription: subscription_id(subscription)?,
                filter: Filter::parse(filter.get()).map_err(|_| MessageError::WrongParts)?,
                message: text(message)?,
            }),
            ("NEG-MSG", [subscription, message]) => {
                Ok(Self::NegMsg { subscription: subscription_id(subscription)?, message: text(message)? })
            }
            ("NEG-CLOSE", [subscription]) => {
                Ok(Self::NegClose { subscription: subscription_id(subscription)? })
            }
            ("REQ" | "CLOSE" | "EVENT" | "AUTH" | "NEG-OPEN" | "NEG-MSG" | "NEG-CLOSE", _) => {
                Err(MessageError::WrongParts)
            }
            _ => Err(MessageError::UnknownType),
        }
    }

    pub fn to_json(&self) -> String {
        match self {
            Self::Req { subscription, filters } => {
                let mut message = format!(r#"["REQ",{}"#, quoted(subscription));
                for filter in filters {
                    message.push(',');
                    message.push_str(&serde_json::to_string(filter).unwrap_or_default());
                }
                message.push(']');
                message
            }
            Self::Close { subscription } => format!(r#"["CLOSE",{}]"#, quoted(subscription)),
            Self::Event { event } => format!(r#"["EVENT",{event}]"#),
            Self::Auth { event } => format!(r#"["AUTH",{event}]"#),
            Self::NegOpen { subscription, filter, message } => format!(
                r#"["NEG-OPEN",{},{},{}]"#,
                quoted(subscription),
                serde_json::to_string(filter).unwrap_or_default(),
                quoted(message)
            ),
            Self::NegMsg { subscription, message } => {
                format!(r#"["NEG-MSG",{},{}]"#, quoted(subscription), quoted(message))
            }
            Self::NegClose { subscription } => format!(r#"["NEG-CLOSE",{}]"#, quoted(subscription)),
        }
    }
}

fn parts(frame: &[u8]) -> Result<Vec<&RawValue>, MessageError> {
    serde_json::from_slice(frame).map_err(|_| MessageError::NotAnArray)
}

fn text<'a>(part: &'a RawValue) -> Result<Cow<'a, str>, MessageError> {
    /// A string, borrowed if it has no escapes.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Text<'a> = serde_json::from_str(part.get()).map_err(|_| MessageError::WrongParts)?;
    Ok(text.0)
}

/// NIP-01 allows ids of 1 to 64 characters. This rule applies only to clients: a relay repeats the
/// client's id.
fn subscription_id(part: &RawValue) -> Result<Cow<'_, str>, MessageError> {
    let id = text(part)?;
    if (1..=64).contains(&id.chars().count()) { Ok(id) } else { Err(MessageError::WrongParts) }
}

fn flag(part: &RawValue) -> Result<bool, MessageError> {
    part.get().parse().map_err(|_| MessageError::WrongParts)
}

fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(frame: &str) -> Result<String, MessageError> {
        RelayMessage::parse(frame.as_bytes()).map(|message| message.to_json())
    }

    fn client(frame: &str) -> Result<String, MessageError> {
        ClientMessage::parse(frame.as_bytes()).map(|message| message.to_json())
    }

    #[test]
    fn messages_read_and_write_alike() {
        for frame in [
            r#"["EVENT","s",{"id":"x"}]"#,
            r#"["EOSE","a\"b"]"#,
            r#"["EOSE","s",["more"]]"#,
            r#"["EOSE","s",["auth"]]"#,
            r#"["EOSE","s",["more","auth"]]"#,
            r#"["CLOSED","s","error: x"]"#,
            r#"["NOTICE","ü"]"#,
            r#"["OK","00",true,""]"#,
            r#"["AUTH","c"]"#,
            r#"["NEG-MSG","n","61"]"#,
            r#"["NEG-ERR","n","blocked: too much"]"#,
        ] {
            assert_eq!(relay(frame).as_deref(), Ok(frame));
        }
        let extended = relay(r#"["EVENT","s",{"id":"x"},{"relay":"tells more"}]"#);
        assert_eq!(extended.as_deref(), Ok(r#"["EVENT","s",{"id":"x"}]"#));
        for frame in [
            r#"["REQ","s",{"kinds":[1,2],"since":3},{}]"#,
            r#"["CLOSE","s"]"#,
            r#"["EVENT",{"id":"x"}]"#,
            r#"["AUTH",{}]"#,
            r#"["NEG-OPEN","n",{"kinds":[1]},"61"]"#,
            r#"["NEG-MSG","n","61"]"#,
            r#"["NEG-CLOSE","n"]"#,
        ] {
            assert_eq!(client(frame).as_deref(), Ok(frame));
        }
    }

    #[test]
    fn hints_that_are_not_understood_say_nothing() {
        for (rest, more) in [
            (r#"["finish","more","x"]"#, true),
            (r#"["m\u006fre"]"#, true),
            ("[]", false),
            (r#"["finish"]"#, false),
            (r#""more""#, false),
            (r#"["more",1]"#, false),
            ("null", false),
            (r#"{"more":true}"#, false),
        ] {
            let frame = format!(r#"["EOSE","s",{rest},"and more"]"#);
            let message = RelayMessage::parse(frame.as_bytes());
            let hints = Hints { more, auth: false };
            assert_eq!(message, Ok(RelayMessage::Eose { subscription: "s".into(), hints }), "{frame}");
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        use MessageError::*;
        for (frame, error) in [
            ("{}", NotAnArray),
            ("[", NotAnArray),
            ("[]", UnknownType),
            ("[7]", UnknownType),
            (r#"["HELLO"]"#, UnknownType),
            (r#"["EVENT","s"]"#, WrongParts),
            (r#"["EOSE",7]"#, WrongParts),
            (r#"["NOTICE","\ud800"]"#, WrongParts),
            (r#"["OK","x","true"]"#, WrongParts),
            (r#"["NEG-MSG","n"]"#, WrongParts),
        ] {
            assert_eq!(relay(frame).err(), Some(error), "{frame}");
        }
        assert_eq!(relay(&"[".repeat(50_000)).err(), Some(NotAnArray));
        let long = format!(r#"["CLOSE","{}"]"#, "s".repeat(65));
        for frame in [
            r#"["REQ","s"]"#,
            r#"["REQ","s",{"kind":1}]"#,
            r#"["REQ","",{}]"#,
            r#"["CLOSE"]"#,
            r#"["NEG-OPEN","n",{}]"#,
            &long,
        ] {
            assert_eq!(client(frame).err(), Some(WrongParts), "{frame}");
        }
    }
}
