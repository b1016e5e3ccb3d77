//! The checker detects every kind of fault.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests say what they expect")]

use relay_sim::{Checker, Delivery, Wrong};
use wire::{Signer, VerifiedEvent, VerifyError};

fn event(number: u64) -> VerifiedEvent {
    Signer::from_seed(1).sign(1_700_000_000 + number, 1, &[] as &[Vec<String>], "x")
}

fn delivery(seq: u64, text: &[u8]) -> Delivery {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let envelope = format!(r#"{{"seq":{seq},"received_at":1,"relay":"wss://r","event":{text}}}"#);
    Delivery::parse(&envelope.into()).expect("an envelope")
}

/// Checks the events with these numbers, delivered with sequence numbers from 1. Events 0, 1 and 2
/// are expected.
fn deliver(numbers: &[u64]) -> Checker {
    let mut checker = Checker::new().expect((0..3).map(event));
    for (seq, number) in (1..).zip(numbers) {
        _ = checker.check(&delivery(seq, event(*number).json()));
    }
    checker
}

#[test]
fn what_is_right_passes() {
    let checker = deliver(&[0, 1, 2]);
    assert!(checker.is_complete() && checker.verdict().passed(), "{}", checker.verdict());
    assert_eq!((checker.verdict().first_seq, checker.verdict().last_seq), (Some(1), Some(3)));
    assert_eq!(checker.verdict().descents, 0);
    let checker = deliver(&[0, 2, 1]);
    assert!(checker.verdict().passed(), "another order is lawful between batches");
    assert_eq!(checker.verdict().descents, 1);
}

#[test]
fn a_missing_event_is_noticed() {
    let checker = deliver(&[0, 2]);
    assert!(!checker.is_complete() && !checker.verdict().passed());
    assert_eq!(checker.verdict().missing, 1);
    assert_eq!(checker.missing(), [event(1).id().into()]);
}

#[test]
fn a_doubled_event_is_noticed() {
    let checker = deliver(&[0, 1, 1, 2]);
    assert_eq!(checker.wrong(), [Wrong::Doubled(event(1).id().into())]);
    assert_eq!((checker.verdict().doubled, checker.verdict().passed()), (1, false));
}

#[test]
fn an_unexpected_event_is_noticed() {
    let checker = deliver(&[0, 1, 2, 3]);
    assert_eq!(checker.wrong(), [Wrong::Unexpected(event(3).id().into())]);
    assert!(checker.is_complete() && !checker.verdict().passed());
}

#[test]
fn forgeries_are_noticed() {
    let genuine = String::from_utf8(event(1).json().to_vec()).expect("UTF-8");
    let signature = genuine.rfind("\"sig\":\"").expect("a signature") + 7;
    let other = if genuine.as_bytes()[signature] == b'0' { "1" } else { "0" };
    let mut bad_signature = genuine.clone();
    bad_signature.replace_range(signature..=signature, other);
    for (text, wrong) in [
        (genuine.replace(r#""content":"x""#, r#""content":"y""#), VerifyError::IdMismatch),
        (bad_signature, VerifyError::BadSignature),
    ] {
        let mut checker = Checker::new().expect((0..3).map(event));
        assert_eq!(checker.check(&delivery(1, text.as_bytes())), Err(Wrong::NotGenuine(wrong)));
        assert_eq!((checker.verdict().not_genuine, checker.verdict().distinct), (1, 0));
        assert_eq!(checker.check(&delivery(2, event(1).json())), Ok(()), "the genuine one is not a double");
    }
    let mut checker = Checker::new();
    assert!(matches!(checker.check(&delivery(1, b"{}")), Err(Wrong::NotAnEvent(_))));
}

#[test]
fn the_sequence_must_ascend_without_gap() {
    let run = |checker: Checker, seqs: &[u64]| {
        let mut checker = checker;
        for (number, seq) in (0..).zip(seqs) {
            _ = checker.check(&delivery(*seq, event(number).json()));
        }
        let verdict = checker.verdict();
        (verdict.not_ascending, verdict.gaps, verdict.passed())
    };
    assert_eq!(run(Checker::new(), &[5, 6, 7]), (0, 0, true));
    assert_eq!(run(Checker::new(), &[5, 7, 8]), (0, 1, false));
    assert_eq!(run(Checker::new().allow_gaps(), &[5, 7, 9]), (0, 0, true));
    assert_eq!(run(Checker::new(), &[5, 6, 6]), (1, 0, false));
    assert_eq!(run(Checker::new().allow_gaps(), &[5, 9, 7, 10]), (1, 0, false));
    assert_eq!(run(Checker::new().after_cursor(4), &[5, 6]), (0, 0, true));
    assert_eq!(run(Checker::new().after_cursor(4), &[6, 7]), (0, 1, false));
}

#[test]
fn counts_are_expected_too() {
    let run = |count| {
        let mut checker = Checker::new().expect_count(count);
        for seq in 1..=3 {
            _ = checker.check(&delivery(seq, event(seq).json()));
        }
        (checker.is_complete(), checker.verdict().missing, checker.verdict().unexpected)
    };
    assert_eq!(run(3), (true, 0, 0));
    assert_eq!(run(4), (false, 1, 0));
    assert_eq!(run(2), (true, 0, 1));
    assert!(!Checker::new().is_complete(), "nothing expected is never complete");
    let ids = Checker::new().expect_ids([event(1).id()]);
    assert_eq!(ids.missing(), [event(1).id().into()]);
}

#[test]
fn latencies_are_ranked() {
    let mut checker = Checker::new();
    assert_eq!(checker.verdict().latency, None);
    (1..=200).rev().for_each(|latency| checker.note_latency_us(latency));
    let latency = checker.verdict().latency.expect("measured");
    assert_eq!((latency.count, latency.p50_us, latency.p99_us, latency.max_us), (200, 100, 198, 200));
}
