//! A full disk pauses ingest. No event is lost, and ingest resumes by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use moltrade_relayer::event_log::DeadLetter;
use moltrade_relayer::event_log::free_space::FreeSpace;
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Cursor, CursorRow, Cursors, RelayTable, StorageError};
use relay_sim::wait::until_blocking;
use tempfile::TempDir;

use crate::bench::{Options, Running, events};

#[test]
fn a_full_disk_pauses_ingest_until_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(1_000));
    let free_space = {
        let free = Arc::clone(&free);
        FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)))
    };
    let log = Running::open_with(folder.path(), Options { free_space, ..Options::default() });
    log.append(events([1]));
    assert!(!log.disk_full.is_paused());
    free.store(999, Ordering::Relaxed);
    log.send(events([2, 3]));
    until_blocking("ingest pauses", || log.disk_full.is_paused());
    assert_eq!(log.seqs(), [1]);
    free.store(1_000, Ordering::Relaxed);
    until_blocking("the events are committed", || log.log.head().get() == 3);
    assert!(!log.disk_full.is_paused());
    assert_eq!(log.seqs(), [1, 2, 3]);
}

#[test]
fn stopping_on_a_full_disk_does_not_wait_for_room() {
    let folder = TempDir::new().expect("a folder");
    let free_space = FreeSpace::from_fn(|| Ok(0));
    let log = Running::open_with(folder.path(), Options { free_space, ..Options::default() });
    log.send(events([1]));
    until_blocking("ingest pauses", || log.disk_full.is_paused());
    log.stop();
    let log = Running::open(folder.path());
    assert_eq!(log.log.head().get(), 0, "nothing was committed, and nothing is damaged");
}

/// Tests all writes outside the sequencer: additions are refused, deletions make room, and neither
/// counts as damage.
#[test]
fn below_the_minimum_nothing_is_added_and_everything_can_be_deleted() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(1_000));
    let free_space = {
        let free = Arc::clone(&free);
        FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)))
    };
    let running = Running::open_with(folder.path(), Options { free_space, ..Options::default() });
    running.append(events(1..=3));
    let log = &running.log;
    let letter = || {
        let entry = log.page(Cursor::START, 1, &[]).expect("readable").entries.remove(0);
        DeadLetter { entry, refused_at_ms: 1, tries: 1, reason: "no".to_owned() }
    };
    let row = CursorRow::at(Cursor::from_number(1));
    let add = || -> Vec<Result<(), StorageError>> {
        vec![
            log.set_cursor(Cursors::Sinks, "a", row),
            log.set_cursor(Cursors::Consumers, "a", row),
            log.set_cursor(Cursors::Followers, "a", row),
            log.change_dead_letters("a", &[letter()], &[]),
            log.change_registry(&[(b"b1".to_vec(), Some(b"row".to_vec()))], None),
            log.set_relay_row(RelayTable::Wanted, "wss://a", Some(b"added")),
        ]
    };
    assert!(add().iter().all(Result::is_ok));
    free.store(999, Ordering::Relaxed);
    for refused in add() {
        let error = refused.expect_err("the disk is full");
        assert!(error.is_full());
        let told = error.to_string();
        assert!(told.contains("has 999 bytes free") && told.contains("min_free_bytes"), "{told}");
    }
    assert!(log.failure().now_or_never().is_none(), "the process goes on");
    let whose = [Cursors::Sinks, Cursors::Consumers, Cursors::Followers];
    for whose in whose {
        log.delete_cursor(whose, "a").expect("deleted");
        assert_eq!(log.cursors(whose).expect("readable"), []);
    }
    log.delete_dead_letters("a").expect("deleted");
    log.change_registry(&[(b"b1".to_vec(), None)], None).expect("deleted");
    log.set_relay_row(RelayTable::Wanted, "wss://a", None).expect("deleted");
    let all = Retention { bytes_max: 1, ..Retention::default() };
    assert_eq!(log.trim(all, 0).expect("trims"), 3);
    free.store(1_000, Ordering::Relaxed);
    log.set_cursor(Cursors::Sinks, "a", row).expect("there is room again");
}
