//! What must hold for every input, with one function for each parser. Property tests call these
//! functions with generated inputs, and the fuzz targets (`fuzz/`) with inputs that the fuzzer
//! finds.
//!
//! A check never asks the crate for the expected result: ids are recomputed with a serialisation
//! written here character by character, fields are read with `serde_json::Value`, and filters are
//! matched by [`matches`], which uses only the two JSON texts.

use std::cell::RefCell;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wire::websocket::{DecodeError, Decoded, Decoder, Message, SKIPPED_HEAD_BYTES};
use wire::{
    ClientMessage, Filter, RelayMessage, Scan, Signer, UnverifiedEvent, VerifiedEvent, Verifier, VerifyError,
    author, first_value, scan,
};

thread_local! {
    static SIGNER: Signer = Signer::from_seed(1);
    static VERIFIER: RefCell<Verifier> = RefCell::new(Verifier::new());
}

/// A scan extracts the same event and subscription as the parsers, and returns the parsed id. If
/// the event does not parse, the scan returns the first `id` of the object.
pub fn frame(frame: &[u8]) {
    let Scan::Event { subscription, claimed, event } = scan(frame) else { return };
    let event = first_value(event);
    if let Ok(parsed) = UnverifiedEvent::parse(event) {
        assert_eq!(parsed.id, claimed, "the scan names another id than the parser");
        let author = author(event).unwrap_or(parsed.pubkey);
        assert_eq!(parsed.pubkey, author, "the scan names another author than the parser");
    }
    if let Ok(FirstId(id)) = serde_json::from_slice(event) {
        assert_eq!(id, Some(claimed.to_string().into()), "the scan names another id than the object");
    }
    if let Ok(message) = RelayMessage::parse(frame) {
        let RelayMessage::Event { subscription: parsed_subscription, event: parsed_event } = message else {
            panic!("scanned as an event, parsed as {message:?}");
        };
        assert_eq!(subscription, parsed_subscription.as_bytes());
        assert_eq!(event.trim_ascii_end(), parsed_event.as_bytes());
    }
}

/// The value of an object's first member `id`.
struct FirstId(Option<Value>);

impl<'de> Deserialize<'de> for FirstId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = FirstId;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FirstId, A::Error> {
                let mut first = None;
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if key == "id" {
                        first.get_or_insert(value);
                    }
                }
                Ok(FirstId(first))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A parsed event has the fields of its JSON and gets the right verdict. After the event is signed
/// again, writing and parsing its canonical form does not change the event.
pub fn event(json: &[u8]) {
    let Ok(event) = UnverifiedEvent::parse(json) else { return };
    // `serde_json` refuses deep nesting and halves of surrogate pairs, which our parser skips.
    if let Ok(value) = serde_json::from_slice::<Value>(json) {
        same_fields(&event, &value);
    }
    let genuine_id = *event.id.as_bytes() == id_of(&event);
    match VERIFIER.with_borrow_mut(|verifier| verifier.verify(&event)) {
        Ok(verified) => {
            assert!(genuine_id, "verified, but the id is wrong");
            canonical(&verified, &event);
        }
        Err(VerifyError::IdMismatch) => assert!(!genuine_id, "the id is right, but was refused"),
        Err(VerifyError::PublicKeyOffCurve | VerifyError::BadSignature) => assert!(genuine_id),
    }
    let signed = SIGNER.with(|signer| signer.sign(event.created_at, event.kind, &event.tags, &event.content));
    let again = UnverifiedEvent::parse(signed.json()).expect("what is written can be read");
    assert_eq!(VERIFIER.with_borrow_mut(|verifier| verifier.verify(&again)).as_ref(), Ok(&signed));
    assert_eq!(*again.id.as_bytes(), id_of(&again));
    assert_eq!((again.created_at, again.kind), (event.created_at, event.kind));
    assert_eq!((&again.tags, &again.content), (&event.tags, &event.content));
    canonical(&signed, &again);
}

/// The canonical form contains the seven fields of the event and nothing else, and parsing and
/// writing it again does not change it.
fn canonical(verified: &VerifiedEvent, event: &UnverifiedEvent<'_>) {
    let value: Value = serde_json::from_slice(verified.json()).expect("canonical JSON is JSON");
    assert_eq!(value.as_object().map(|members| members.len()), Some(7));
    same_fields(event, &value);
    assert_eq!(verified.id(), event.id);
    assert_eq!(verified.pubkey(), &event.pubkey);
    assert_eq!((verified.created_at(), verified.kind()), (event.created_at, event.kind));
    assert_eq!(verified.tags(), event.tags);
    assert_eq!(VerifiedEvent::from_canonical(verified.json().clone()).as_ref(), Some(verified));
}

fn same_fields(event: &UnverifiedEvent<'_>, value: &Value) {
    assert_eq!(value["id"], event.id.to_string());
    assert_eq!(value["pubkey"], event.pubkey.to_string());
    assert_eq!(value["created_at"], event.created_at);
    assert_eq!(value["kind"], event.kind);
    assert_eq!(value["content"], *event.content);
    assert_eq!(value["sig"], event.sig.to_string());
    let tags = event.tags.iter().map(|tag| tag.iter().map(|value| &**value).collect::<Value>());
    assert_eq!(value["tags"], tags.collect::<Value>());
}

/// NIP-01's id, computed without this crate or a JSON library.
fn id_of(event: &UnverifiedEvent<'_>) -> [u8; 32] {
    fn quote(text: &str) -> String {
        let escape = |character: char| match character {
            '\n' => "\\n".to_owned(),
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\u{8}' => "\\b".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            control if control < ' ' => format!("\\u{:04x}", u32::from(control)),
            other => other.to_string(),
        };
        format!("\"{}\"", text.chars().map(escape).collect::<String>())
    }
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let tags = event.tags.iter().map(|tag| list(tag.iter().map(|value| quote(value)).collect()));
    let UnverifiedEvent { pubkey, created_at, kind, .. } = event;
    let tags = list(tags.collect());
    Sha256::digest(format!("[0,\"{pubkey}\",{created_at},{kind},{tags},{}]", quote(&event.content))).into()
}

/// Writing and parsing a relay's message again yields the same message.
pub fn relay_message(frame: &[u8]) {
    let Ok(message) = RelayMessage::parse(frame) else { return };
    let json = message.to_json();
    assert_eq!(RelayMessage::parse(json.as_bytes()), Ok(message));
}

/// Writing and parsing a client's message again yields the same message.
pub fn client_message(frame: &[u8]) {
    let Ok(message) = ClientMessage::parse(frame) else { return };
    let json = message.to_json();
    assert_eq!(ClientMessage::parse(json.as_bytes()), Ok(message));
}

/// Writing and parsing a filter again yields an equal filter, and the filter agrees with a naive
/// evaluation of its JSON, both for an event that matches and for events that differ in one field.
pub fn filter(json: &str) {
    let Ok(filter) = Filter::parse(json) else { return };
    let written = serde_json::to_string(&filter).expect("filters can be written");
    assert_eq!(Filter::parse(&written).as_ref(), Ok(&filter), "{written}");
    let value: Value = serde_json::from_str(json).expect("what was parsed is JSON");

    let fitting = |key: &str, fallback: u64| value[key].get(0).and_then(Value::as_u64).unwrap_or(fallback);
    let kind = fitting("kinds", 1).try_into().expect("the filter has kinds");
    let created_at = [&value["since"], &value["until"]].into_iter().find_map(Value::as_u64).unwrap_or(5);
    let tags = value.as_object().into_iter().flatten().filter_map(|(key, values)| {
        Some(vec![key.strip_prefix('#')?.to_owned(), values.get(0)?.as_str()?.to_owned()])
    });
    let mut tags: Vec<Vec<String>> = tags.collect();
    let sign = |created_at, kind, tags: &[Vec<String>]| {
        SIGNER.with(|signer| signer.sign(created_at, kind, tags, r#"["t","x"]"#))
    };
    let mut events = vec![
        sign(created_at, kind, &tags),
        sign(created_at, kind.wrapping_add(1), &tags),
        sign(created_at.wrapping_add(1), kind, &tags),
        sign(created_at.wrapping_sub(1), kind, &tags),
    ];
    if let Some(tag) = tags.pop() {
        tags.push(vec![tag[0].clone()]); // A tag without a value meets no condition.
        events.push(sign(created_at, kind, &tags));
    }
    for event in &events {
        filter_matches(&filter, &value, event);
    }
}

/// The filter's verdict on the event equals a naive evaluation of both texts.
pub fn filter_matches(filter: &Filter, filter_json: &Value, event: &VerifiedEvent) {
    let event_json: Value = serde_json::from_slice(event.json()).expect("canonical JSON is JSON");
    assert_eq!(filter.matches(event), matches(filter_json, &event_json), "{filter_json} {event_json}");
}

/// A literal and slow implementation of NIP-01's rules for filters.
fn matches(filter: &Value, event: &Value) -> bool {
    let one_of = |wanted: &Value, value: &Value| wanted.as_array().is_some_and(|list| list.contains(value));
    filter.as_object().into_iter().flatten().all(|(key, wanted)| match key.as_str() {
        "ids" => one_of(wanted, &event["id"]),
        "authors" => one_of(wanted, &event["pubkey"]),
        "kinds" => one_of(wanted, &event["kind"]),
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        "until" => event["created_at"].as_u64() <= wanted.as_u64(),
        "limit" => true,
        tag => event["tags"].as_array().into_iter().flatten().any(|event_tag| {
            event_tag.get(0) == Some(&json!(tag[1..]))
                && event_tag.get(1).is_some_and(|value| one_of(wanted, value))
        }),
    })
}

/// WebSocket frames decode to the same messages however the bytes are split into reads. No frame
/// consumes more bytes than are available, and nothing longer than the limit is returned. A decoder
/// that skips long messages finds the same messages in the same order, and reports the first bytes
/// and the length of long messages.
pub fn websocket(bytes: &[u8], cut: usize) {
    const KEPT_BYTES_MAX: usize = 200;
    const PAYLOAD_BYTES_MAX: usize = 1_300;
    let keeping = || Decoder::new(PAYLOAD_BYTES_MAX);
    let skipping = || Decoder::new(KEPT_BYTES_MAX).skipping(PAYLOAD_BYTES_MAX as u64);
    let whole = decode(&mut keeping(), &[bytes]);
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(whole, decode(&mut keeping(), &[first, second]), "the cut changes what is decoded");
    assert!(whole.0.iter().all(|message| message.payload.len() <= PAYLOAD_BYTES_MAX));

    let skipped = decode(&mut skipping(), &[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(cut.max(1)).collect();
    for reads in [&[first, second][..], &pieces] {
        assert_eq!(skipped, decode(&mut skipping(), reads), "the cut changes what is skipped");
    }
    let (messages, error) = whole;
    let expected = messages.into_iter().map(|mut message| {
        if message.payload.len() > KEPT_BYTES_MAX {
            message.skipped = Some(message.payload.len() as u64);
            message.payload.truncate(SKIPPED_HEAD_BYTES);
        }
        message
    });
    // Neither decoder returned a long message whose end is missing; both report the same error for
    // the rest.
    assert_eq!(skipped, (expected.collect(), error));
}

/// A message that the decoder returned.
#[derive(Debug, PartialEq, Eq)]
struct Handed {
    kind: &'static str,
    payload: Vec<u8>,
    /// The length of the message if it was skipped; the payload is then only the head.
    skipped: Option<u64>,
}

/// Decodes as from a socket: incomplete data waits for the next read.
fn decode(decoder: &mut Decoder, reads: &[&[u8]]) -> (Vec<Handed>, Option<DecodeError>) {
    let (mut messages, mut waiting) = (Vec::new(), Vec::new());
    for read in reads {
        waiting.extend_from_slice(read);
        loop {
            let taken = match decoder.decode(&waiting) {
                Err(error) => return (messages, Some(error)),
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Fragment(taken)) => taken,
                Ok(Decoded::Message(message, taken)) => {
                    let (kind, payload, skipped) = match message {
                        Message::Text(payload) => ("text", payload, None),
                        Message::Binary(payload) => ("binary", payload, None),
                        Message::Skipped { is_text: true, head, bytes } => ("text", head, Some(bytes)),
                        Message::Skipped { is_text: false, head, bytes } => ("binary", head, Some(bytes)),
                        Message::Ping(payload) => ("ping", payload, None),
                        Message::Pong(payload) => ("pong", payload, None),
                        Message::Close(payload) => ("close", payload, None),
                    };
                    messages.push(Handed { kind, payload: payload.to_vec(), skipped });
                    taken
                }
            };
            assert!(taken >= 1 && taken <= waiting.len());
            waiting.drain(..taken);
        }
    }
    (messages, None)
}
