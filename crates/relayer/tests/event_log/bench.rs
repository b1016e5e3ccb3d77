//! A log in a separate folder, with a sequencer that can be stopped and restarted.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moltrade_relayer::clock::Clock;
use moltrade_relayer::event_log::free_space::{FreeSpace, Reserve};
use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{Cursor, EventLog, OpenError, Seq, StoreOptions, Submission, Verified};
use relay_sim::wait::until_blocking;
use wire::{ClaimedId, Signer};

pub const TAIL_BYTES: usize = 64 << 10;

pub struct Running {
    pub log: Arc<EventLog>,
    pub disk_full: Arc<DiskFull>,
    sender: Option<SyncSender<Vec<Submission>>>,
    thread: Option<JoinHandle<()>>,
}

pub struct Options {
    pub fsync: bool,
    pub batch_size: usize,
    pub free_space: FreeSpace,
}

impl Default for Options {
    fn default() -> Self {
        Self { fsync: false, batch_size: 10, free_space: FreeSpace::from_fn(|| Ok(u64::MAX)) }
    }
}

impl Running {
    pub fn open(folder: &Path) -> Self {
        Self::open_with(folder, Options::default())
    }

    pub fn open_with(folder: &Path, options: Options) -> Self {
        let log = open(folder, options.fsync, Reserve::new(options.free_space, 1_000));
        let disk_full = Arc::new(DiskFull::default());
        let sequencer_options = SequencerOptions { batch_size: options.batch_size };
        let sequencer =
            Sequencer::new(Arc::clone(&log), sequencer_options, Arc::clone(&disk_full)).expect("a log");
        let (sender, receiver) = sync_channel(1_000);
        let thread = std::thread::spawn(move || sequencer.run(&receiver, |_| {}).expect("commits"));
        Self { log, disk_full, sender: Some(sender), thread: Some(thread) }
    }

    pub fn send(&self, events: Vec<Verified>) {
        self.submit(events.into_iter().map(Submission::from).collect());
    }

    pub fn submit(&self, submissions: Vec<Submission>) {
        self.sender.as_ref().expect("running").send(submissions).expect("the sequencer listens");
    }

    /// Appends events and waits until they are committed.
    pub fn append(&self, events: Vec<Verified>) {
        let target = self.log.head().get() + events.len() as u64;
        self.send(events);
        until_blocking("the events are committed", || self.log.head().get() >= target);
    }

    /// Stops the log cleanly.
    pub fn stop(mut self) {
        self.end();
        self.log.close();
    }

    fn end(&mut self) {
        self.sender = None;
        self.disk_full.give_up();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sequencer ends well");
        }
    }

    pub fn seq_of(&self, id: &ClaimedId) -> Option<Seq> {
        self.log.get(id).expect("readable").map(|entry| entry.seq)
    }

    pub fn seqs(&self) -> Vec<u64> {
        let page = self.log.page(Cursor::START, 1_000, &[]).expect("readable");
        page.entries.iter().map(|entry| entry.seq.get()).collect()
    }
}

/// Opens a log, waiting until a previous user has closed it.
fn open(folder: &Path, fsync: bool, room: Reserve) -> Arc<EventLog> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (options, clock) = (StoreOptions { fsync, ..StoreOptions::default() }, Clock::system());
        match EventLog::open_with(folder, options, TAIL_BYTES, clock, room.clone()) {
            Err(OpenError::Locked { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened.expect("opens"),
        }
    }
}

/// An event dated `created_at` (seconds) and received at `1000 * created_at` ms.
pub fn event(created_at: u64) -> Verified {
    sized_event(created_at, 10)
}

pub fn sized_event(created_at: u64, content_bytes: usize) -> Verified {
    let content = "x".repeat(content_bytes);
    let event = Signer::from_seed(1).sign(created_at, 1, &[] as &[Vec<String>], &content);
    Verified {
        event,
        relay: "ws://relay.example".into(),
        received_at_ms: created_at * 1000,
        received: Instant::now(),
        budget: None,
    }
}

pub fn events(created_at: impl IntoIterator<Item = u64>) -> Vec<Verified> {
    created_at.into_iter().map(event).collect()
}

impl Drop for Running {
    /// Stops the log: RocksDB must not be in use when the process ends.
    fn drop(&mut self) {
        self.end();
    }
}
