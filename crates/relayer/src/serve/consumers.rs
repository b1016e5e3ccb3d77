//! The consumers whose cursors we keep, by the names that they give themselves. Those of `/ws` share one space of
//! names; where names belong to somebody, whose they are stands before them in the key.
//!
//! All of them are in memory, a few hundred bytes each, and their number is limited. A consumer
//! that nobody has been connected as for long is forgotten: at the start, and when there is no room
//! for a new one. If that makes no room, a consumer that is away and never acknowledged anything
//! gives way, the one that has been away longest: otherwise whoever may connect could use up all
//! names with connections that last a moment.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::seat::{Busy, Consumer, Seat, name};
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, Seq, StorageError};
use crate::limits::CONSUMER_TURN_MAX;

/// Where a consumer that connects goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Where it was; one that is new begins after this, the head of the log when it connected, so
    /// that it gets what is committed while it proves its key.
    Now(Cursor),
    /// Where it was; one that is new begins after this.
    After(Cursor),
    /// After this, wherever it was.
    Seek(Cursor),
}

/// Consumers that belong together, and how many of them there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<'a> {
    /// What their keys begin with, and no others.
    pub prefix: &'a str,
    /// The most.
    pub max: usize,
}

/// Why a consumer cannot connect.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The cursor that was asked for is of no use.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// What comes after the consumer's own cursor has been trimmed.
    #[error("what comes after the cursor of {name} is no longer kept")]
    Trimmed {
        /// The consumer, as it calls itself.
        name: Arc<str>,
        /// Its cursor.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// There are as many as there may be.
    #[error("there are {0} consumers")]
    TooMany(NonZeroUsize),
    /// There are as many as there may be of those that belong together.
    #[error("there are {0} consumers that belong together")]
    TooManyShared(usize),
    /// The connection before under this name has not ended, or one after this came in between.
    #[error("another connection has the name")]
    Busy,
    /// RocksDB.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<Busy> for EnterError {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

/// What became of forgetting a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It is forgotten.
    Done,
    /// There is none of this name.
    Unknown,
    /// Somebody is connected as it.
    Connected,
}

/// The consumers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Consumers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    whose: Cursors,
    max: NonZeroUsize,
    keep_ms: u64,
    log: Arc<EventLog>,
    known: Mutex<Known>,
    gauge: Gauge,
}

/// The consumers by their keys.
type Known = BTreeMap<Arc<str>, Arc<Consumer>>;

impl Consumers {
    /// Those that the database knows, of which there may be so many, each unused for so long. Nobody is connected
    /// yet. The gauge follows their number.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn open(
        whose: Cursors,
        max: NonZeroUsize,
        keep_unused: Duration,
        log: &Arc<EventLog>,
        gauge: Gauge,
    ) -> Result<Self, StorageError> {
        let keep_ms = u64::try_from(keep_unused.as_millis()).unwrap_or(u64::MAX);
        for consumer in log.forget_unused(whose, |_| false, keep_ms)? {
            tracing::info!(consumer, "a consumer that did not come back was forgotten");
        }
        let known = log.cursors(whose)?.into_iter().map(|(key, row)| {
            let key: Arc<str> = key.into();
            (Arc::clone(&key), Arc::new(Consumer::new(key, whose, Arc::clone(log), row, Some(row))))
        });
        let known: Known = known.collect();
        show(&gauge, &known);
        let (log, known) = (Arc::clone(log), Mutex::new(known));
        Ok(Self(Arc::new(Inner { whose, max, keep_ms, log, known, gauge })))
    }

    /// Takes the seat of the consumer with this key; the connection that has it is closed. One that is new must
    /// have room in its share, if it has one.
    ///
    /// # Errors
    /// When delivery cannot go on where it should, there are enough consumers, the connection before does not
    /// end, or RocksDB fails.
    pub async fn enter(&self, key: &str, begin: Begin, share: Option<Share<'_>>) -> Result<Seat, EnterError> {
        let deadline = Instant::now() + CONSUMER_TURN_MAX;
        loop {
            let consumer = self.find_or_add(key, begin, share).await?;
            let turn = consumer.turn(deadline).await?;
            // One that was forgotten while we waited is new.
            let Some(row) = turn.row() else { continue };
            let cursor = self.0.goes_on(key, row, begin)?;
            return Ok(turn.sit(cursor).await?);
        }
    }

    async fn find_or_add(
        &self,
        key: &str,
        begin: Begin,
        share: Option<Share<'_>>,
    ) -> Result<Arc<Consumer>, EnterError> {
        let in_the_way = match (self.0.find_or_add(key, begin, share), share) {
            (Err(EnterError::TooMany(_)), _) => String::new(),
            (Err(EnterError::TooManyShared(_)), Some(share)) => share.prefix.to_owned(),
            (found, _) => return found,
        };
        let inner = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || inner.make_room(&in_the_way)).await;
        made.map_err(|error| StorageError::new("forget consumers", error))??;
        self.0.find_or_add(key, begin, share)
    }

    /// All of them in the order of their keys, each with its cursor and since when nobody is connected.
    pub fn list(&self) -> Vec<(Arc<str>, CursorRow)> {
        let known = self.0.known.lock();
        known.values().filter_map(|consumer| Some((Arc::clone(&consumer.key), consumer.row()?))).collect()
    }

    /// Forgets a consumer that nobody is connected as. Waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn forget(&self, key: &str) -> Result<Forgotten, StorageError> {
        let consumer = self.0.known.lock().get(key).cloned();
        let Some(consumer) = consumer else { return Ok(Forgotten::Unknown) };
        Ok(if self.0.forget(&consumer, |_| true)? { Forgotten::Done } else { Forgotten::Connected })
    }
}

impl Inner {
    fn find_or_add(
        &self,
        key: &str,
        begin: Begin,
        share: Option<Share<'_>>,
    ) -> Result<Arc<Consumer>, EnterError> {
        let mut known = self.known.lock();
        if let Some(consumer) = known.get(key) {
            return Ok(Arc::clone(consumer));
        }
        // First, so that who has enough makes nobody look through all of them for room.
        if let Some(Share { prefix, max }) = share
            && with_prefix(&known, prefix).take(max).count() >= max
        {
            return Err(EnterError::TooManyShared(max));
        }
        if known.len() >= self.max.get() {
            return Err(EnterError::TooMany(self.max));
        }
        let cursor = self.place(begin)?;
        // It is written down when it sits. If it never does, nobody has it.
        let unused_since_ms = self.log.clock().at_least_the_log_ms();
        let row = CursorRow { unused_since_ms, has_acked: false, ..CursorRow::at(cursor) };
        let key: Arc<str> = key.into();
        let consumer = Consumer::new(Arc::clone(&key), self.whose, Arc::clone(&self.log), row, None);
        let consumer = Arc::new(consumer);
        known.insert(key, Arc::clone(&consumer));
        show(&self.gauge, &known);
        Ok(consumer)
    }

    /// Where one begins that is new, or is moved.
    fn place(&self, begin: Begin) -> Result<Cursor, CursorError> {
        match begin {
            Begin::Now(head) => Ok(head),
            Begin::After(Cursor::START) | Begin::Seek(Cursor::START) => Ok(Cursor::before(self.log.floor())),
            Begin::After(cursor) | Begin::Seek(cursor) => self.log.check_cursor(cursor).map(|()| cursor),
        }
    }

    /// Where one goes on that is known. Its cursor is a place, so 0 does not mean the oldest that is kept: it
    /// would miss what was trimmed, and not know.
    fn goes_on(&self, key: &str, row: CursorRow, begin: Begin) -> Result<Cursor, EnterError> {
        if let Begin::Seek(_) = begin {
            return Ok(self.place(begin)?);
        }
        // The floor is read first: it never passes the head that is read after it.
        let oldest = self.log.floor();
        let newest = self.log.head();
        // Nobody can have what was never committed: it would not be sent what is under these numbers.
        let cursor = row.cursor.min(newest);
        if cursor.next() < oldest {
            return Err(EnterError::Trimmed { name: name(key).into(), cursor, oldest, newest });
        }
        Ok(cursor)
    }

    fn forget(
        &self,
        consumer: &Consumer,
        is_expected: impl FnOnce(CursorRow) -> bool,
    ) -> Result<bool, StorageError> {
        // Once only, so the key is still this consumer's.
        consumer.forget(is_expected, || {
            let mut known = self.known.lock();
            known.remove(&consumer.key);
            show(&self.gauge, &known);
        })
    }

    /// Makes room for a new consumer among those whose keys begin like this, if that is possible.
    /// Waits for the disk.
    fn make_room(&self, prefix: &str) -> Result<(), StorageError> {
        if self.forget_unused(prefix)? { Ok(()) } else { self.forget_one_without_acks(prefix) }
    }

    /// Of those whose keys begin like this, forgets the ones that nobody has been connected as for
    /// long, unless the clock is in doubt. Says whether there were any.
    fn forget_unused(&self, prefix: &str) -> Result<bool, StorageError> {
        if !self.log.clock().deletes_by_age() {
            return Ok(false);
        }
        let now = self.log.clock().unix_ms();
        let is_old = |row: CursorRow| {
            row.unused_since_ms != 0 && now.saturating_sub(row.unused_since_ms) >= self.keep_ms
        };
        let old: Vec<_> = {
            let known = self.known.lock();
            let old = with_prefix(&known, prefix).filter(|consumer| consumer.row().is_some_and(is_old));
            old.cloned().collect()
        };
        let mut has_forgotten = false;
        for consumer in old {
            // Somebody may have been connected since it was looked at.
            if self.forget(&consumer, is_old)? {
                has_forgotten = true;
                let consumer = &*consumer.key;
                tracing::info!(consumer, "a consumer that did not come back was forgotten");
            }
        }
        Ok(has_forgotten)
    }

    /// Of those whose keys begin like this, which are away and never acknowledged anything, forgets
    /// the one that has been away longest.
    fn forget_one_without_acks(&self, prefix: &str) -> Result<(), StorageError> {
        let gives_way = |row: CursorRow| row.unused_since_ms != 0 && !row.has_acked;
        let mut candidates: Vec<_> = {
            let known = self.known.lock();
            let rows = with_prefix(&known, prefix).filter_map(|consumer| Some((consumer.row()?, consumer)));
            let rows = rows.filter(|(row, _)| gives_way(*row));
            rows.map(|(row, consumer)| (row.unused_since_ms, Arc::clone(consumer))).collect()
        };
        candidates.sort_unstable_by_key(|(unused_since_ms, _)| *unused_since_ms);
        for (_, consumer) in candidates {
            // Somebody may have been connected since it was looked at.
            if self.forget(&consumer, gives_way)? {
                let consumer = &*consumer.key;
                tracing::info!(consumer, "a consumer that never acknowledged gave way to a new one");
                break;
            }
        }
        Ok(())
    }
}

/// Those whose keys begin like this. No others are looked at.
fn with_prefix<'a>(known: &'a Known, prefix: &str) -> impl Iterator<Item = &'a Arc<Consumer>> {
    let from = known.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, consumer)| consumer)
}

fn show(gauge: &Gauge, known: &Known) {
    gauge.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::StoreOptions;
    use crate::event_log::free_space::{FreeSpace, Reserve};

    fn log(folder: &TempDir) -> Arc<EventLog> {
        EventLog::open(folder.path(), StoreOptions { fsync: false }, 1 << 20).unwrap()
    }

    fn open(log: &Arc<EventLog>, whose: Cursors, max: usize, keep_unused: Duration) -> Consumers {
        let max = NonZeroUsize::new(max).unwrap();
        Consumers::open(whose, max, keep_unused, log, Gauge::default()).unwrap()
    }

    fn followers(log: &Arc<EventLog>, max: usize) -> Consumers {
        open(log, Cursors::Followers, max, Duration::MAX)
    }

    fn keys(consumers: &Consumers) -> Vec<String> {
        consumers.list().into_iter().map(|(key, _)| (*key).to_owned()).collect()
    }

    /// One of those that `prefix` has, of which there may be two, connects, acknowledges and goes.
    async fn visit(consumers: &Consumers, prefix: &str, name: &str) -> Result<(), EnterError> {
        let mut seat = enter(consumers, prefix, name).await?;
        seat.acknowledge(seat.cursor());
        Ok(seat.leave().await?)
    }

    async fn enter(consumers: &Consumers, prefix: &str, name: &str) -> Result<Seat, EnterError> {
        let share = Share { prefix, max: 2 };
        let seat =
            consumers.enter(&format!("{prefix}{name}"), Begin::Now(Cursor::START), Some(share)).await?;
        assert_eq!(seat.name(), name);
        Ok(seat)
    }

    #[tokio::test]
    async fn only_what_belongs_together_gives_way() {
        let folder = TempDir::new().unwrap();
        let consumers = followers(&log(&folder), 100);
        for (prefix, name) in [("a/", "x"), ("b/", "x"), ("b/", "y")] {
            enter(&consumers, prefix, name).await.unwrap().leave().await.unwrap();
        }
        enter(&consumers, "b/", "z").await.unwrap().leave().await.unwrap();
        assert_eq!(keys(&consumers), ["a/x", "b/y", "b/z"]);
    }

    #[tokio::test]
    async fn those_that_belong_together_have_a_most() {
        let folder = TempDir::new().unwrap();
        let consumers = followers(&log(&folder), 100);
        // Neighbours on both sides, which count for nobody else.
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
    async fn there_is_a_most_of_all_whatever_each_may_have() {
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
    async fn room_in_a_share_is_made_by_those_that_did_not_come_back() {
        let folder = TempDir::new().unwrap();
        let consumers = open(&log(&folder), Cursors::Followers, 100, Duration::ZERO);
        visit(&consumers, "a/", "other").await.unwrap();
        let _there = consumers.enter("b/there", Begin::Now(Cursor::START), None).await.unwrap();
        visit(&consumers, "b/", "gone").await.unwrap();
        visit(&consumers, "b/", "new").await.unwrap();
        assert_eq!(keys(&consumers), ["a/other", "b/new", "b/there"], "nobody else's are looked at");
    }

    #[tokio::test]
    async fn while_the_clock_is_in_doubt_nobody_is_forgotten_to_make_room() {
        let folder = TempDir::new().unwrap();
        let (clock, hands) = Clock::manual();
        let options = StoreOptions { fsync: false };
        let log =
            EventLog::open_with(folder.path(), options, 1 << 20, clock.clone(), Reserve::none()).unwrap();
        let consumers = open(&log, Cursors::Followers, 2, Duration::from_secs(30 * 86_400));
        for name in ["x", "y"] {
            visit(&consumers, "a/", name).await.unwrap();
        }
        hands.step_secs(31 * 86_400);
        clock.now();
        let refused = visit(&consumers, "b/", "new").await.unwrap_err();
        assert!(matches!(refused, EnterError::TooMany(_)), "{refused}");
        assert!(clock.confirm(), "it is in doubt");
        visit(&consumers, "b/", "new").await.unwrap();
        assert_eq!(keys(&consumers), ["b/new"]);
    }

    #[tokio::test]
    async fn on_a_full_disk_acknowledgements_are_kept_in_memory_until_there_is_room() {
        let folder = TempDir::new().unwrap();
        let free = Arc::new(AtomicU64::new(1));
        let free_space = FreeSpace::from_fn({
            let free = Arc::clone(&free);
            move || Ok(free.load(Ordering::Relaxed))
        });
        let (options, room) = (StoreOptions { fsync: false }, Reserve { free_space, bytes_min: 1 });
        let log = EventLog::open_with(folder.path(), options, 1 << 20, Clock::system(), room).unwrap();
        let consumers = followers(&log, 1);
        let is_written = || log.cursors(Cursors::Followers).unwrap()[0].1.has_acked;
        let mut seat = enter(&consumers, "a/", "x").await.unwrap();
        free.store(0, Ordering::Relaxed);
        seat.acknowledge(seat.cursor());
        seat.save().await.unwrap();
        seat.leave().await.unwrap();
        let seat = enter(&consumers, "a/", "x").await.unwrap();
        assert!(!is_written());
        free.store(1, Ordering::Relaxed);
        seat.leave().await.unwrap();
        assert!(is_written());
    }

    #[tokio::test]
    async fn each_table_has_its_own_and_they_last_over_a_restart() {
        let folder = TempDir::new().unwrap();
        let start = || {
            let log = log(&folder);
            [open(&log, Cursors::Consumers, 1, Duration::MAX), followers(&log, 1)]
        };
        let [consumers, followers] = start();
        let one = consumers.enter("a", Begin::Now(Cursor::START), None).await.unwrap();
        let other = followers.enter("00ff/a", Begin::Now(Cursor::START), None).await.unwrap();
        assert_eq!((one.name(), other.name()), ("a", "a"));
        for seat in [one, other] {
            seat.leave().await.unwrap();
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
}
