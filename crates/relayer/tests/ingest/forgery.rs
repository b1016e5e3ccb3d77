//! Invariant 1: a forged copy never suppresses the genuine event, in any order and under
//! concurrency.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moltrade_relayer::config::Filters;
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::ingest::shard::{Shard, Verdict};
use moltrade_relayer::ingest::{DropReason, Lookup};

use crate::bench::{Bench, altered, badly_signed, genuine};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Forged,
    Genuine,
    Commit,
}

/// All orders of the given steps.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let mut all: Vec<Vec<Step>> = Vec::new();
    for (index, first) in steps.iter().enumerate() {
        let mut rest = steps.to_vec();
        rest.remove(index);
        all.extend(orders(&rest).into_iter().map(|mut order| {
            order.insert(0, *first);
            order
        }));
    }
    all.sort_by_key(|order| format!("{order:?}"));
    all.dedup();
    all
}

#[test]
fn invariant_1_forged_copies_never_suppress_in_any_order() {
    use Step::{Commit, Forged, Genuine};
    let truncated = |genuine: &str| genuine.replace("\"kind\":1,", "");
    type Forge = fn(&str) -> String;
    let forgeries: [(Forge, DropReason); 3] = [
        (altered, DropReason::IdMismatch),
        (badly_signed, DropReason::BadSignature),
        (truncated, DropReason::MissingField),
    ];
    let orders = orders(&[Forged, Forged, Genuine, Genuine, Commit]);
    assert_eq!(orders.len(), 30, "5! / (2! 2!)");
    for (forge, reason) in forgeries {
        for (number, order) in orders.iter().enumerate() {
            let mut bench = Bench::new();
            let genuine = genuine(number as u64);
            let forged = forge(&genuine);
            let mut news = 0;
            for step in order {
                match step {
                    Commit => bench.commit(),
                    Genuine => news += u32::from(matches!(bench.receive(&genuine), Verdict::New(_))),
                    // After the genuine event, a forgery may count as a copy, but no forgery
                    // passes.
                    Forged => match bench.receive(&forged) {
                        Verdict::Dropped(dropped) => assert_eq!(dropped, reason, "{order:?}"),
                        Verdict::Duplicate(_) => assert_eq!(news, 1, "{order:?}"),
                        Verdict::New(_) => panic!("a forged event passed: {order:?}"),
                    },
                }
            }
            bench.commit();
            assert_eq!(news, 1, "{reason:?} {order:?}");
            let logged = bench.logged();
            assert_eq!(logged.len(), 1, "{reason:?} {order:?}");
            assert_eq!(logged[0].json(), genuine.as_bytes(), "{reason:?} {order:?}");
        }
    }
}

#[test]
fn invariant_1_an_id_is_not_seen_before_its_commit() {
    let mut bench = Bench::new();
    let genuine = genuine(1);
    let id = bench.candidate(&genuine).claimed;
    assert!(matches!(bench.receive(&altered(&genuine)), Verdict::Dropped(DropReason::IdMismatch)));
    assert_eq!(bench.dedupe.look_up(&id), Lookup::New);
    assert!(matches!(bench.receive(&genuine), Verdict::New(_)));
    assert_eq!(bench.dedupe.look_up(&id), Lookup::New, "verified, but not committed");
    assert!(!bench.holds(&id));
    bench.commit();
    assert!(matches!(bench.dedupe.look_up(&id), Lookup::Seen(_)));
    assert!(bench.holds(&id));
}

#[test]
fn invariant_1_forged_copies_never_suppress_under_concurrency() {
    const EVENTS: u64 = 200;
    let bench = Bench::new();
    // One shard judges the candidates. Four connections check memory and send candidates in any
    // order.
    let (sender, receiver) = std::sync::mpsc::channel();
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (sender, bench) = (sender.clone(), &bench);
            scope.spawn(move || {
                for number in 0..EVENTS {
                    let genuine = genuine(number);
                    let text = if thread % 2 == 0 { altered(&genuine) } else { genuine };
                    let candidate = bench.candidate(&text);
                    if !matches!(bench.dedupe.look_up(&candidate.claimed), Lookup::Seen(_)) {
                        sender.send(candidate).expect("the shard listens");
                    }
                }
            });
        }
        drop(sender);
        let mut shard = Shard::new(Arc::clone(&bench.dedupe), Admission::shared(&Filters::default()));
        for candidate in receiver {
            match shard.judge(&candidate).expect("the log answers") {
                Verdict::New(event) => {
                    assert!(event.json().ends_with(b"}") && candidate.json.as_ref() == event.json().as_ref());
                    passed.fetch_add(1, Ordering::Relaxed);
                }
                Verdict::Duplicate(_) | Verdict::Dropped(DropReason::IdMismatch) => {}
                Verdict::Dropped(other) => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed) as u64, EVENTS);
}
