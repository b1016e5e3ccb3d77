//! Reading after a cursor, from memory and from disk: no event is missing or read twice.

use moltrade_relayer::event_log::reader::ReadError;
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Cursor, EventLog};
use relay_sim::wait::until;
use std::sync::Arc;
use tempfile::TempDir;

use crate::bench::{Running, events, sized_event};

/// Reads until the cursor is at `last`, and returns the sequence numbers.
async fn read_to(log: &Arc<EventLog>, from: u64, last: u64) -> Vec<u64> {
    let mut reader = log.reader(Cursor::from_number(from));
    let mut seqs = Vec::new();
    while reader.cursor().get() < last {
        let chunk = reader.next().await.expect("readable").expect("open");
        assert!(!chunk.entries().is_empty());
        seqs.extend(chunk.entries().iter().map(|entry| entry.seq.get()));
    }
    seqs
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_sees_an_unbroken_sequence_while_events_arrive() {
    let folder = TempDir::new().expect("a folder");
    let log = Arc::new(Running::open(folder.path()));
    // About 1 MB, several times the tail, so that some readers start on disk.
    const EVENTS: u64 = 3_000;
    let writer = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            for start in (1..=EVENTS).step_by(20) {
                log.send(events(start..start + 20));
            }
        })
    };
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..30 {
        let log = Arc::clone(&log.log);
        readers.spawn(async move {
            // The readers start at different times during the burst, at or below the head.
            until("the head is there", || log.head().get() >= reader * 90).await;
            let head = log.head().get();
            let from = head * (reader % 3) / 2;
            let from = from.min(head);
            assert_eq!(read_to(&log, from, EVENTS).await, (from + 1..=EVENTS).collect::<Vec<_>>());
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.expect("an unbroken sequence");
    }
    writer.join().expect("written");
}

#[tokio::test]
async fn entries_outside_of_the_tail_are_read_from_disk() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    for number in 1..=100 {
        log.append(vec![sized_event(number, 4_000)]);
    }
    assert!(log.log.reader(Cursor::START).next_in_memory().is_none(), "the tail holds 64 KiB");
    assert!(log.log.reader(Cursor::from_number(99)).next_in_memory().is_some());
    assert_eq!(read_to(&log.log, 0, 100).await, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_wait_skips_nothing() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    let mut reader = log.log.reader(Cursor::START);
    {
        let waiting = reader.next();
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("nothing was written"),
            () = std::future::ready(()) => {}
        }
    }
    log.append(events([1, 2]));
    let chunk = reader.next().await.expect("readable").expect("open");
    assert_eq!(chunk.entries()[0].seq.get(), 1);
}

#[tokio::test]
async fn a_reader_ends_when_the_log_is_closed_and_read() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events([1]));
    let mut reader = log.log.reader(Cursor::START);
    let mut waiting = log.log.reader(log.log.head());
    let waiting = tokio::spawn(async move { waiting.next().await.expect("readable").is_none() });
    tokio::task::yield_now().await;
    log.stop();
    assert!(waiting.await.expect("ends"), "it waited at the head");
    assert!(reader.next().await.expect("readable").is_some(), "what is there is still given");
    assert!(reader.next().await.expect("readable").is_none());
}

#[tokio::test]
async fn a_reader_behind_the_floor_gets_an_error() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=20));
    let keep_ten = Retention { age_ms_max: 9_000, ..Default::default() };
    assert_eq!(log.log.trim(keep_ten, 20_000).expect("trims"), 10);
    let lost = log.log.reader(Cursor::from_number(5)).next().await.expect_err("trimmed");
    assert!(matches!(lost, ReadError::Trimmed { oldest } if oldest.get() == 11), "{lost}");
    assert_eq!(read_to(&log.log, 10, 20).await, (11..=20).collect::<Vec<_>>());
    assert_eq!(read_to(&log.log, 0, 20).await, (11..=20).collect::<Vec<_>>(), "0 is the oldest kept");
}
