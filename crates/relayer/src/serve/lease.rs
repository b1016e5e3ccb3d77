//! A consumer, and the lease that only one of its connections can hold.
//!
//! The state of a consumer in memory is authoritative, and the database lags behind. The next
//! connection therefore finds every acknowledgement, stored or not, and a late write stores the
//! latest state.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{CURSOR_INTERVAL, DISK_RETRY};

/// The previous connection does not release the lease in time, or a later connection wants the
/// lease, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Returns the consumer's name from the key of its cursor: the part after the last `/`, because
/// names do not contain `/`. The part before that `/` identifies the owner.
pub(super) fn name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

#[derive(Debug)]
pub(super) struct Consumer {
    /// The key of the consumer's cursor.
    pub(super) key: Arc<str>,
    table: Cursors,
    log: Arc<EventLog>,
    /// The current state; `None` once the consumer is deleted.
    row: Mutex<Option<CursorRow>>,
    /// The row in the database. The lock is held during a write, so that no older row overwrites a
    /// newer one.
    written: Mutex<Option<CursorRow>>,
    /// A semaphore with one permit, which is the lease.
    lease: Arc<Semaphore>,
    /// The number of the last connection that asked for the lease.
    latest: watch::Sender<u64>,
}

impl Consumer {
    /// Creates a consumer without a connection. `written` is the consumer's row in the database.
    pub(super) fn new(
        key: Arc<str>,
        table: Cursors,
        log: Arc<EventLog>,
        row: CursorRow,
        written: Option<CursorRow>,
    ) -> Self {
        Self {
            key,
            table,
            log,
            row: Mutex::new(Some(row)),
            written: Mutex::new(written),
            lease: Arc::new(Semaphore::new(1)),
            latest: watch::Sender::new(0),
        }
    }

    /// The consumer's current state; `None` once the consumer is deleted.
    pub(super) fn row(&self) -> Option<CursorRow> {
        *self.row.lock()
    }

    /// Waits for the lease until the deadline. The connection that holds the lease is told to end,
    /// and stores its cursor before this function returns. If several connections wait, the last
    /// one gets the lease and the others get `Busy`.
    pub(super) async fn acquire(self: Arc<Self>, deadline: Instant) -> Result<PendingLease, Busy> {
        let mut number = 0;
        self.latest.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        let permit = timeout_at(deadline, Arc::clone(&self.lease).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Busy) };
        if *self.latest.borrow() != number {
            return Err(Busy);
        }
        Ok(PendingLease { consumer: self, permit, number })
    }

    /// Deletes the consumer and calls `then`, unless the consumer is leased or its state is not as
    /// expected. In the meantime, nobody else can acquire the lease. Blocks on the disk.
    pub(super) fn forget(
        &self,
        is_expected: impl FnOnce(CursorRow) -> bool,
        then: impl FnOnce(),
    ) -> Result<bool, StorageError> {
        let Ok(_permit) = self.lease.try_acquire() else { return Ok(false) };
        if !self.row().is_some_and(is_expected) {
            return Ok(false);
        }
        *self.row.lock() = None;
        self.write()?;
        then();
        Ok(true)
    }

    fn change(&self, change: impl FnOnce(&mut CursorRow)) {
        self.row.lock().as_mut().map(change);
    }

    /// Stores the current state. Blocks on the disk.
    fn write(&self) -> Result<(), StorageError> {
        let mut written = self.written.lock();
        let row = self.row();
        match row {
            _ if row == *written => return Ok(()),
            Some(row) => self.log.set_cursor(self.table, &self.key, row)?,
            None => self.log.delete_cursor(self.table, &self.key)?,
        }
        *written = row;
        Ok(())
    }
}

/// A lease that is already held while the connection's cursor is not known yet.
#[derive(Debug)]
pub(super) struct PendingLease {
    consumer: Arc<Consumer>,
    permit: OwnedSemaphorePermit,
    number: u64,
}

impl PendingLease {
    /// The state of the consumer; `None` if the consumer has been deleted in the meantime.
    pub(super) fn row(&self) -> Option<CursorRow> {
        self.consumer.row()
    }

    /// Marks the consumer as connected at a cursor, and stores this state.
    pub(super) async fn start(self, cursor: Cursor) -> Result<Lease, StorageError> {
        let Self { consumer, permit, number } = self;
        consumer.change(|row| (row.cursor, row.unused_since_ms) = (cursor, 0));
        let mut lease = Lease {
            number,
            consumer,
            permit: Some(permit),
            acked: cursor,
            saved: cursor,
            saved_at: Instant::now(),
        };
        let written = lease.write().await;
        // If the disk is full, the database has an older cursor of a known consumer, which is safe.
        // A new consumer would be unknown after a crash.
        if let Err(error) = written
            && !(error.is_full() && lease.consumer.written.lock().is_some())
        {
            return Err(error);
        }
        Ok(lease)
    }
}

/// The lease of a connection: while it exists, the consumer has no other connection.
#[derive(Debug)]
pub(crate) struct Lease {
    consumer: Arc<Consumer>,
    permit: Option<OwnedSemaphorePermit>,
    number: u64,
    acked: Cursor,
    saved: Cursor,
    saved_at: Instant,
}

impl Lease {
    pub fn name(&self) -> &str {
        name(&self.consumer.key)
    }

    /// The last acknowledgement, or the cursor at the start of the connection.
    pub const fn cursor(&self) -> Cursor {
        self.acked
    }

    /// Advances the cursor to an acknowledgement. Nothing else moves the cursor.
    pub(super) fn acknowledge(&mut self, cursor: Cursor) {
        self.acked = cursor;
        self.consumer.change(|row| (row.cursor, row.has_acked) = (cursor, true));
    }

    /// Returns when the cursor must be stored; `None` if it has not moved.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.acked != self.saved).then(|| self.saved_at + CURSOR_INTERVAL)
    }

    /// Stores the cursor, on the blocking pool. While the disk is full, the cursor stays in memory
    /// and is stored later.
    pub(super) async fn save(&mut self) -> Result<(), StorageError> {
        match self.write().await {
            Err(error) if error.is_full() => {
                self.saved_at = Instant::now() + DISK_RETRY;
                Ok(())
            }
            written => written,
        }
    }

    async fn write(&mut self) -> Result<(), StorageError> {
        let (consumer, saved) = (Arc::clone(&self.consumer), self.acked);
        finished(tokio::task::spawn_blocking(move || consumer.write())).await?;
        (self.saved, self.saved_at) = (saved, Instant::now());
        Ok(())
    }

    pub(super) fn replacement(&self) -> Replacement {
        Replacement { number: self.number, latest: self.consumer.latest.subscribe() }
    }

    /// Stores the cursor and marks the consumer as not connected, and then frees the lease.
    pub(super) async fn release(mut self) -> Result<(), StorageError> {
        match self.start_release() {
            Some(writing) => match finished(writing).await {
                // The state stays in memory for the next connection.
                Err(error) if error.is_full() => Ok(()),
                written => written,
            },
            None => Ok(()),
        }
    }

    fn start_release(&mut self) -> Option<JoinHandle<Result<(), StorageError>>> {
        let permit = self.permit.take()?;
        let now_ms = self.consumer.log.clock().at_least_the_log_ms();
        self.consumer.change(|row| row.unused_since_ms = now_ms);
        let consumer = Arc::clone(&self.consumer);
        // Without a runtime, the process is ending. A restart releases all leases anyway.
        Some(Handle::try_current().ok()?.spawn_blocking(move || {
            let written = consumer.write();
            drop(permit);
            written
        }))
    }
}

impl Drop for Lease {
    /// Releases the lease if the upgrade was never completed.
    fn drop(&mut self) {
        drop(self.start_release());
    }
}

/// Signals that another connection wants the lease.
#[derive(Debug)]
pub(super) struct Replacement {
    number: u64,
    latest: watch::Receiver<u64>,
}

impl Replacement {
    /// Waits until another connection wants the lease.
    pub(super) async fn wanted(&mut self) {
        let number = self.number;
        if self.latest.wait_for(|latest| *latest != number).await.is_err() {
            std::future::pending::<()>().await; // Unreachable: the lease holds the sender.
        }
    }
}

async fn finished(writing: JoinHandle<Result<(), StorageError>>) -> Result<(), StorageError> {
    writing.await.map_err(|error| StorageError::new("write a cursor", error))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::*;
    use crate::event_log::StoreOptions;

    fn consumer(folder: &TempDir) -> Arc<Consumer> {
        let log =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .unwrap();
        Arc::new(Consumer::new("a".into(), Cursors::Consumers, log, CursorRow::at(Cursor::START), None))
    }

    fn stored(consumer: &Consumer) -> Option<CursorRow> {
        let rows = consumer.log.cursors(Cursors::Consumers).unwrap();
        rows.into_iter().map(|(_, row)| row).next()
    }

    async fn acquire(consumer: &Arc<Consumer>, millis: u64) -> Result<PendingLease, Busy> {
        Arc::clone(consumer).acquire(Instant::now() + Duration::from_millis(millis)).await
    }

    #[test]
    fn a_name_is_the_part_after_the_last_slash() {
        assert_eq!([name("a.b-c"), name("00ff/a"), name("0/1/a")], ["a.b-c", "a", "a"]);
    }

    #[tokio::test]
    async fn the_last_connection_that_waits_gets_the_lease() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let first = acquire(&consumer, 0).await.unwrap().start(Cursor::START).await.unwrap();
        let mut replacement = first.replacement();
        let release = async {
            replacement.wanted().await;
            sleep(Duration::from_millis(50)).await; // The third connection arrives here.
            first.release().await.unwrap();
        };
        let third = async {
            sleep(Duration::from_millis(10)).await;
            acquire(&consumer, 10_000).await
        };
        let (second, third, ()) = tokio::join!(acquire(&consumer, 10_000), third, release);
        assert_eq!((second.err(), third.err()), (Some(Busy), None));
    }

    #[tokio::test]
    async fn waiting_for_a_lease_ends() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let _lease = acquire(&consumer, 0).await.unwrap().start(Cursor::START).await.unwrap();
        assert_eq!(acquire(&consumer, 20).await.err(), Some(Busy));
    }

    /// A client may hang up before the upgrade is answered.
    #[tokio::test]
    async fn a_lease_that_is_dropped_is_released() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let mut lease = acquire(&consumer, 0).await.unwrap().start(Cursor::START).await.unwrap();
        lease.acknowledge(Cursor::from_number(7));
        drop(lease);
        let next = acquire(&consumer, 10_000).await.unwrap();
        let row = stored(&consumer).unwrap();
        assert_eq!(row.cursor, Cursor::from_number(7));
        assert_ne!(row.unused_since_ms, 0);
        drop(next);
    }

    /// A write that was started for a previous connection may finish last.
    #[tokio::test]
    async fn a_late_write_undoes_nothing() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let mut lease = acquire(&consumer, 0).await.unwrap().start(Cursor::START).await.unwrap();
        lease.acknowledge(Cursor::from_number(7));
        consumer.write().unwrap();
        assert_eq!(stored(&consumer).map(|row| row.cursor), Some(Cursor::from_number(7)));
        lease.release().await.unwrap();
        consumer.write().unwrap();
        assert_ne!(stored(&consumer).unwrap().unused_since_ms, 0);
        assert!(consumer.forget(|_| true, || {}).unwrap());
        consumer.write().unwrap();
        assert_eq!(stored(&consumer), None, "forgotten for good");
        assert!(acquire(&consumer, 0).await.unwrap().row().is_none());
    }
}
