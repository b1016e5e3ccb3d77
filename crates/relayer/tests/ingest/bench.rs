//! A test bench: a log, a seen set, a shard and a sequencer that advance step by step.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use moltrade_relayer::config::Filters;
use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{Cursor, EventLog, StoreOptions, Submission, Verified};
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::ingest::dedupe::{Dedupe, DedupeSizes};
use moltrade_relayer::ingest::shard::{Shard, Verdict};
use moltrade_relayer::ingest::{Candidate, Lookup};
use moltrade_relayer::relay::Peer;
use tempfile::TempDir;
use wire::{ClaimedId, Scan, Signer, VerifiedEvent};

pub struct Bench {
    pub log: Arc<EventLog>,
    pub dedupe: Arc<Dedupe>,
    pub peer: Arc<Peer>,
    shard: Shard,
    uncommitted: Vec<Verified>,
    _folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_sizes(DedupeSizes { hotset: 100, bloom: 1_000, lru: 100 })
    }

    pub fn with_sizes(sizes: DedupeSizes) -> Self {
        let folder = TempDir::new().expect("a folder");
        let log =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .expect("a new log");
        let dedupe = Arc::new(Dedupe::new(Arc::clone(&log), sizes));
        dedupe.rebuild(|| false).expect("readable");
        let shard = Shard::new(Arc::clone(&dedupe), Admission::shared(&Filters::default()));
        let peer = Arc::new(Peer::new("ws://relay.example".parse().expect("a URL")));
        Self { log, dedupe, peer, shard, uncommitted: Vec::new(), _folder: folder }
    }

    pub fn candidate(&self, json: &str) -> Candidate {
        let frame = format!(r#"["EVENT","r",{json}]"#);
        let Scan::Event { claimed, .. } = wire::scan(frame.as_bytes()) else {
            panic!("no id in {json}");
        };
        let mut candidate =
            Candidate::new(claimed, json.as_bytes(), Arc::clone(&self.peer) as _, self.log.clock());
        candidate.received_at_ms = NOW_SECS * 1000;
        candidate
    }

    pub fn verified(event: VerifiedEvent, candidate: &Candidate) -> Verified {
        Verified {
            event,
            relay: "ws://relay.example".into(),
            received_at_ms: candidate.received_at_ms,
            received: candidate.received,
            budget: None,
        }
    }

    /// Does the work of a connection and then of the shard: drops the event if memory has seen it,
    /// and judges it otherwise.
    pub fn receive(&mut self, json: &str) -> Verdict {
        let candidate = self.candidate(json);
        if let Lookup::Seen(layer) = self.dedupe.look_up(&candidate.claimed) {
            return Verdict::Duplicate(layer);
        }
        let verdict = self.shard.judge(&candidate).expect("the log answers");
        if let Verdict::New(event) = &verdict {
            self.uncommitted.push(Self::verified(event.clone(), &candidate));
        }
        verdict
    }

    pub fn commit(&mut self) {
        let (sender, receiver) = sync_channel(1);
        let events = std::mem::take(&mut self.uncommitted);
        sender.send(events.into_iter().map(Submission::from).collect()).expect("room for one");
        drop(sender);
        self.sequence(&receiver, 100);
    }

    /// Commits bursts in batches of at most `batch_size` events, until all senders are dropped.
    pub fn sequence(&self, bursts: &Receiver<Vec<Submission>>, batch_size: usize) {
        let options = SequencerOptions { batch_size };
        let sequencer =
            Sequencer::new(Arc::clone(&self.log), options, Arc::new(DiskFull::default())).expect("a log");
        sequencer.run(bursts, |entries| self.dedupe.committed(entries)).expect("committed");
    }

    pub fn logged(&self) -> Vec<VerifiedEvent> {
        let page = self.log.page(Cursor::START, 1_000, &[]).expect("readable");
        page.entries.into_iter().map(|entry| entry.event).collect()
    }

    pub fn holds(&self, id: &ClaimedId) -> bool {
        self.log.contains(id).expect("the log answers")
    }
}

pub const NOW_SECS: u64 = 1_700_000_000;

/// A genuine event.
pub fn genuine(number: u64) -> String {
    let event = Signer::from_seed(number).sign(NOW_SECS, 1, &[["n", "x"].map(str::to_owned)], "genuine");
    text(&event)
}

/// The same event with other content, under the same id.
pub fn altered(genuine: &str) -> String {
    genuine.replace("\"genuine\"", "\"forged\"")
}

/// The same event with a signature by another key.
pub fn badly_signed(genuine: &str) -> String {
    let (event, signature) = genuine.split_at(genuine.find("\"sig\":\"").expect("signed") + 7);
    let flipped: String = signature
        .chars()
        .map(|digit| {
            if digit == '0' {
                '1'
            } else if digit == '1' {
                '0'
            } else {
                digit
            }
        })
        .collect();
    format!("{event}{flipped}")
}

pub fn text(event: &VerifiedEvent) -> String {
    String::from_utf8(event.json().to_vec()).expect("UTF-8")
}
