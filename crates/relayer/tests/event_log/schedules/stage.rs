//! The parts that a schedule controls: a writer that stops between commit and publication, and a
//! disk thread that stops at gates.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{
    Checkpoint, EventLog, Mark, RelayTable, StoreOptions, Submission, Verified,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::truth::Truth;

/// The state shared by the threads of the writer, the disk and the schedule.
pub struct Stage {
    pub log: Arc<EventLog>,
    pub truth: Mutex<Truth>,
    /// Whether a woken reader runs at once on the waking thread, as if a core were free.
    pub runs_at_once: AtomicBool,
    /// The runtime whose thread reads the disk.
    pub runtime: Handle,
}

impl Stage {
    pub fn open(folder: &Path, truth: Truth, tail_bytes: usize, runtime: Handle) -> Arc<Self> {
        let log =
            EventLog::open(folder, StoreOptions { fsync: false, ..StoreOptions::default() }, tail_bytes)
                .expect("opens");
        let runs_at_once = AtomicBool::new(false);
        Arc::new(Self { log, truth: Mutex::new(truth), runs_at_once, runtime })
    }

    /// The number of pending disk reads. Each read keeps the log open.
    pub fn reads(&self, readers: usize) -> usize {
        const STAGE_AND_SEQUENCER: usize = 2;
        Arc::strong_count(&self.log).saturating_sub(STAGE_AND_SEQUENCER + readers)
    }
}

/// A sequencer that commits and publishes on command.
pub struct Writer {
    inbox: Option<SyncSender<Vec<Submission>>>,
    committed: Receiver<()>,
    go_on: Option<SyncSender<()>>,
    published: RefCell<Option<oneshot::Receiver<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(log: Arc<EventLog>) -> Self {
        let options = SequencerOptions { batch_size: 1_000 };
        let sequencer = Sequencer::new(log, options, Arc::new(DiskFull::default())).expect("a log");
        let (inbox, receiver) = sync_channel(1);
        let (has_committed, committed) = sync_channel(1);
        let (go_on, may_go_on) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let stop_there = |_: &[_]| {
                has_committed.send(()).expect("the schedule listens");
                may_go_on.recv().expect("the schedule lets it go on");
            };
            sequencer.run(&receiver, stop_there).expect("commits");
        });
        Self {
            inbox: Some(inbox),
            committed,
            go_on: Some(go_on),
            published: RefCell::default(),
            thread: Some(thread),
        }
    }

    /// Commits a batch, and returns before it is published.
    pub fn commit(&self, batch: Vec<Verified>) {
        let mut submissions: Vec<Submission> = batch.into_iter().map(Submission::from).collect();
        // A mark is confirmed after its batch is published, so the confirmation shows when the
        // publication is done.
        let (mark, published) = Mark::new(RelayTable::Coverage, "ws://relay.example/".into(), Vec::new());
        *self.published.borrow_mut() = Some(published);
        submissions.push(Submission::Checkpoint(Checkpoint::new(mark, 1)));
        self.inbox.as_ref().expect("open").send(submissions).expect("the sequencer listens");
        self.committed.recv().expect("the sequencer goes on");
    }

    /// Publishes the committed batch, and calls `meanwhile` until the publication is done.
    pub fn publish(&self, mut meanwhile: impl FnMut()) {
        self.go_on.as_ref().expect("open").send(()).expect("the sequencer waits");
        loop {
            let published = self.published.borrow_mut().as_mut().expect("something was committed").try_recv();
            match published {
                Ok(()) => return,
                Err(TryRecvError::Empty) => meanwhile(),
                Err(TryRecvError::Closed) => panic!("the sequencer is gone"),
            }
        }
    }
}

impl Drop for Writer {
    /// Waits for the writer, because RocksDB must not be in use when the folder is deleted.
    fn drop(&mut self) {
        (self.inbox, self.go_on) = (None, None);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "it ends well");
    }
}

/// The only thread that reads RocksDB for readers. The thread waits at a gate. When the gate opens,
/// the thread does the reads before the next gate, and waits there.
pub struct Disk {
    /// The closed gates. The thread waits at the first gate.
    gates: VecDeque<Sender<()>>,
    reached: (Sender<()>, Receiver<()>),
    runtime: Runtime,
}

impl Disk {
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let mut disk = Self { gates: VecDeque::new(), reached: channel(), runtime };
        disk.put_gate();
        disk.wait_at_gate();
        disk
    }

    pub fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Puts a gate after all pending reads.
    pub fn put_gate(&mut self) {
        let (gate, opened) = channel::<()>();
        let reached = self.reached.0.clone();
        self.runtime.spawn_blocking(move || {
            // Both calls fail only if the test has failed already.
            let _ = reached.send(());
            let _ = opened.recv();
        });
        self.gates.push_back(gate);
    }

    fn wait_at_gate(&self) {
        self.reached.1.recv().expect("this holds a sender");
    }

    /// Whether opening the gate would release all reads.
    pub fn is_at_last_gate(&self) -> bool {
        self.gates.len() == 1
    }

    /// Lets the thread run to the next gate, and waits until the thread is there.
    pub fn read(&mut self) {
        if !self.is_at_last_gate() {
            self.gates.pop_front();
            self.wait_at_gate();
        }
    }

    /// Keeps all gates open while `work` runs.
    pub fn run_during(&mut self, work: impl FnOnce()) {
        // All gates but the first, plus the gate that is put now.
        let reached_later = self.gates.len();
        self.gates.clear();
        work();
        self.put_gate();
        (0..reached_later).for_each(|_| self.wait_at_gate());
    }
}
