//! Invariant 2: an event has one number, and numbers only increase, across restarts and power loss.

use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Cursor, EventLog, OpenError, StoreOptions};
use tempfile::TempDir;

use crate::bench::{Options, Running, event, events};

fn created_at(log: &EventLog) -> Vec<u64> {
    let page = log.page(Cursor::START, 1_000, &[]).expect("readable");
    page.entries.iter().map(|entry| entry.event.created_at()).collect()
}

#[test]
fn a_batch_is_ordered_by_time_and_id_and_numbered_without_gap() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events([5, 3, 9, 1, 7]));
    log.append(events([4, 2]));
    assert_eq!(created_at(&log.log), [1, 3, 5, 7, 9, 2, 4]);
    assert_eq!(log.seqs(), (1..=7).collect::<Vec<_>>());
}

#[test]
fn no_batch_is_larger_than_configured() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open_with(folder.path(), Options { batch_size: 3, ..Options::default() });
    log.append(events([9, 8, 7, 6, 5, 4, 3, 2, 1]));
    assert_eq!(created_at(&log.log), [7, 8, 9, 4, 5, 6, 1, 2, 3], "three batches of three");
}

/// Opens a log. The log finds its end differently with and without fsync.
fn open(folder: &TempDir, fsync: bool) -> Running {
    Running::open_with(folder.path(), Options { fsync, ..Options::default() })
}

#[test]
fn invariant_2_numbers_go_on_after_a_restart() {
    for fsync in [true, false] {
        let folder = TempDir::new().expect("a folder");
        for round in 0..3_u64 {
            let log = open(&folder, fsync);
            assert_eq!(log.log.head().get(), 4 * round);
            log.append(events(10 * round..10 * round + 4));
            log.stop();
        }
        let log = open(&folder, fsync);
        assert_eq!(log.seqs(), (1..=12).collect::<Vec<_>>());
        let id = event(21).event.id().into();
        assert_eq!(log.seq_of(&id).map(|seq| seq.get()), Some(10));
    }
}

#[test]
fn invariant_2_numbers_go_on_when_everything_was_trimmed() {
    for fsync in [true, false] {
        let folder = TempDir::new().expect("a folder");
        let log = open(&folder, fsync);
        log.append(events(1..=5));
        let all = Retention { age_ms_max: 1, ..Retention::default() };
        assert_eq!(log.log.trim(all, u64::MAX).expect("trims"), 5);
        log.stop();
        let log = open(&folder, fsync);
        assert_eq!((log.log.head().get(), log.log.floor().get()), (5, 6));
        log.append(events([6]));
        assert_eq!(log.seqs(), [6]);
    }
}

/// Without fsync, a power loss deletes the newest commits. The log must not assign their numbers
/// again.
#[test]
fn invariant_2_no_number_is_given_twice_after_power_loss_without_fsync() {
    let (folder, copy) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let log = Running::open(folder.path());
    log.append(events([1]));
    // The disk has at least the state of the last fsync, which reserved the numbers that follow.
    copy_folder(folder.path(), copy.path());
    log.append(events(2..=50));
    let given = log.log.head();
    drop(log);

    let after = Running::open(copy.path());
    assert!(after.log.head() >= given, "{} was given, but the log goes on after {}", given, after.log.head());
    after.append(events([99]));
    let last = *after.seqs().last().expect("the new event");
    assert!(last > given.get());
    after.stop();

    // After a clean stop, no number is skipped.
    let again = Running::open(copy.path());
    assert_eq!(again.log.head().get(), last);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for file in std::fs::read_dir(from).expect("readable") {
        let file = file.expect("readable");
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }
}

#[test]
fn a_log_that_cannot_be_opened_says_why() {
    let folder = TempDir::new().expect("a folder");
    let open =
        || EventLog::open(folder.path(), StoreOptions { fsync: true, ..StoreOptions::default() }, 1 << 20);
    let log = Running::open(folder.path());
    log.append(events([1]));
    let error = open().expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    log.stop();

    let file = TempDir::new().expect("a folder");
    std::fs::write(file.path().join("file"), "").expect("written");
    let error = EventLog::open(
        &file.path().join("file"),
        StoreOptions { fsync: true, ..StoreOptions::default() },
        1 << 20,
    );
    let error = error.expect_err("not a folder");
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");

    std::fs::write(folder.path().join("CURRENT"), "MANIFEST-999999\n").expect("written");
    let error = open().expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
