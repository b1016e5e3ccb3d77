//! Sinks' cursors persist, and a log of the previous format is converted.

use std::path::Path;
use std::time::Duration;

use moltrade_relayer::clock::Clock;
use moltrade_relayer::event_log::free_space::Reserve;
use moltrade_relayer::event_log::{Cursor, CursorRow, Cursors, EventLog, OpenError, StoreOptions, keys};
use tempfile::TempDir;

use crate::bench::{Running, events};
use crate::marks::{database, format};

fn cursors(log: &Running) -> Vec<(String, u64)> {
    let rows = log.log.cursors(Cursors::Sinks).expect("readable");
    rows.into_iter().map(|(name, row)| (name, row.cursor.get())).collect()
}

fn set(log: &Running, whose: Cursors, name: &str, cursor: u64) {
    let row = CursorRow::at(Cursor::from_number(cursor));
    log.log.set_cursor(whose, name, row).expect("written");
}

#[test]
fn cursors_are_set_deleted_and_persist() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    assert_eq!(cursors(&log), []);
    for (name, cursor) in [("b", 1), ("a", 2), ("b", u64::MAX), ("c", 0)] {
        set(&log, Cursors::Sinks, name, cursor);
    }
    log.log.delete_cursor(Cursors::Sinks, "c").expect("deleted");
    log.log.delete_cursor(Cursors::Sinks, "nobody").expect("nothing to do");
    log.stop();
    let log = Running::open(folder.path());
    assert_eq!(cursors(&log), [("a".to_owned(), 2), ("b".to_owned(), u64::MAX)]);
}

#[test]
fn a_sink_and_a_consumer_may_have_the_same_name() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    set(&log, Cursors::Sinks, "a", 1);
    set(&log, Cursors::Consumers, "a", 2);
    log.log.delete_cursor(Cursors::Consumers, "a").expect("deleted");
    assert_eq!(cursors(&log), [("a".to_owned(), 1)]);
}

#[test]
fn unused_cursors_are_deleted_after_a_while() {
    let folder = TempDir::new().expect("a folder");
    let (clock, manual_clock) = Clock::manual();
    let log = EventLog::open_with(
        folder.path(),
        StoreOptions { fsync: false, ..StoreOptions::default() },
        1 << 20,
        clock,
        Reserve::none(),
    );
    let log = log.expect("opens");
    for (name, cursor) in [("used", 1), ("gone", 2)] {
        log.set_cursor(Cursors::Sinks, name, CursorRow::at(Cursor::from_number(cursor))).expect("written");
    }
    const KEEP_MS: u64 = 100_000;
    let forget = || log.forget_unused(Cursors::Sinks, |name| name == "used", KEEP_MS).expect("written");
    let none: [&str; 0] = [];
    assert_eq!(forget(), none, "not used from now on");
    manual_clock.pass(Duration::from_millis(KEEP_MS / 2));
    assert_eq!(forget(), none);
    manual_clock.pass(Duration::from_millis(KEEP_MS / 2));
    assert_eq!(forget(), ["gone"]);
    let left: Vec<String> =
        log.cursors(Cursors::Sinks).expect("readable").into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["used"]);
}

/// Format 5 differs only in the cursor rows, which lack a flag for acknowledgements.
#[test]
fn a_log_of_format_5_becomes_one_of_this_format() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=20));
    log.stop();
    set_format(folder.path(), 5);
    {
        let database = database(folder.path());
        let family = database.cf_handle(keys::CONSUMERS).expect("a family");
        let row = [&[2][..], &7_u64.to_be_bytes(), &0_u64.to_be_bytes(), &[0]].concat();
        database.put_cf(family, "a", row).expect("written");
    }
    let log = Running::open(folder.path());
    assert_eq!(log.seqs(), (1..=20).collect::<Vec<_>>());
    let row = CursorRow::at(Cursor::from_number(7));
    assert_eq!(log.log.cursors(Cursors::Consumers).expect("readable"), [("a".to_owned(), row)]);
    log.stop();
    assert_eq!(format(folder.path()), keys::FORMAT_VERSION);
}

fn set_format(folder: &Path, format: u64) {
    let database = database(folder);
    let meta = database.cf_handle(keys::META).expect("a family");
    database.put_cf(meta, keys::META_FORMAT, format.to_be_bytes()).expect("written");
}

#[test]
fn invariant_7_a_damaged_cursor_is_never_read_as_absent() {
    let folder = TempDir::new().expect("a folder");
    Running::open(folder.path()).stop();
    {
        let database = database(folder.path());
        let family = database.cf_handle(keys::CURSORS).expect("a family");
        database.put_cf(family, "a", [1, 2, 3]).expect("written");
    }
    let log = Running::open(folder.path());
    let error = log.log.cursors(Cursors::Sinks).expect_err("damaged").to_string();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn earlier_and_later_formats_are_refused_and_left_as_they_are() {
    for other in [1, 4, keys::FORMAT_VERSION + 1] {
        let folder = TempDir::new().expect("a folder");
        Running::open(folder.path()).stop();
        set_format(folder.path(), other);
        let opened =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20);
        let error = opened.expect_err("another format");
        assert!(matches!(error, OpenError::OtherFormat { found, .. } if found == other), "{error}");
        let told = error.to_string();
        assert!(
            told.contains(&format!("has format {other}, and this version opens formats 5 to 6")),
            "{told}"
        );
        assert!(told.contains("use the version that wrote it"), "{told}");
        assert_eq!(format(folder.path()), other);
    }
}
