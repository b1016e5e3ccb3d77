//! What goes from a connection to a shard: the text of an event that memory does not know, and behind the
//! events what is true once they are in the log.

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

/// A relay, as far as it is told what became of the events that it sent.
pub trait Source: fmt::Debug + Send + Sync {
    /// The URL that is kept with its events.
    fn url(&self) -> Arc<str>;

    /// Whether it sends live events now, whose dates agree with the present.
    fn is_live(&self) -> bool;

    /// Notes that it was the first to send an event.
    fn was_first(&self);

    /// Notes that it sent a copy, and how long after the first one if that is known.
    fn sent_copy(&self, late: Option<Duration>);

    /// Notes that it sent something that was refused.
    fn sent_refused(&self, reason: DropReason);
}

/// An event that may be new. Nothing of it is verified.
#[derive(Debug)]
pub struct Candidate {
    /// The id that it claims.
    pub claimed: ClaimedId,
    /// The last byte of the author's key that it claims, which decides the shard. People choose how
    /// their keys begin, but not how they end. 0 if its text is no event.
    pub author_byte: u8,
    /// The event object's text, in memory of its own: the frame that it came in is gone.
    pub json: Box<[u8]>,
    /// The relay that sent it.
    pub source: Arc<dyn Source>,
    /// When its frame was read, Unix time in milliseconds.
    pub received_at_ms: u64,
    /// The same moment, for measuring.
    pub received: Instant,
    /// Its share of the bytes between sockets and commit.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Candidate {
    /// Copies an event's text out of the frame that was just read.
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

    /// Bytes of its share of the budget.
    fn cost(&self) -> u32 {
        u32::try_from(self.json.len()).unwrap_or(u32::MAX)
    }
}

/// What comes into a shard's inbox.
#[derive(Debug)]
pub enum Inbound {
    /// To be judged.
    Candidate(Candidate),
    /// To be passed on behind everything that came before it.
    Checkpoint(Arc<Checkpoint>),
}

/// The author that an event's text claims. Parses the text only if a scan cannot tell.
fn claimed_author(json: &[u8]) -> Option<PublicKey> {
    wire::author(json).or_else(|| UnverifiedEvent::parse(json).ok().map(|event| event.pubkey))
}

/// The byte of an author's key that decides the shard.
pub(super) const fn last_byte(author: &PublicKey) -> u8 {
    let [.., last] = *author.as_bytes();
    last
}

/// The shards' inboxes. All events of one author go to the same shard, in the order in which they
/// were handed over, so that the author's events enter the log in that order.
#[derive(Debug, Clone)]
pub struct Inboxes {
    senders: Arc<[mpsc::Sender<Inbound>]>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    /// For events of one second that wait for the others. It is not part of the budget: nothing may
    /// be asked for while much of that is used, and those who wait for an answer would wait for
    /// themselves.
    held: Arc<Semaphore>,
}

impl Inboxes {
    /// As many inboxes as there are shards, with the ends that the shards read. `frame_bytes_max` is the
    /// longest frame that there can be.
    pub fn new(shards: usize, frame_bytes_max: usize) -> (Self, Vec<mpsc::Receiver<Inbound>>) {
        let (senders, receivers): (Vec<_>, _) =
            std::iter::repeat_with(|| mpsc::channel(INBOX_CANDIDATES_MAX)).take(shards.max(1)).unzip();
        // The longest frame must fit, or it would wait for ever.
        let budget_bytes = INGEST_BYTES_MAX.max(2 * frame_bytes_max);
        let inboxes = Self {
            senders: senders.into(),
            budget: Arc::new(Semaphore::new(budget_bytes)),
            budget_bytes,
            held: Arc::new(Semaphore::new(SECONDS_BYTES_MAX)),
        };
        (inboxes, receivers)
    }

    /// Room for a candidate that is not handed over yet because others belong before it; `None` if
    /// there is none.
    pub fn hold(&self, candidate: &Candidate) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.held).try_acquire_many_owned(candidate.cost()).ok()
    }

    /// Hands a candidate to its shard, if there is room at once.
    ///
    /// # Errors
    /// The candidate, if there is none: [`send`](Self::send) waits for it.
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
            Inbound::Checkpoint(_) => Ok(()), // Not what was sent.
        }
    }

    /// Sends a mark behind everything that was handed over before, through all shards. Waits while the
    /// shards have too much to do.
    pub async fn mark(&self, mark: Mark) {
        let checkpoint = Checkpoint::new(mark, self.senders.len());
        for shard in &*self.senders {
            // A shard that is gone has taken the process with it.
            let _ = shard.send(Inbound::Checkpoint(Arc::clone(&checkpoint))).await;
        }
    }

    /// As [`mark`](Self::mark), but gives up when an inbox is full: for a mark that the next one replaces.
    pub fn offer_mark(&self, mark: Mark) {
        let checkpoint = Checkpoint::new(mark, self.senders.len());
        for shard in &*self.senders {
            // One that does not get through all shards is never committed.
            if shard.try_send(Inbound::Checkpoint(Arc::clone(&checkpoint))).is_err() {
                return;
            }
        }
    }

    /// Hands a candidate to its shard, and waits while the shards have too much to do, which keeps the
    /// caller from reading its socket. `false` if the shards are gone.
    pub async fn send(&self, mut candidate: Candidate) -> bool {
        if candidate.budget.is_none() {
            candidate.budget = Arc::clone(&self.budget).acquire_many_owned(candidate.cost()).await.ok();
        }
        match self.shard(&candidate) {
            Some(shard) => shard.send(Inbound::Candidate(candidate)).await.is_ok(),
            None => false,
        }
    }

    /// Whether little enough is on its way into the log for relays to be asked for their past: live events go
    /// first.
    pub fn has_room_for_the_past(&self) -> bool {
        let used = self.budget_bytes.saturating_sub(self.budget.available_permits());
        used <= self.budget_bytes / REPAIR_QUEUE_SHARE
    }

    /// The shard of the candidate's author. What is no event goes to any shard, to be refused.
    fn shard(&self, candidate: &Candidate) -> Option<&mpsc::Sender<Inbound>> {
        self.senders.get(usize::from(candidate.author_byte) % self.senders.len())
    }

    /// A view that does not keep the inboxes open.
    pub fn gauge(&self) -> InboxGauge {
        InboxGauge {
            senders: self.senders.iter().map(mpsc::Sender::downgrade).collect(),
            budget: Arc::clone(&self.budget),
            budget_bytes: self.budget_bytes,
        }
    }
}

/// How full the inboxes are.
#[derive(Debug, Clone)]
pub struct InboxGauge {
    senders: Arc<[mpsc::WeakSender<Inbound>]>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
}

impl InboxGauge {
    /// Candidates that wait in inboxes, and bytes of all that is between the sockets and the commit.
    pub fn waiting(&self) -> (usize, usize) {
        let open = self.senders.iter().filter_map(mpsc::WeakSender::upgrade);
        let candidates = open.map(|shard| shard.max_capacity() - shard.capacity()).sum();
        (candidates, self.budget_bytes - self.budget.available_permits())
    }
}
