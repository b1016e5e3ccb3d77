//! Tests of [`Consumers`].

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::event_log::StoreOptions;
use crate::event_log::free_space::{FreeSpace, Reserve};

fn log(folder: &TempDir) -> Arc<EventLog> {
    EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20).unwrap()
}

fn open(log: &Arc<EventLog>, table: Cursors, max: usize, keep_unused: Duration) -> Consumers {
    let limits = ConsumerLimits { max: NonZeroUsize::new(max).unwrap(), keep_unused };
    Consumers::open(table, limits, log, Gauge::default()).unwrap()
}

fn followers(log: &Arc<EventLog>, max: usize) -> Consumers {
    open(log, Cursors::Followers, max, Duration::MAX)
}

fn keys(consumers: &Consumers) -> Vec<String> {
    consumers.list().into_iter().map(|(key, _)| (*key).to_owned()).collect()
}

/// Connects a consumer whose owner may have two consumers, acknowledges, and disconnects.
async fn visit(consumers: &Consumers, prefix: &str, name: &str) -> Result<(), EnterError> {
    let mut lease = acquire(consumers, prefix, name).await?;
    lease.acknowledge(lease.cursor());
    Ok(lease.release().await?)
}

async fn acquire(consumers: &Consumers, prefix: &str, name: &str) -> Result<Lease, EnterError> {
    let share = Share { prefix, max: 2 };
    let lease =
        consumers.acquire(&format!("{prefix}{name}"), StartPosition::Now(Cursor::START), Some(share)).await?;
    assert_eq!(lease.name(), name);
    Ok(lease)
}

#[tokio::test]
async fn only_consumers_of_the_same_owner_are_evicted() {
    let folder = TempDir::new().unwrap();
    let consumers = followers(&log(&folder), 100);
    for (prefix, name) in [("a/", "x"), ("b/", "x"), ("b/", "y")] {
        acquire(&consumers, prefix, name).await.unwrap().release().await.unwrap();
    }
    acquire(&consumers, "b/", "z").await.unwrap().release().await.unwrap();
    assert_eq!(keys(&consumers), ["a/x", "b/y", "b/z"]);
}

#[tokio::test]
async fn consumers_of_one_owner_are_limited() {
    let folder = TempDir::new().unwrap();
    let consumers = followers(&log(&folder), 100);
    // Consumers of owners that sort before and after `b/` must not count.
    for (prefix, name) in [("a/", "x"), ("a/", "y"), ("c/", "x"), ("c/", "y"), ("b/", "x"), ("b/", "y")] {
        visit(&consumers, prefix, name).await.unwrap();
    }
    let refused = visit(&consumers, "b/", "z").await.unwrap_err();
    assert!(matches!(refused, EnterError::TooManyShared(2)), "{refused}");
    visit(&consumers, "b/", "x").await.unwrap();
    assert_eq!(consumers.forget("b/y").unwrap(), Forgotten::Done);
    visit(&consumers, "b/", "z").await.unwrap();
    assert_eq!(keys(&consumers), ["a/x", "a/y", "b/x", "b/z", "c/x", "c/y"]);
}

#[tokio::test]
async fn all_consumers_together_are_limited() {
    let folder = TempDir::new().unwrap();
    let consumers = followers(&log(&folder), 3);
    for (prefix, name) in [("a/", "x"), ("a/", "y"), ("b/", "x")] {
        visit(&consumers, prefix, name).await.unwrap();
    }
    let refused = visit(&consumers, "b/", "y").await.unwrap_err();
    assert!(matches!(refused, EnterError::TooMany(_)), "{refused}");
    let refused = visit(&consumers, "a/", "z").await.unwrap_err();
    assert!(matches!(refused, EnterError::TooManyShared(_)), "{refused}");
}

#[tokio::test]
async fn unused_consumers_of_the_owner_make_room() {
    let folder = TempDir::new().unwrap();
    let consumers = open(&log(&folder), Cursors::Followers, 100, Duration::ZERO);
    visit(&consumers, "a/", "other").await.unwrap();
    let _there = consumers.acquire("b/there", StartPosition::Now(Cursor::START), None).await.unwrap();
    visit(&consumers, "b/", "gone").await.unwrap();
    visit(&consumers, "b/", "new").await.unwrap();
    assert_eq!(keys(&consumers), ["a/other", "b/new", "b/there"], "consumers of other owners are kept");
}

#[tokio::test]
async fn while_the_clock_is_in_doubt_no_consumer_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let (clock, manual_clock) = Clock::manual();
    let options = StoreOptions { fsync: false, ..StoreOptions::default() };
    let log = EventLog::open_with(folder.path(), options, 1 << 20, clock.clone(), Reserve::none()).unwrap();
    let consumers = open(&log, Cursors::Followers, 2, Duration::from_secs(30 * 86_400));
    for name in ["x", "y"] {
        visit(&consumers, "a/", name).await.unwrap();
    }
    manual_clock.step_secs(31 * 86_400);
    clock.now();
    let refused = visit(&consumers, "b/", "new").await.unwrap_err();
    assert!(matches!(refused, EnterError::TooMany(_)), "{refused}");
    assert!(clock.confirm(), "it is in doubt");
    visit(&consumers, "b/", "new").await.unwrap();
    assert_eq!(keys(&consumers), ["b/new"]);
}

#[tokio::test]
async fn on_a_full_disk_acknowledgements_stay_in_memory_until_there_is_room() {
    let folder = TempDir::new().unwrap();
    let free = Arc::new(AtomicU64::new(1));
    let free_space = FreeSpace::from_fn({
        let free = Arc::clone(&free);
        move || Ok(free.load(Ordering::Relaxed))
    });
    let (options, room) =
        (StoreOptions { fsync: false, ..StoreOptions::default() }, Reserve::new(free_space, 1));
    let log = EventLog::open_with(folder.path(), options, 1 << 20, Clock::system(), room).unwrap();
    let consumers = followers(&log, 1);
    let is_written = || log.cursors(Cursors::Followers).unwrap()[0].1.has_acked;
    let mut lease = acquire(&consumers, "a/", "x").await.unwrap();
    free.store(0, Ordering::Relaxed);
    lease.acknowledge(lease.cursor());
    lease.save().await.unwrap();
    lease.release().await.unwrap();
    let lease = acquire(&consumers, "a/", "x").await.unwrap();
    assert!(!is_written());
    free.store(1, Ordering::Relaxed);
    lease.release().await.unwrap();
    assert!(is_written());
}

#[tokio::test]
async fn tables_are_separate_and_persist_across_restarts() {
    let folder = TempDir::new().unwrap();
    let start = || {
        let log = log(&folder);
        [open(&log, Cursors::Consumers, 1, Duration::MAX), followers(&log, 1)]
    };
    let [consumers, followers] = start();
    let one = consumers.acquire("a", StartPosition::Now(Cursor::START), None).await.unwrap();
    let other = followers.acquire("00ff/a", StartPosition::Now(Cursor::START), None).await.unwrap();
    assert_eq!((one.name(), other.name()), ("a", "a"));
    for lease in [one, other] {
        lease.release().await.unwrap();
    }
    drop((consumers, followers));
    let [consumers, followers] = start();
    assert_eq!((keys(&consumers), keys(&followers)), (vec!["a".to_owned()], vec!["00ff/a".to_owned()]));
    assert_eq!(followers.forget("a").unwrap(), Forgotten::Unknown);
    assert_eq!(followers.forget("00ff/a").unwrap(), Forgotten::Done);
    drop((consumers, followers));
    let [consumers, followers] = start();
    assert_eq!((keys(&consumers).len(), keys(&followers).len()), (1, 0));
}
