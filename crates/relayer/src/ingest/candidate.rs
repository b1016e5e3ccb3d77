//! What goes from a connection to a shard: the text of an event that memory does not know.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use wire::ClaimedId;

use crate::limits::{INBOX_CANDIDATES_MAX, INGEST_BYTES_MAX};
use crate::relay::Peer;

/// An event that may be new. Nothing of it is verified.
#[derive(Debug)]
pub struct Candidate {
    /// The id that it claims.
    pub claimed: ClaimedId,
    /// The event object's text, in memory of its own: the frame that it came in is gone.
    pub json: Box<[u8]>,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// When its frame was read, Unix time in milliseconds.
    pub received_at_ms: u64,
    /// The same moment, for measuring.
    pub received: Instant,
    /// Its share of the bytes between sockets and commit.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Candidate {
    /// Copies an event's text out of the frame that was just read.
    pub fn new(claimed: ClaimedId, json: &[u8], peer: &Arc<Peer>) -> Self {
        Self {
            claimed,
            json: json.into(),
            peer: Arc::clone(peer),
            received_at_ms: unix_ms(),
            received: Instant::now(),
            budget: None,
        }
    }

    /// Bytes of its share of the budget.
    fn cost(&self) -> u32 {
        u32::try_from(self.json.len()).unwrap_or(u32::MAX)
    }
}

/// The shards' inboxes. An id always goes to the same shard.
#[derive(Debug, Clone)]
pub struct Inboxes {
    senders: Arc<[mpsc::Sender<Candidate>]>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
}

impl Inboxes {
    /// As many inboxes as there are shards, with the ends that the shards read. `frame_bytes_max` is the
    /// longest frame that there can be.
    pub fn new(shards: usize, frame_bytes_max: usize) -> (Self, Vec<mpsc::Receiver<Candidate>>) {
        let (senders, receivers): (Vec<_>, _) =
            std::iter::repeat_with(|| mpsc::channel(INBOX_CANDIDATES_MAX)).take(shards.max(1)).unzip();
        // The longest frame must fit, or it would wait for ever.
        let budget_bytes = INGEST_BYTES_MAX.max(2 * frame_bytes_max);
        let inboxes =
            Self { senders: senders.into(), budget: Arc::new(Semaphore::new(budget_bytes)), budget_bytes };
        (inboxes, receivers)
    }

    /// Hands a candidate to its shard, if there is room at once.
    ///
    /// # Errors
    /// The candidate, if there is none: [`send`](Self::send) waits for it.
    pub fn offer(&self, mut candidate: Candidate) -> Result<(), Candidate> {
        let Ok(budget) = Arc::clone(&self.budget).try_acquire_many_owned(candidate.cost()) else {
            return Err(candidate);
        };
        let Some(shard) = self.shard(&candidate.claimed) else {
            return Err(candidate);
        };
        candidate.budget = Some(budget);
        shard.try_send(candidate).map_err(|error| match error {
            TrySendError::Full(candidate) | TrySendError::Closed(candidate) => candidate,
        })
    }

    /// Hands a candidate to its shard, and waits while the shards have too much to do, which keeps the
    /// caller from reading its socket. `false` if the shards are gone.
    pub async fn send(&self, mut candidate: Candidate) -> bool {
        if candidate.budget.is_none() {
            candidate.budget = Arc::clone(&self.budget).acquire_many_owned(candidate.cost()).await.ok();
        }
        match self.shard(&candidate.claimed) {
            Some(shard) => shard.send(candidate).await.is_ok(),
            None => false,
        }
    }

    fn shard(&self, id: &ClaimedId) -> Option<&mpsc::Sender<Candidate>> {
        let [first, ..] = *id.as_bytes();
        self.senders.get(usize::from(first) % self.senders.len())
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
    senders: Arc<[mpsc::WeakSender<Candidate>]>,
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

/// The system's clock, Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
