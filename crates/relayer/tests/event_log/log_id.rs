//! The identity of a log: it is created with the log, persists, and is added to older logs.

use moltrade_relayer::event_log::{EventLog, LogId, OpenError, StoreOptions, keys};
use tempfile::TempDir;

use crate::bench::{Running, events};
use crate::marks::{database, format};

fn id(folder: &TempDir) -> LogId {
    let log = Running::open(folder.path());
    let id = log.log.id();
    log.stop();
    id
}

#[test]
fn a_log_keeps_its_identity_and_no_other_log_has_it() {
    let folders = [TempDir::new().expect("a folder"), TempDir::new().expect("a folder")];
    let ids = folders.each_ref().map(id);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(folders.each_ref().map(id), ids);
}

#[test]
fn every_envelope_names_the_log() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=3));
    let page = log.log.page(moltrade_relayer::event_log::Cursor::START, 10, &[]).expect("readable");
    for entry in page.entries {
        let start = format!(r#"{{"seq":{},"log":"{}","received_at":"#, entry.seq, log.log.id());
        assert!(entry.envelope().starts_with(start.as_bytes()), "{:?}", entry.envelope());
    }
}

/// A data folder of an earlier version has no row for the identity. Earlier versions ignore this
/// row, so the format keeps its version number.
#[test]
fn a_log_without_an_identity_gets_one() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=20));
    log.stop();
    let before = format(folder.path());
    {
        let database = database(folder.path());
        let meta = database.cf_handle(keys::META).expect("a family");
        database.delete_cf(meta, keys::META_LOG_ID).expect("deleted");
    }
    let made = id(&folder);
    assert_eq!((id(&folder), format(folder.path())), (made, before));
    let log = Running::open(folder.path());
    assert_eq!(log.seqs(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn invariant_7_a_damaged_identity_is_never_read_as_absent() {
    let folder = TempDir::new().expect("a folder");
    Running::open(folder.path()).stop();
    {
        let database = database(folder.path());
        let meta = database.cf_handle(keys::META).expect("a family");
        database.put_cf(meta, keys::META_LOG_ID, [1, 2, 3]).expect("written");
    }
    let opened = EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 0);
    assert!(matches!(opened, Err(OpenError::Storage(_))), "{opened:?}");
}
