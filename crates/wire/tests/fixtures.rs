//! Real events, texts that resemble events, and BIP-340's official vectors (`fixtures/README.md`).
//!
//! `FIXTURES_DIR` names another folder with a larger collection in files of the same names and
//! formats.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use wire::{
    Field, ParseError, PublicKey, RelayMessage, Scan, Signature, UnverifiedEvent, VerifiedEvent, Verifier,
    VerifyError, scan,
};

fn fixture(name: &str) -> String {
    let folder = std::env::var_os("FIXTURES_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures").into());
    let path = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn real_events_verify_and_keep_their_signed_fields() {
    let mut verifier = Verifier::new();
    let (mut events, mut identical) = (0, 0);
    for line in fixture("real-events.jsonl").lines() {
        let event = UnverifiedEvent::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let verified = verifier.verify(&event).unwrap_or_else(|error| panic!("{error}: {line}"));
        let [received, written]: [Value; 2] =
            [line.as_bytes(), verified.json()].map(|json| serde_json::from_slice(json).expect("JSON"));
        assert_eq!(received, written);
        assert_eq!(VerifiedEvent::from_canonical(verified.json().clone()).as_ref(), Some(&verified));
        assert_eq!(verified.tags(), event.tags);

        let frame = RelayMessage::Event { subscription: "s".into(), event: line }.to_json();
        let Scan::Event { claimed, event, .. } = scan(frame.as_bytes()) else {
            panic!("not scanned: {line}")
        };
        assert_eq!(verified.id(), claimed);
        assert_eq!(event, line.as_bytes());
        events += 1;
        identical += usize::from(verified.json() == line);
    }
    println!("{events} real events verified, {identical} of them written byte for byte as they came");
    assert!(events > 100);
}

/// Our verdict on an event that is invalid for the reason given in the collection.
///
/// If an event has several faults, the cheapest check reports first: the fields in their written
/// order, then the id, the key and the signature. An event with a wrong id is therefore an id
/// mismatch, whatever its key and signature: nobody signed *this* event, and the two checks that
/// cost a hundred times more are skipped.
fn expected(reason: &str, event: &Value) -> Refusal {
    match reason {
        // The collection checked the id first. Our parser allows kinds up to 65,535, so an event
        // with a greater kind does not parse.
        "id mismatch; pubkey not on curve" if event["kind"].as_u64() > Some(65_535) => {
            Refusal::Parse(ParseError::Malformed(Field::Kind))
        }
        "bad id hex" => Refusal::Parse(ParseError::Malformed(Field::Id)),
        "bad pubkey hex" => Refusal::Parse(ParseError::Malformed(Field::PublicKey)),
        "created_at not integer" => Refusal::Parse(ParseError::Malformed(Field::CreatedAt)),
        "tags not array of arrays of strings" => Refusal::Parse(ParseError::Malformed(Field::Tags)),
        "id mismatch; pubkey not on curve"
        | "id mismatch; signature VALID for the claimed id"
        | "id mismatch; signature invalid too" => Refusal::Verify(VerifyError::IdMismatch),
        "signature invalid" => Refusal::Verify(VerifyError::BadSignature),
        other => panic!("no such reason: {other}"),
    }
}

#[derive(Debug, PartialEq)]
enum Refusal {
    Parse(ParseError),
    Verify(VerifyError),
}

#[test]
fn invalid_events_are_refused_for_the_right_reason() {
    #[derive(serde::Deserialize)]
    struct Invalid<'a> {
        reason: String,
        #[serde(borrow)]
        event: &'a serde_json::value::RawValue,
    }

    let mut verifier = Verifier::new();
    let mut counts = BTreeMap::<_, usize>::new();
    for line in fixture("invalid-events.jsonl").lines() {
        let Invalid { reason, event } = serde_json::from_str(line).expect("a reason and an event");
        let event = event.get();
        let refusal = match UnverifiedEvent::parse(event.as_bytes()) {
            Err(error) => Refusal::Parse(error),
            Ok(parsed) => match verifier.verify(&parsed) {
                Err(error) => Refusal::Verify(error),
                Ok(_) => panic!("{reason}: verified: {event}"),
            },
        };
        let value = serde_json::from_str(event).expect("JSON");
        assert_eq!(refusal, expected(&reason, &value), "{reason}: {event}");
        *counts.entry(reason).or_default() += 1;
    }
    println!("refused: {counts:#?}");
    assert_eq!(counts.len(), 8, "every reason occurs");
}

#[test]
fn bip340_vectors_agree() {
    let mut verifier = Verifier::new();
    let mut results = BTreeMap::<_, usize>::new();
    for line in fixture("bip340-test-vectors.csv").lines().skip(1) {
        let columns: Vec<&str> = line.split(',').collect();
        let [index, _, pubkey, _, message, sig, result, comment] = columns[..] else { panic!("{line}") };
        // A Nostr id has 32 bytes; BIP-340's other lengths do not occur.
        let Ok(message) = PublicKey::from_hex(message.to_lowercase().as_bytes()) else { continue };
        let pubkey = PublicKey::from_hex(pubkey.to_lowercase().as_bytes()).expect("hex");
        let sig = Signature::from_hex(sig.to_lowercase().as_bytes()).expect("hex");
        let expected = match (result, index) {
            ("TRUE", _) => Ok(()),
            // Keys that are not on the curve, or not below the size of the field.
            ("FALSE", "5" | "14") => Err(VerifyError::PublicKeyOffCurve),
            ("FALSE", _) => Err(VerifyError::BadSignature),
            _ => panic!("{line}"),
        };
        let verified = verifier.verify_signature(&pubkey, message.as_bytes(), &sig);
        assert_eq!(verified, expected, "vector {index}: {comment}");
        *results.entry(result.to_owned()).or_default() += 1;
    }
    println!("BIP-340 vectors of 32-byte messages: {results:?}");
    assert_eq!(results.values().sum::<usize>(), 15);
}
