//! The forms of events and of WebSocket messages. They are written as text elsewhere, because
//! events are stored as text; `tests/api/description.rs` compares these types with what is sent.

#![expect(dead_code, reason = "these types are only described")]

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::operation::Schemas;
use crate::api::parameter::HEX_32;
use crate::event_log::{Cursor, LogId, Seq};

/// A NIP-01 event. The gateway has verified its id and its signature.
#[derive(Debug, JsonSchema)]
pub(in crate::api) struct Event {
    #[schemars(regex(pattern = HEX_32))]
    id: String,
    #[schemars(regex(pattern = HEX_32))]
    pubkey: String,
    /// Unix seconds.
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
    content: String,
    #[schemars(regex(pattern = "^[0-9a-f]{128}$"))]
    sig: String,
}

/// An event with its place in the log.
#[derive(Debug, JsonSchema)]
pub(in crate::api) struct Envelope {
    seq: Seq,
    log: LogId,
    /// When the first copy arrived, in Unix milliseconds.
    received_at: u64,
    /// The relay that sent the first copy.
    relay: String,
    event: Event,
}

/// A page of the log.
#[derive(Debug, JsonSchema)]
pub(in crate::api) struct EventPage {
    events: Vec<Envelope>,
    /// The `cursor` of the next page.
    next_cursor: Cursor,
    /// The newest sequence. You have reached the end when `next_cursor` equals it.
    head: Cursor,
    log: LogId,
}

/// Acknowledges every event up to a sequence. Only named consumers send it.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    ack: u64,
}

/// A sign of life that carries the cursor, for clients that ask for `heartbeat`.
#[derive(Debug, JsonSchema)]
struct Heartbeat {
    heartbeat: HeartbeatCursor,
}

#[derive(Debug, JsonSchema)]
struct HeartbeatCursor {
    /// Everything for this client up to here has been sent.
    seq: Cursor,
    /// When it was sent, in Unix milliseconds.
    time: u64,
}

/// How a signal is encrypted.
#[derive(Debug, JsonSchema)]
enum Encryption {
    #[serde(rename = "nip44-v2")]
    Nip44,
    #[serde(rename = "nip44-v2-shared-secret")]
    SharedSecret,
}

/// A signal of a bot, encrypted for one follower.
#[derive(Debug, JsonSchema)]
struct Signal {
    seq: Seq,
    log: LogId,
    /// The follower.
    #[schemars(regex(pattern = HEX_32))]
    target_pubkey: String,
    #[schemars(regex(pattern = HEX_32))]
    bot_pubkey: String,
    kind: u16,
    #[schemars(regex(pattern = HEX_32))]
    original_event_id: String,
    /// Unix seconds.
    created_at: u64,
    /// True if the signal is too old to trade on, otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
    encryption: Encryption,
    /// A NIP-44 payload: the JSON of the event.
    ciphertext: String,
}

/// A change of one of the follower's follows.
#[derive(Debug, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Notice {
    /// The follower gets no more signals of this bot.
    Unsubscribed {
        #[schemars(regex(pattern = HEX_32))]
        target_pubkey: String,
        #[schemars(regex(pattern = HEX_32))]
        bot_pubkey: String,
    },
    /// Later signals of this bot have this encryption.
    SecretChanged {
        #[schemars(regex(pattern = HEX_32))]
        target_pubkey: String,
        #[schemars(regex(pattern = HEX_32))]
        bot_pubkey: String,
        encryption: Encryption,
    },
}

/// NIP-42, before signals: the gateway's challenge, or its answer to the follower's proof.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
enum Authentication {
    /// `["AUTH", challenge]`
    Challenge(String, String),
    /// `["OK", id, accepted, reason]`
    Verdict(String, String, bool, String),
}

/// The messages of a WebSocket.
pub(in crate::api) trait Messages {
    /// Returns the schemas of what the gateway sends, and of what it reads.
    fn describe(schemas: &mut Schemas) -> Value;
}

/// The messages of `/ws`.
#[derive(Debug)]
pub(in crate::api) struct OfEvents;

impl Messages for OfEvents {
    fn describe(schemas: &mut Schemas) -> Value {
        json!({
            "sent": { "oneOf": [
                schemas.of_answer::<Event>(),
                schemas.of_answer::<Envelope>(),
                schemas.of_answer::<Heartbeat>(),
            ] },
            "received": schemas.of_body::<Acknowledgement>(),
        })
    }
}

/// The messages of `/fanout`.
#[derive(Debug)]
pub(in crate::api) struct OfSignals;

impl Messages for OfSignals {
    fn describe(schemas: &mut Schemas) -> Value {
        json!({
            "sent": { "oneOf": [
                schemas.of_answer::<Signal>(),
                schemas.of_answer::<Notice>(),
                schemas.of_answer::<Heartbeat>(),
                schemas.of_answer::<Authentication>(),
            ] },
            "received": { "oneOf": [
                schemas.of_body::<Acknowledgement>(),
                { "type": "array", "prefixItems": [{ "const": "AUTH" }, schemas.of_answer::<Event>()] },
            ] },
        })
    }
}
