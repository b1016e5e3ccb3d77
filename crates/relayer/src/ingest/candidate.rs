//! What goes from a connection to a shard: the text of an event that memory does not know.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// Copies an event's text and hands it to its shard. Waits while the shards have too much to do, which
    /// keeps the caller from reading its socket. `false` if the shards are gone.
    pub async fn send(&self, claimed: ClaimedId, json: &[u8], peer: &Arc<Peer>) -> bool {
        let (received, received_at_ms) = (Instant::now(), unix_ms());
        let bytes = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.budget).acquire_many_owned(bytes).await.ok();
        let candidate = Candidate {
            claimed,
            json: json.into(),
            peer: Arc::clone(peer),
            received_at_ms,
            received,
            budget,
        };
        let [first, ..] = *claimed.as_bytes();
        match self.senders.get(usize::from(first) % self.senders.len()) {
            Some(shard) => shard.send(candidate).await.is_ok(),
            None => false,
        }
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
