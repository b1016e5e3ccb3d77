//! The messages from a connection to a shard: the JSON of events whose ids are not in memory, and
//! marks. A mark follows the events that must be in the log before the mark is true.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use wire::{ClaimedId, PublicKey, UnverifiedEvent};

use super::drop_reason::DropReason;
use crate::clock::Clock;
use crate::event_log::{Checkpoint, Mark};
use crate::limits::{INBOX_CANDIDATES_MAX, INGEST_BYTES_MAX, REPAIR_QUEUE_SHARE, SECONDS_BYTES_MAX};

/// A relay as the source of an event. The shards tell it what became of the event.
pub trait Source: fmt::Debug + Send + Sync {
    /// The relay's URL, which is stored with its events.
    fn url(&self) -> Arc<str>;

    /// Whether the relay sends live events: their `created_at` should match our clock.
    fn is_live(&self) -> bool;

    /// Counts an event that this relay sent first.
    fn was_first(&self);

    /// Counts a copy. `late` is the time since the first copy, if known.
    fn sent_copy(&self, late: Option<Duration>);

    /// Counts an event that was refused.
    fn sent_refused(&self, reason: DropReason);
}

/// An unverified event that may be new.
#[derive(Debug)]
pub struct Candidate {
    pub claimed: ClaimedId,
    /// The last byte of the claimed author's key, which selects the shard. Authors choose the
    /// prefix of their keys, but rarely the suffix. 0 if the text is not an event.
    pub(crate) author_byte: u8,
    /// The event's JSON, copied out of the frame.
    pub json: Box<[u8]>,
    pub source: Arc<dyn Source>,
    /// When the frame was read, in Unix milliseconds.
    pub received_at_ms: u64,
    /// When the frame was read, on the monotonic clock.
    pub received: Instant,
    /// The permit for the event's bytes between sockets and commit.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Candidate {
    /// Copies an event's JSON out of the frame that was just read.
    pub fn new(claimed: ClaimedId, json: &[u8], source: Arc<dyn Source>, clock: &Clock) -> Self {
        Self {
            claimed,
            author_byte: claimed_author(json).map_or(0, |author| last_byte(&author)),
            json: json.into(),
            source,
            received_at_ms: clock.unix_ms(),
            received: Instant::now(),
            budget: None,
        }
    }

    fn cost(&self) -> u32 {
        u32::try_from(self.json.len()).unwrap_or(u32::MAX)
    }
}

/// A message in a shard's inbox.
#[derive(Debug)]
pub enum Inbound {
    Candidate(Candidate),
    /// A mark. The shard passes it on to the sequencer, after everything that was sent before the
    /// mark.
    Checkpoint(Arc<Checkpoint>),
    /// Wakes the shard and the sequencer, so that they show that they make progress.
    Probe,
}

/// The author that an event's text claims. Parses the text only if a scan cannot tell.
fn claimed_author(json: &[u8]) -> Option<PublicKey> {
    wire::author(json).or_else(|| UnverifiedEvent::parse(json).ok().map(|event| event.pubkey))
}

/// The byte of an author's key that selects the shard.
pub(super) const fn last_byte(author: &PublicKey) -> u8 {
    let [.., last] = *author.as_bytes();
    last
}

/// The shards' inboxes. All events of one author go to the same shard in the order they were sent,
/// so they enter the log in that order.
#[derive(Debug, Clone)]
pub struct Inboxes {
    senders: Arc<[mpsc::Sender<Inbound>]>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    /// Limits the bytes of events that wait for other events of the same second. Separate from the
    /// budget, because repairs pause while the budget is used up: a repair could then wait for its
    /// own events.
    held: Arc<Semaphore>,
}

impl Inboxes {
    /// One inbox for each shard, with the receiving ends. `frame_bytes_max` is the maximum length
    /// of a frame.
    pub fn new(shards: usize, frame_bytes_max: usize) -> (Self, Vec<mpsc::Receiver<Inbound>>) {
        let (senders, receivers): (Vec<_>, _) =
            std::iter::repeat_with(|| mpsc::channel(INBOX_CANDIDATES_MAX)).take(shards.max(1)).unzip();
        // The longest frame must fit, or its sender would never get a permit.
        let budget_bytes = INGEST_BYTES_MAX.max(2 * frame_bytes_max);
        let inboxes = Self {
            senders: senders.into(),
            budget: Arc::new(Semaphore::new(budget_bytes)),
            budget_bytes,
            held: Arc::new(Semaphore::new(SECONDS_BYTES_MAX)),
        };
        (inboxes, receivers)
    }

    /// Reserves memory for a candidate that waits for later candidates; `None` if no memory is
    /// left.
    pub fn hold(&self, candidate: &Candidate) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.held).try_acquire_many_owned(candidate.cost()).ok()
    }

    /// Sends a candidate to its shard without waiting.
    ///
    /// # Errors
    /// Returns the candidate if there is no room; [`send`](Self::send) waits for room.
    pub fn offer(&self, mut candidate: Candidate) -> Result<(), Candidate> {
        let Ok(budget) = Arc::clone(&self.budget).try_acquire_many_owned(candidate.cost()) else {
            return Err(candidate);
        };
        let Some(shard) = self.shard(&candidate) else {
            return Err(candidate);
        };
        candidate.budget = Some(budget);
        let Err(TrySendError::Full(refused) | TrySendError::Closed(refused)) =
            shard.try_send(Inbound::Candidate(candidate))
        else {
            return Ok(());
        };
        match refused {
            Inbound::Candidate(candidate) => Err(candidate),
            Inbound::Checkpoint(_) | Inbound::Probe => Ok(()), // Unreachable: a candidate was sent.
        }
    }

    /// Sends a mark through all shards, after everything sent before. Waits while inboxes are full.
    pub async fn mark(&self, mark: Mark) {
        let checkpoint = Checkpoint::new(mark, self.senders.len());
        for shard in &*self.senders {
            // An error means that the shard has ended; then the process stops.
            let _ = shard.send(Inbound::Checkpoint(Arc::clone(&checkpoint))).await;
        }
    }

    /// Like [`mark`](Self::mark), but gives up if an inbox is full: for a mark that the next mark
    /// replaces.
    pub(crate) fn offer_mark(&self, mark: Mark) {
        let checkpoint = Checkpoint::new(mark, self.senders.len());
        for shard in &*self.senders {
            // A mark that misses a shard is never committed.
            if shard.try_send(Inbound::Checkpoint(Arc::clone(&checkpoint))).is_err() {
                return;
            }
        }
    }

    /// Sends a candidate to its shard. Waits while the shards are behind, so the caller stops
    /// reading its socket. `false` if the shard has ended.
    pub async fn send(&self, mut candidate: Candidate) -> bool {
        if candidate.budget.is_none() {
            candidate.budget = Arc::clone(&self.budget).acquire_many_owned(candidate.cost()).await.ok();
        }
        match self.shard(&candidate) {
            Some(shard) => shard.send(Inbound::Candidate(candidate)).await.is_ok(),
            None => false,
        }
    }

    /// Whether the queue is short enough to request past events: live events have priority.
    pub(crate) fn has_room_for_backfill(&self) -> bool {
        let used = self.budget_bytes.saturating_sub(self.budget.available_permits());
        used <= self.budget_bytes / REPAIR_QUEUE_SHARE
    }

    /// The shard of the candidate's author. A text that is not an event goes to any shard and is
    /// refused there.
    fn shard(&self, candidate: &Candidate) -> Option<&mpsc::Sender<Inbound>> {
        self.senders.get(usize::from(candidate.author_byte) % self.senders.len())
    }

    /// A view that does not keep the inboxes open.
    pub(crate) fn gauge(&self) -> InboxGauge {
        InboxGauge {
            senders: self.senders.iter().map(mpsc::Sender::downgrade).collect(),
            budget: Arc::clone(&self.budget),
            budget_bytes: self.budget_bytes,
        }
    }
}

/// Reads how full the inboxes are, and probes their shards.
#[derive(Debug, Clone)]
pub struct InboxGauge {
    senders: Arc<[mpsc::WeakSender<Inbound>]>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
}

impl InboxGauge {
    /// The candidates in the inboxes, and the bytes of all events between sockets and commit.
    pub fn waiting(&self) -> (usize, usize) {
        let open = self.senders.iter().filter_map(mpsc::WeakSender::upgrade);
        let candidates = open.map(|shard| shard.max_capacity() - shard.capacity()).sum();
        (candidates, self.budget_bytes - self.budget.available_permits())
    }

    /// Wakes idle shards. A full inbox needs no probe.
    pub(crate) fn probe(&self) {
        for shard in self.senders.iter().filter_map(mpsc::WeakSender::upgrade) {
            let _ = shard.try_send(Inbound::Probe);
        }
    }
}
