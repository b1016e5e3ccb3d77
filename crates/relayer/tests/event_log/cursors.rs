//! Cursors of sinks: they last, and older databases learn to keep them.

use moltrade_relayer::event_log::{Cursor, OpenError, keys};
use tempfile::TempDir;

use crate::bench::{Running, events};
use crate::marks::{database, format};

fn cursors(log: &Running) -> Vec<(String, u64)> {
    let cursors = log.log.cursors().expect("readable");
    cursors.into_iter().map(|(name, cursor)| (name, cursor.get())).collect()
}

#[test]
fn cursors_are_set_deleted_and_kept() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    assert_eq!(cursors(&log), []);
    for (name, cursor) in [("b", 1), ("a", 2), ("b", u64::MAX), ("c", 0)] {
        log.log.set_cursor(name, Cursor::from_number(cursor)).expect("written");
    }
    log.log.delete_cursor("c").expect("deleted");
    log.log.delete_cursor("nobody").expect("nothing to do");
    log.stop();
    let log = Running::open(folder.path());
    assert_eq!(cursors(&log), [("a".to_owned(), 2), ("b".to_owned(), u64::MAX)]);
}

#[test]
fn a_log_of_the_format_before_cursors_were_kept_becomes_one_of_this() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=20));
    log.stop();
    {
        let mut database = database(folder.path());
        database.drop_cf(keys::CURSORS).expect("dropped");
        let meta = database.cf_handle(keys::META).expect("a family");
        let before = keys::FORMAT_WITHOUT_CURSORS.to_be_bytes();
        database.put_cf(meta, keys::META_FORMAT, before).expect("written");
    }
    assert_eq!(format(folder.path()), 2);
    let log = Running::open(folder.path());
    assert_eq!(log.seqs(), (1..=20).collect::<Vec<_>>());
    assert_eq!(cursors(&log), []);
    log.log.set_cursor("a", Cursor::from_number(7)).expect("written");
    log.stop();
    assert_eq!(format(folder.path()), keys::FORMAT_VERSION);
    assert_eq!(cursors(&Running::open(folder.path())), [("a".to_owned(), 7)]);
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
    let error = log.log.cursors().expect_err("damaged").to_string();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn a_later_format_is_refused() {
    let folder = TempDir::new().expect("a folder");
    Running::open(folder.path()).stop();
    {
        let database = database(folder.path());
        let meta = database.cf_handle(keys::META).expect("a family");
        let later = (keys::FORMAT_VERSION + 1).to_be_bytes();
        database.put_cf(meta, keys::META_FORMAT, later).expect("written");
    }
    let options = moltrade_relayer::event_log::StoreOptions { fsync: false };
    let opened = moltrade_relayer::event_log::EventLog::open(folder.path(), options, 1 << 20);
    assert!(matches!(opened, Err(OpenError::OtherFormat { found: 4, .. })), "{opened:?}");
}
