//! Invariant 2 at the shard: every event passes once, whichever layer recognises its copies.

use moltrade_relayer::ingest::Layer;
use moltrade_relayer::ingest::dedupe::DedupeSizes;
use moltrade_relayer::ingest::shard::Verdict;

use crate::bench::{Bench, genuine};

#[test]
fn a_copy_is_recognised_before_and_after_the_commit() {
    let mut bench = Bench::new();
    let event = genuine(1);
    assert!(matches!(bench.receive(&event), Verdict::New(_)));
    assert_eq!(bench.receive(&event), Verdict::Duplicate(Layer::InFlight));
    bench.commit();
    assert_eq!(bench.receive(&event), Verdict::Duplicate(Layer::Hotset));
}

#[test]
fn old_ids_leave_the_hotset_and_are_found_on_disk_then_in_the_lru() {
    let mut bench = Bench::with_sizes(DedupeSizes { hotset: 1, bloom: 1_000, lru: 100 });
    let events: Vec<String> = (0..60).map(genuine).collect();
    for event in &events {
        assert!(matches!(bench.receive(event), Verdict::New(_)));
    }
    bench.commit();
    assert_eq!(bench.receive(&events[0]), Verdict::Duplicate(Layer::RocksDb));
    assert_eq!(bench.receive(&events[0]), Verdict::Duplicate(Layer::Lru));
    for event in &events {
        assert!(matches!(bench.receive(event), Verdict::Duplicate(_)));
    }
    assert_eq!(bench.logged().len(), events.len());
}

#[test]
fn without_the_bloom_filter_everything_is_still_right() {
    // The state after a start, before the Bloom filter is rebuilt.
    let mut bench = Bench::with_sizes(DedupeSizes { hotset: 1, bloom: 1, lru: 1 });
    for round in 0..2 {
        for number in 0..30 {
            let verdict = bench.receive(&genuine(number));
            assert_eq!(matches!(verdict, Verdict::New(_)), round == 0, "{number} {verdict:?}");
        }
        bench.commit();
    }
}
