//! Retention trims old events by age and by size, and ids outlive their events.

use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::event_log::keys;
use moltrade_relayer::event_log::retention::Retention;
use tempfile::TempDir;

use crate::bench::{Running, event, events, sized_event};

#[test]
fn by_age() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=30));
    let retention = Retention { age_ms_max: 10_000, ..Default::default() };
    assert_eq!(log.log.trim(retention, 25_000).expect("trims"), 14);
    assert_eq!(log.seqs(), (15..=30).collect::<Vec<_>>());
    assert_eq!(log.log.trim(retention, 25_000).expect("trims"), 0, "nothing more to trim");
}

#[test]
fn by_size() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append((1..=100).map(|number| sized_event(number, 10_000)).collect());
    let retention = Retention { bytes_max: 300_000, ..Default::default() };
    let trimmed = log.log.trim(retention, 0).expect("trims");
    let kept = 100 - trimmed;
    assert!((27..=30).contains(&kept), "{kept} events of a little over 10,000 bytes");
    assert_eq!(log.log.trim(retention, 0).expect("trims"), 0);
    log.stop();
    let log = Running::open(folder.path());
    assert_eq!(log.seqs().len() as u64, kept, "the floor survives a restart");
    log.append((101..=110).map(|number| sized_event(number, 10_000)).collect());
    assert_eq!(log.log.trim(retention, 0).expect("trims"), 10);
}

#[test]
fn ids_outlive_their_events() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=10));
    log.log.trim(Retention { age_ms_max: 1, ..Default::default() }, u64::MAX).expect("trims");
    let id = event(3).event.id().into();
    assert!(log.log.contains(&id).expect("readable"));
    assert_eq!(log.seq_of(&id), None);
}

#[test]
fn trimming_an_empty_log_or_nothing_is_harmless() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    let all = Retention { age_ms_max: 1, bytes_max: 1, admitted_age_secs_max: 1, ..Retention::default() };
    assert_eq!(log.log.trim(all, u64::MAX).expect("trims"), 0);
    log.append(events(1..=3));
    assert_eq!(log.log.trim(Retention::default(), u64::MAX).expect("trims"), 0);
    assert_eq!(log.log.trim(all, u64::MAX).expect("trims"), 3);
    assert_eq!(log.log.floor().get(), 4);
}

/// When RocksDB deletes the files of a range, it also deletes the range's last key.
#[test]
fn a_file_that_ends_with_the_oldest_kept_event_is_kept() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=10));
    log.stop();
    Running::open(folder.path()).stop();
    // RocksDB never deletes files of the first level by range, so the file must be moved to the
    // second.
    let families = [&["default"][..], &keys::FAMILIES].concat();
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), folder.path(), families).expect("opens");
    db.compact_range_cf(db.cf_handle(keys::EVENTS).expect("exists"), None::<&[u8]>, None::<&[u8]>);
    drop(db);

    let log = Running::open(folder.path());
    log.append(events(11..=20));
    let from_ten = Retention { age_ms_max: 10_000, ..Retention::default() };
    assert_eq!(log.log.trim(from_ten, 20_000).expect("trims"), 9);
    assert_eq!(log.seqs(), (10..=20).collect::<Vec<_>>());
}

#[test]
fn age_waits_for_the_slowest_sink_and_size_does_not() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    log.append(events(1..=20));
    let needed_after = Cursor::from_number(7);
    let by_age = Retention { age_ms_max: 1, needed_after, ..Retention::default() };
    assert_eq!(log.log.trim(by_age, 15_001).expect("trimmed"), 7, "up to the sink's cursor");
    assert_eq!(log.log.floor().get(), 8);
    let nobody_waits = Retention { needed_after: Cursor::from_number(12), ..by_age };
    assert_eq!(log.log.trim(nobody_waits, 10_001).expect("trimmed"), 2, "no more than age asks for");
    assert_eq!(
        log.log.trim(by_age, 15_001).expect("trimmed"),
        0,
        "a cursor that was moved back brings nothing"
    );
    let by_size = Retention { bytes_max: 1, ..by_age };
    assert_eq!(log.log.trim(by_size, 15_001).expect("trimmed"), 11, "all");
    assert_eq!(log.log.floor().get(), 21);
}
