//! The named consumers, whose cursors we store. On `/ws`, the key of a reader's consumer begins
//! with the reader's name, and other consumers share one namespace; on `/fanout`, a consumer's key
//! begins with the follower's public key.
//!
//! All consumers are in memory, a few hundred bytes each, and their number is limited. Consumers
//! that have not been connected for a long time are deleted at the start and when a new consumer
//! needs room. If their deletion does not free enough room, we evict the consumer that has been
//! disconnected longest among those that never acknowledged anything: otherwise short connections
//! could use up all names.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::lease::{Busy, Consumer, Lease, name};
use crate::config::{Config, Output, SinkName};
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, Seq, StorageError};
use crate::limits::CONSUMER_LEASE_WAIT_MAX;

/// The name that a consumer gives itself. It follows the rules of sink names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerName(SinkName);

impl ConsumerName {
    /// The rules for names.
    pub(crate) const ALLOWED: &str = SinkName::ALLOWED;

    /// `None` if the text is not a valid name.
    pub fn new(text: &str) -> Option<Self> {
        SinkName::new(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Where delivery to a consumer starts when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartPosition {
    /// A known consumer starts after its stored cursor. A new consumer starts at this head of the
    /// log, which was read when the consumer connected: it gets the events that are committed while
    /// it proves its key.
    Now(Cursor),
    /// A known consumer starts after its stored cursor, and a new consumer after this cursor.
    After(Cursor),
    /// Every consumer starts after this cursor, even if a cursor is stored.
    Seek(Cursor),
}

/// Limits on all consumers of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// The maximum number of consumers.
    pub max: NonZeroUsize,
    /// How long a consumer that does not connect is kept.
    pub keep_unused: Duration,
}

impl ConsumerLimits {
    /// The limits for `/ws`.
    pub const fn of(output: &Output) -> Self {
        Self { max: output.max_consumers, keep_unused: output.keep_unused }
    }

    /// The limits for `/fanout`.
    pub const fn of_followers(config: &Config) -> Self {
        Self { max: config.fanout.max_consumers, keep_unused: config.output.keep_unused }
    }

    fn keep_ms(&self) -> u64 {
        u64::try_from(self.keep_unused.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A limit on the consumers of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<'a> {
    /// The prefix of this owner's keys, and of no other keys.
    pub prefix: &'a str,
    /// The maximum number of consumers.
    pub max: usize,
}

/// Why a consumer cannot connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// The requested cursor cannot be served.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Retention trimmed the events after the stored cursor.
    #[error("the events after the cursor of {name} are no longer kept")]
    Trimmed {
        name: Arc<str>,
        /// The consumer's stored cursor.
        cursor: Cursor,
        /// The oldest kept sequence.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// The limit on all consumers is reached.
    #[error("there are {0} consumers, which is the limit")]
    TooMany(NonZeroUsize),
    /// The limit of the owner is reached.
    #[error("this owner has {0} consumers, which is the limit")]
    TooManyShared(usize),
    /// The previous connection of the consumer has not ended, or a later connection took over.
    #[error("another connection uses this consumer name")]
    Busy,
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<Busy> for EnterError {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

/// The outcome of deleting a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// The consumer was deleted.
    Done,
    /// There is no such consumer.
    Unknown,
    /// The consumer is connected.
    Connected,
}

/// The consumers of one table. Clones share the state.
#[derive(Debug, Clone)]
pub struct Consumers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Cursors,
    limits: Mutex<ConsumerLimits>,
    log: Arc<EventLog>,
    known: Mutex<Known>,
    gauge: Gauge,
}

type Known = BTreeMap<Arc<str>, Arc<Consumer>>;

impl Consumers {
    /// Loads the consumers from the database, and deletes consumers that were unused for too long.
    /// The gauge tracks the number of consumers.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn open(
        table: Cursors,
        limits: ConsumerLimits,
        log: &Arc<EventLog>,
        gauge: Gauge,
    ) -> Result<Self, StorageError> {
        for consumer in log.forget_unused(table, |_| false, limits.keep_ms())? {
            tracing::info!(
                name: "consumer_expired",
                consumer, "deleted a consumer that had not connected for keep_unused_hours"
            );
        }
        let known = log.cursors(table)?.into_iter().map(|(key, row)| {
            let key: Arc<str> = key.into();
            (Arc::clone(&key), Arc::new(Consumer::new(key, table, Arc::clone(log), row, Some(row))))
        });
        let known: Known = known.collect();
        update_gauge(&gauge, &known);
        let (limits, log, known) = (Mutex::new(limits), Arc::clone(log), Mutex::new(known));
        Ok(Self(Arc::new(Inner { table, limits, log, known, gauge })))
    }

    /// Sets the limits from now on. Consumers above the maximum stay.
    pub(crate) fn set_limits(&self, limits: ConsumerLimits) {
        *self.0.limits.lock() = limits;
    }

    /// Acquires the lease of the consumer with this key, and adds the consumer if it is new. If
    /// another connection has the lease, that connection is closed.
    ///
    /// # Errors
    /// When delivery cannot start at this position, a limit is reached, the previous connection
    /// does not end, or RocksDB fails.
    pub(crate) async fn acquire(
        &self,
        key: &str,
        start: StartPosition,
        share: Option<Share<'_>>,
    ) -> Result<Lease, EnterError> {
        let deadline = Instant::now() + CONSUMER_LEASE_WAIT_MAX;
        loop {
            let consumer = self.find_or_add(key, start, share).await?;
            let lease = consumer.acquire(deadline).await?;
            // A consumer that was deleted while we waited starts as a new one.
            let Some(row) = lease.row() else { continue };
            let cursor = self.0.resume_cursor(key, row, start)?;
            return Ok(lease.start(cursor).await?);
        }
    }

    async fn find_or_add(
        &self,
        key: &str,
        start: StartPosition,
        share: Option<Share<'_>>,
    ) -> Result<Arc<Consumer>, EnterError> {
        let prefix = match (self.0.find_or_add(key, start, share), share) {
            (Err(EnterError::TooMany(_)), _) => String::new(),
            (Err(EnterError::TooManyShared(_)), Some(share)) => share.prefix.to_owned(),
            (found, _) => return found,
        };
        let inner = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || inner.make_room(&prefix)).await;
        made.map_err(|error| StorageError::new("forget consumers", error))??;
        self.0.find_or_add(key, start, share)
    }

    /// The cursor of a consumer; `None` if there is no such consumer.
    pub(crate) fn cursor(&self, key: &str) -> Option<Cursor> {
        self.0.known.lock().get(key)?.row().map(|row| row.cursor)
    }

    /// Returns all consumers in the order of their keys.
    pub fn list(&self) -> Vec<(Arc<str>, CursorRow)> {
        let known = self.0.known.lock();
        known.values().filter_map(|consumer| Some((Arc::clone(&consumer.key), consumer.row()?))).collect()
    }

    /// Deletes a consumer that is not connected. Blocks on the disk.
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
        start: StartPosition,
        share: Option<Share<'_>>,
    ) -> Result<Arc<Consumer>, EnterError> {
        let mut known = self.known.lock();
        if let Some(consumer) = known.get(key) {
            return Ok(Arc::clone(consumer));
        }
        // Checked first, so that an owner at its limit does not trigger an eviction.
        if let Some(Share { prefix, max }) = share
            && with_prefix(&known, prefix).take(max).count() >= max
        {
            return Err(EnterError::TooManyShared(max));
        }
        let max = self.limits.lock().max;
        if known.len() >= max.get() {
            return Err(EnterError::TooMany(max));
        }
        let cursor = self.start_cursor(start)?;
        // The row is stored when the lease starts. If the lease never starts, the consumer counts
        // as not connected.
        let unused_since_ms = self.log.clock().at_least_the_log_ms();
        let row = CursorRow { unused_since_ms, has_acked: false, ..CursorRow::at(cursor) };
        let key: Arc<str> = key.into();
        let consumer = Consumer::new(Arc::clone(&key), self.table, Arc::clone(&self.log), row, None);
        let consumer = Arc::new(consumer);
        known.insert(key, Arc::clone(&consumer));
        update_gauge(&self.gauge, &known);
        Ok(consumer)
    }

    /// Returns the first cursor of a new consumer, or of a consumer that seeks.
    fn start_cursor(&self, start: StartPosition) -> Result<Cursor, CursorError> {
        match start {
            StartPosition::Now(head) => Ok(head),
            StartPosition::After(Cursor::START) | StartPosition::Seek(Cursor::START) => {
                Ok(Cursor::before(self.log.floor()))
            }
            StartPosition::After(cursor) | StartPosition::Seek(cursor) => {
                self.log.check_cursor(cursor).map(|()| cursor)
            }
        }
    }

    /// Returns the cursor of a known consumer. A stored cursor of 0 is not moved to the oldest kept
    /// event: such a move would hide from the consumer that events were trimmed.
    fn resume_cursor(&self, key: &str, row: CursorRow, start: StartPosition) -> Result<Cursor, EnterError> {
        if let StartPosition::Seek(_) = start {
            return Ok(self.start_cursor(start)?);
        }
        // The floor is read first, so it is never above the head.
        let oldest = self.log.floor();
        let newest = self.log.head();
        // A cursor beyond the head would skip future events with these sequences.
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
        // A consumer is deleted only once, so the key still belongs to this consumer.
        consumer.forget(is_expected, || {
            let mut known = self.known.lock();
            known.remove(&consumer.key);
            update_gauge(&self.gauge, &known);
        })
    }

    /// Makes room for a new consumer, if possible, by deleting consumers with this prefix. Blocks
    /// on the disk.
    fn make_room(&self, prefix: &str) -> Result<(), StorageError> {
        if self.forget_unused(prefix)? { Ok(()) } else { self.forget_one_without_acks(prefix) }
    }

    /// Deletes consumers with this prefix that have not been connected for a long time, unless the
    /// clock is in doubt. Returns whether any were deleted.
    fn forget_unused(&self, prefix: &str) -> Result<bool, StorageError> {
        if !self.log.clock().deletes_by_age() {
            return Ok(false);
        }
        let (now, keep_ms) = (self.log.clock().unix_ms(), self.limits.lock().keep_ms());
        let is_old =
            |row: CursorRow| row.unused_since_ms != 0 && now.saturating_sub(row.unused_since_ms) >= keep_ms;
        let old: Vec<_> = {
            let known = self.known.lock();
            let old = with_prefix(&known, prefix).filter(|consumer| consumer.row().is_some_and(is_old));
            old.cloned().collect()
        };
        let mut has_forgotten = false;
        for consumer in old {
            // The consumer may have connected in the meantime.
            if self.forget(&consumer, is_old)? {
                has_forgotten = true;
                let consumer = &*consumer.key;
                tracing::info!(
                    name: "consumer_expired",
                    consumer, "deleted a consumer that had not connected for keep_unused_hours"
                );
            }
        }
        Ok(has_forgotten)
    }

    /// Deletes the consumer with this prefix that has been disconnected longest among those that
    /// never acknowledged anything.
    fn forget_one_without_acks(&self, prefix: &str) -> Result<(), StorageError> {
        let is_evictable = |row: CursorRow| row.unused_since_ms != 0 && !row.has_acked;
        let mut candidates: Vec<_> = {
            let known = self.known.lock();
            let rows = with_prefix(&known, prefix).filter_map(|consumer| Some((consumer.row()?, consumer)));
            let rows = rows.filter(|(row, _)| is_evictable(*row));
            rows.map(|(row, consumer)| (row.unused_since_ms, Arc::clone(consumer))).collect()
        };
        candidates.sort_unstable_by_key(|(unused_since_ms, _)| *unused_since_ms);
        for (_, consumer) in candidates {
            // The consumer may have connected in the meantime.
            if self.forget(&consumer, is_evictable)? {
                let consumer = &*consumer.key;
                tracing::info!(
                    name: "consumer_evicted",
                    consumer,
                    "a consumer that never acknowledged anything was evicted for a new one"
                );
                break;
            }
        }
        Ok(())
    }
}

/// Iterates over the consumers whose keys have this prefix.
fn with_prefix<'a>(known: &'a Known, prefix: &str) -> impl Iterator<Item = &'a Arc<Consumer>> {
    let from = known.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, consumer)| consumer)
}

fn update_gauge(gauge: &Gauge, known: &Known) {
    gauge.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests;
