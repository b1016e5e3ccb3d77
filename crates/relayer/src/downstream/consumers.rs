//! The consumers of `/ws` whose cursors we keep, by the names that they give themselves.
//!
//! All of them are in memory, a few hundred bytes each; `[output] max_consumers` says how many there may be.
//! One that nobody has been connected as for long is forgotten: at the start, and when there is no room for a
//! new one.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::seat::{Busy, Consumer, Seat};
use crate::config::{Output, SinkName};
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, Seq, StorageError, keys};
use crate::ingest::candidate::unix_ms;
use crate::limits::CONSUMER_TURN_MAX;

/// Where a consumer that connects goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Where it was; one that is new begins with what is committed from now on.
    Now,
    /// Where it was; one that is new begins after this.
    After(Cursor),
    /// After this, wherever it was.
    Seek(Cursor),
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
        /// The consumer.
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
    log: Arc<EventLog>,
    max: NonZeroUsize,
    keep_ms: u64,
    names: Mutex<BTreeMap<Arc<str>, Arc<Consumer>>>,
    gauge: Gauge,
}

impl Consumers {
    /// Those that the database knows. Nobody is connected yet. The gauge follows their number.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn open(output: &Output, log: &Arc<EventLog>, gauge: Gauge) -> Result<Self, StorageError> {
        let keep_ms = u64::try_from(output.keep_unused.as_millis()).unwrap_or(u64::MAX);
        for consumer in log.forget_unused(Cursors::Consumers, |_| false, unix_ms(), keep_ms)? {
            tracing::info!(consumer, "a consumer that did not come back was forgotten");
        }
        let known = log.cursors(Cursors::Consumers)?.into_iter().map(|(name, row)| {
            let name: Arc<str> = name.into();
            (Arc::clone(&name), Arc::new(Consumer::new(name, Arc::clone(log), row, Some(row))))
        });
        let names: BTreeMap<_, _> = known.collect();
        show(&gauge, names.len());
        let (max, names) = (output.max_consumers, Mutex::new(names));
        Ok(Self(Arc::new(Inner { log: Arc::clone(log), max, keep_ms, names, gauge })))
    }

    /// Takes a consumer's seat; the connection that has it is closed.
    ///
    /// # Errors
    /// When delivery cannot go on where it should, there are enough consumers, the connection before does not
    /// end, or RocksDB fails.
    pub async fn enter(&self, name: &SinkName, begin: Begin) -> Result<Seat, EnterError> {
        let deadline = Instant::now() + CONSUMER_TURN_MAX;
        loop {
            let consumer = self.find_or_add(name, begin).await?;
            let turn = consumer.turn(deadline).await?;
            // One that was forgotten while we waited is new.
            let Some(row) = turn.row() else { continue };
            let cursor = self.0.goes_on(name, row, begin)?;
            return Ok(turn.sit(cursor).await?);
        }
    }

    async fn find_or_add(&self, name: &SinkName, begin: Begin) -> Result<Arc<Consumer>, EnterError> {
        match self.0.find_or_add(name, begin) {
            Err(EnterError::TooMany(_)) => {}
            found => return found,
        }
        let inner = Arc::clone(&self.0);
        let forgotten = tokio::task::spawn_blocking(move || inner.forget_unused()).await;
        forgotten.map_err(|error| StorageError::new("forget consumers", error))??;
        self.0.find_or_add(name, begin)
    }

    /// All of them in the order of their names, each with its cursor and since when nobody is connected.
    pub fn list(&self) -> Vec<(Arc<str>, CursorRow)> {
        let names = self.0.names.lock();
        names.values().filter_map(|consumer| Some((Arc::clone(&consumer.name), consumer.row()?))).collect()
    }

    /// Forgets a consumer that nobody is connected as. Waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn forget(&self, name: &str) -> Result<Forgotten, StorageError> {
        let consumer = self.0.names.lock().get(name).cloned();
        let Some(consumer) = consumer else { return Ok(Forgotten::Unknown) };
        Ok(if self.0.forget(&consumer, |_| true)? { Forgotten::Done } else { Forgotten::Connected })
    }
}

impl Inner {
    fn find_or_add(&self, name: &SinkName, begin: Begin) -> Result<Arc<Consumer>, EnterError> {
        let mut names = self.names.lock();
        if let Some(known) = names.get(name.as_str()) {
            return Ok(Arc::clone(known));
        }
        if names.len() >= self.max.get() {
            return Err(EnterError::TooMany(self.max));
        }
        let cursor = self.place(begin)?;
        // It is written down when it sits. If it never does, nobody has it.
        let row = CursorRow { unused_since_ms: unix_ms(), ..CursorRow::at(cursor) };
        let consumer = Arc::new(Consumer::new(name.to_arc(), Arc::clone(&self.log), row, None));
        names.insert(name.to_arc(), Arc::clone(&consumer));
        show(&self.gauge, names.len());
        Ok(consumer)
    }

    /// Where one begins that is new, or is moved.
    fn place(&self, begin: Begin) -> Result<Cursor, CursorError> {
        match begin {
            Begin::Now => Ok(self.log.head()),
            Begin::After(Cursor::START) | Begin::Seek(Cursor::START) => Ok(keys::before(self.log.floor())),
            Begin::After(cursor) | Begin::Seek(cursor) => self.log.check_cursor(cursor).map(|()| cursor),
        }
    }

    /// Where one goes on that is known. Its cursor is a place, so 0 does not mean the oldest that is kept: it
    /// would miss what was trimmed, and not know.
    fn goes_on(&self, name: &SinkName, row: CursorRow, begin: Begin) -> Result<Cursor, EnterError> {
        if let Begin::Seek(_) = begin {
            return Ok(self.place(begin)?);
        }
        // The floor is read first: it never passes the head that is read after it.
        let oldest = self.log.floor();
        let newest = self.log.head();
        // Nobody can have what was never committed: it would not be sent what is under these numbers.
        let cursor = row.cursor.min(newest);
        if cursor.next() < oldest {
            return Err(EnterError::Trimmed { name: name.to_arc(), cursor, oldest, newest });
        }
        Ok(cursor)
    }

    fn forget(
        &self,
        consumer: &Consumer,
        is_expected: impl FnOnce(CursorRow) -> bool,
    ) -> Result<bool, StorageError> {
        // Once only, so the name is still this consumer's.
        consumer.forget(is_expected, || {
            let mut names = self.names.lock();
            names.remove(&consumer.name);
            show(&self.gauge, names.len());
        })
    }

    /// Forgets those that nobody has been connected as for long. Waits for the disk.
    fn forget_unused(&self) -> Result<(), StorageError> {
        let now = unix_ms();
        let is_old = |row: CursorRow| {
            row.unused_since_ms != 0 && now.saturating_sub(row.unused_since_ms) >= self.keep_ms
        };
        let old: Vec<_> = {
            let names = self.names.lock();
            names.values().filter(|consumer| consumer.row().is_some_and(is_old)).cloned().collect()
        };
        for consumer in old {
            // Somebody may have been connected since it was looked at.
            if self.forget(&consumer, is_old)? {
                let consumer = &*consumer.name;
                tracing::info!(consumer, "a consumer that did not come back was forgotten");
            }
        }
        Ok(())
    }
}

fn show(gauge: &Gauge, names: usize) {
    gauge.set(i64::try_from(names).unwrap_or(i64::MAX));
}
