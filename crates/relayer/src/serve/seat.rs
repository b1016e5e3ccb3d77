//! A consumer whose cursor we keep, and its seat: the one connection at a time that has its name.
//!
//! What is true of a consumer is in memory, and the database follows. So whoever sits down next finds every
//! acknowledgement, written or not; and a write that was begun for somebody who is gone writes what is true by
//! then, not what was.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{CURSOR_INTERVAL, DISK_RETRY};

/// The connection before does not leave in time, or another one came in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The name that a consumer gave itself, out of the key of its cursor: what is behind the last `/`, which no
/// name contains. What stands before says whose the name is.
pub fn name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// What is known of a consumer.
#[derive(Debug)]
pub struct Consumer {
    /// What its cursor is kept under.
    pub key: Arc<str>,
    /// Among whose cursors.
    whose: Cursors,
    log: Arc<EventLog>,
    /// What is true; `None` when it is forgotten.
    row: Mutex<Option<CursorRow>>,
    /// What is in the database. It is held while that is written, so that nothing older comes after.
    written: Mutex<Option<CursorRow>>,
    seat: Arc<Semaphore>,
    /// The number of the connection that came last.
    latest: watch::Sender<u64>,
}

impl Consumer {
    /// One that nobody is connected as. `written` is what the database has of it.
    pub fn new(
        key: Arc<str>,
        whose: Cursors,
        log: Arc<EventLog>,
        row: CursorRow,
        written: Option<CursorRow>,
    ) -> Self {
        Self {
            key,
            whose,
            log,
            row: Mutex::new(Some(row)),
            written: Mutex::new(written),
            seat: Arc::new(Semaphore::new(1)),
            latest: watch::Sender::new(0),
        }
    }

    /// How far it is and since when nobody is connected as it; `None` when it is forgotten.
    pub fn row(&self) -> Option<CursorRow> {
        *self.row.lock()
    }

    /// Waits for the seat until then; whoever sits there is told to leave, and has written its cursor when
    /// this comes back.
    ///
    /// # Errors
    /// When it takes too long, or when somebody else came meanwhile: the last one wins.
    pub async fn turn(self: Arc<Self>, deadline: Instant) -> Result<Turn, Busy> {
        let mut number = 0;
        self.latest.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        let permit = timeout_at(deadline, Arc::clone(&self.seat).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Busy) };
        if *self.latest.borrow() != number {
            return Err(Busy);
        }
        Ok(Turn { consumer: self, permit, number })
    }

    /// Forgets it, unless somebody sits there, or it is not as it is expected to be. The cursor is deleted, and
    /// `then` called, before anybody else can sit down. Waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn forget(
        &self,
        is_expected: impl FnOnce(CursorRow) -> bool,
        then: impl FnOnce(),
    ) -> Result<bool, StorageError> {
        let Ok(_permit) = self.seat.try_acquire() else { return Ok(false) };
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

    /// Writes down what is true. Waits for the disk.
    fn write(&self) -> Result<(), StorageError> {
        let mut written = self.written.lock();
        let row = self.row();
        match row {
            _ if row == *written => return Ok(()),
            Some(row) => self.log.set_cursor(self.whose, &self.key, row)?,
            None => self.log.delete_cursor(self.whose, &self.key)?,
        }
        *written = row;
        Ok(())
    }
}

/// The seat is free, and nobody else can take it.
#[derive(Debug)]
pub struct Turn {
    consumer: Arc<Consumer>,
    permit: OwnedSemaphorePermit,
    number: u64,
}

impl Turn {
    /// Where the consumer is; `None` when it was forgotten meanwhile.
    pub fn row(&self) -> Option<CursorRow> {
        self.consumer.row()
    }

    /// Sits down: from now on somebody is connected, and goes on after a cursor. That is written down.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn sit(self, cursor: Cursor) -> Result<Seat, StorageError> {
        let Self { consumer, permit, number } = self;
        consumer.change(|row| (row.cursor, row.unused_since_ms) = (cursor, 0));
        let mut seat = Seat {
            number,
            consumer,
            permit: Some(permit),
            acked: cursor,
            saved: cursor,
            saved_at: Instant::now(),
        };
        let written = seat.write().await;
        // A known consumer is let in: what is on the disk is behind what it has, and that is all.
        // Of a new one, nothing would be known after a crash.
        if let Err(error) = written
            && !(error.is_full() && seat.consumer.written.lock().is_some())
        {
            return Err(error);
        }
        Ok(seat)
    }
}

/// The one connection of a consumer, until this is dropped.
#[derive(Debug)]
pub struct Seat {
    consumer: Arc<Consumer>,
    permit: Option<OwnedSemaphorePermit>,
    number: u64,
    acked: Cursor,
    saved: Cursor,
    saved_at: Instant,
}

impl Seat {
    /// The consumer's name, as it gave it itself.
    pub fn name(&self) -> &str {
        name(&self.consumer.key)
    }

    /// What it has acknowledged, or where it began.
    pub const fn cursor(&self) -> Cursor {
        self.acked
    }

    /// It has acknowledged everything up to here. Nothing else moves its cursor.
    pub fn acknowledge(&mut self, cursor: Cursor) {
        self.acked = cursor;
        self.consumer.change(|row| (row.cursor, row.has_acked) = (cursor, true));
    }

    /// When the cursor is to be written down, if it has moved since it was.
    pub fn due(&self) -> Option<Instant> {
        (self.acked != self.saved).then(|| self.saved_at + CURSOR_INTERVAL)
    }

    /// Writes the cursor down, on a thread that may wait. On a full disk it stays in memory, and is
    /// written later.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn save(&mut self) -> Result<(), StorageError> {
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

    /// What tells when another connection wants the seat.
    pub fn replacement(&self) -> Replacement {
        Replacement { number: self.number, latest: self.consumer.latest.subscribe() }
    }

    /// Writes the cursor down, and that nobody is connected any more, and then lets the next one in.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn leave(mut self) -> Result<(), StorageError> {
        match self.give_back() {
            Some(writing) => match finished(writing).await {
                // It stays in memory, where the next connection finds it.
                Err(error) if error.is_full() => Ok(()),
                written => written,
            },
            None => Ok(()),
        }
    }

    fn give_back(&mut self) -> Option<JoinHandle<Result<(), StorageError>>> {
        let permit = self.permit.take()?;
        let now_ms = self.consumer.log.clock().at_least_the_log_ms();
        self.consumer.change(|row| row.unused_since_ms = now_ms);
        let consumer = Arc::clone(&self.consumer);
        // Without a runtime the process is ending. At the next start nobody is connected in any case.
        Some(Handle::try_current().ok()?.spawn_blocking(move || {
            let written = consumer.write();
            drop(permit);
            written
        }))
    }
}

impl Drop for Seat {
    /// For a connection that never came about.
    fn drop(&mut self) {
        drop(self.give_back());
    }
}

/// Tells when another connection wants a seat.
#[derive(Debug)]
pub struct Replacement {
    number: u64,
    latest: watch::Receiver<u64>,
}

impl Replacement {
    /// Comes back when another connection wants the seat.
    pub async fn wanted(&mut self) {
        let number = self.number;
        if self.latest.wait_for(|latest| *latest != number).await.is_err() {
            std::future::pending::<()>().await; // Cannot be: the seat holds the sender.
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
        let log = EventLog::open(folder.path(), StoreOptions { fsync: false }, 1 << 20).unwrap();
        Arc::new(Consumer::new("a".into(), Cursors::Consumers, log, CursorRow::at(Cursor::START), None))
    }

    fn stored(consumer: &Consumer) -> Option<CursorRow> {
        let rows = consumer.log.cursors(Cursors::Consumers).unwrap();
        rows.into_iter().map(|(_, row)| row).next()
    }

    async fn turn(consumer: &Arc<Consumer>, millis: u64) -> Result<Turn, Busy> {
        Arc::clone(consumer).turn(Instant::now() + Duration::from_millis(millis)).await
    }

    #[test]
    fn a_name_is_what_is_behind_the_last_slash() {
        assert_eq!([name("a.b-c"), name("00ff/a"), name("0/1/a")], ["a.b-c", "a", "a"]);
    }

    #[tokio::test]
    async fn of_those_that_wait_the_last_one_gets_the_seat() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let first = turn(&consumer, 0).await.unwrap().sit(Cursor::START).await.unwrap();
        let mut replacement = first.replacement();
        let leaves = async {
            replacement.wanted().await;
            sleep(Duration::from_millis(50)).await; // The third one comes meanwhile.
            first.leave().await.unwrap();
        };
        let third = async {
            sleep(Duration::from_millis(10)).await;
            turn(&consumer, 10_000).await
        };
        let (second, third, ()) = tokio::join!(turn(&consumer, 10_000), third, leaves);
        assert_eq!((second.err(), third.err()), (Some(Busy), None));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let _seat = turn(&consumer, 0).await.unwrap().sit(Cursor::START).await.unwrap();
        assert_eq!(turn(&consumer, 20).await.err(), Some(Busy));
    }

    /// Such as one whose client hung up before it was answered.
    #[tokio::test]
    async fn a_seat_that_is_dropped_is_left() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let mut seat = turn(&consumer, 0).await.unwrap().sit(Cursor::START).await.unwrap();
        seat.acknowledge(Cursor::from_number(7));
        drop(seat);
        let next = turn(&consumer, 10_000).await.unwrap();
        let row = stored(&consumer).unwrap();
        assert_eq!(row.cursor, Cursor::from_number(7));
        assert_ne!(row.unused_since_ms, 0);
        drop(next);
    }

    /// A write that was begun for somebody who is gone comes to its end last.
    #[tokio::test]
    async fn a_write_that_is_late_undoes_nothing() {
        let folder = TempDir::new().unwrap();
        let consumer = consumer(&folder);
        let mut seat = turn(&consumer, 0).await.unwrap().sit(Cursor::START).await.unwrap();
        seat.acknowledge(Cursor::from_number(7));
        consumer.write().unwrap();
        assert_eq!(stored(&consumer).map(|row| row.cursor), Some(Cursor::from_number(7)));
        seat.leave().await.unwrap();
        consumer.write().unwrap();
        assert_ne!(stored(&consumer).unwrap().unused_since_ms, 0);
        assert!(consumer.forget(|_| true, || {}).unwrap());
        consumer.write().unwrap();
        assert_eq!(stored(&consumer), None, "forgotten for good");
        assert!(turn(&consumer, 0).await.unwrap().row().is_none());
    }
}
