//! Delivery to a socket whose delays the test decides.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::time::{Sleep, sleep};
use wire::{Filter, Signer};

use super::*;
use crate::event_log::sequencer::{Sequencer, SequencerOptions};
use crate::event_log::{EventLog, StoreOptions, Submission, Verified};
use crate::receiver::{Format, Selection};
use crate::serve::{ClientLimits, Clients, LogSource, WebSocketMetrics};

const WANTED: u16 = 7;

/// A message that the client has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Event(u64),
    Heartbeat(u64),
}

/// A socket that is blocked now and then.
struct SlowSocket {
    random: StdRng,
    blocked: Option<Pin<Box<Sleep>>>,
    unflushed: Vec<Received>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl SlowSocket {
    fn poll_delay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.blocked.is_none() && self.random.random_bool(0.2) {
            let time = Duration::from_millis(self.random.random_range(1..20_000));
            self.blocked = Some(Box::pin(sleep(time)));
        }
        match &mut self.blocked {
            Some(blocked) => {
                std::task::ready!(blocked.as_mut().poll(cx));
                self.blocked = None;
                Poll::Ready(())
            }
            None => Poll::Ready(()),
        }
    }
}

impl ClientSocket for SlowSocket {
    const ANSWERS_PINGS: bool = false;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        self.poll_delay(cx).map(Ok)
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), Disconnected> {
        match message {
            Outgoing::Event(cursor, _) => self.unflushed.push(Received::Event(cursor.get())),
            Outgoing::Heartbeat(cursor, text) => {
                assert!(text.starts_with(&format!(r#"{{"heartbeat":{{"seq":{cursor},"time":"#)), "{text}");
                self.unflushed.push(Received::Heartbeat(cursor.get()));
            }
            Outgoing::Notice(_) | Outgoing::Ping => {}
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        std::task::ready!(self.poll_delay(cx));
        self.received.lock().append(&mut self.unflushed);
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<Option<Message>> {
        Poll::Pending
    }

    async fn close(self, _: Option<(u16, String)>, _: Duration) {}
}

/// A log with its writer.
struct World {
    log: Arc<EventLog>,
    inbox: SyncSender<Vec<Submission>>,
    writer: JoinHandle<()>,
    signer: Signer,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let log =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .unwrap();
        let (inbox, bursts) = sync_channel(64);
        let options = SequencerOptions { batch_size: 10 };
        let sequencer = Sequencer::new(Arc::clone(&log), options, Arc::default()).unwrap();
        let writer = std::thread::spawn(move || sequencer.run(&bursts, |_| {}).unwrap());
        Self { log, inbox, writer, signer: Signer::from_seed(1), _folder: folder }
    }

    fn append(&self, kinds: &[u16]) {
        let head = self.log.head().get();
        let verified = |(number, kind): (u64, &u16)| {
            let event = self.signer.sign(head + number, *kind, &[] as &[[&str; 0]], "x");
            let relay = "wss://relay.example".into();
            let verified =
                Verified { event, relay, received_at_ms: 1, received: Instant::now(), budget: None };
            Submission::Event(verified)
        };
        self.inbox.send((1..).zip(kinds).map(verified).collect()).unwrap();
        // The writer is a thread, which does not use the runtime's paused time.
        while self.log.head().get() < head + kinds.len() as u64 {
            std::thread::yield_now();
        }
    }
}

/// Whatever delays the socket has: a client that has a heartbeat has every event before it.
#[tokio::test(start_paused = true)]
async fn invariant_4_a_heartbeat_is_never_ahead_of_an_event_that_was_not_sent() {
    for seed in 0..30 {
        let (world, mut random) = (World::new(), StdRng::seed_from_u64(seed));
        let limits = ClientLimits { in_all: NonZeroUsize::MIN, from_address: None };
        let client = Clients::new(limits, Gauge::default()).enter([127, 0, 0, 1].into()).unwrap();
        let selection = Selection::new(vec![Filter::new().kinds([WANTED])]);
        let (start, head) = (Cursor::START, world.log.head());
        let source = LogSource::new(world.log.reader(start), selection, Format::Event);
        let counts = WebSocketMetrics::default().counts("/ws");
        let patience = Patience { lag_max: u64::MAX, window: Duration::from_secs(30), ping_interval: None };
        let task = ClientTask::new(source, head, counts, patience, Taken::default())
            .with_heartbeat(Some(Duration::from_secs(5)));
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let socket = SlowSocket {
            random: StdRng::seed_from_u64(seed + 1_000),
            blocked: None,
            unflushed: Vec::new(),
            received: Arc::clone(&received),
        };
        let serving = tokio::spawn(task.run(socket, client));
        let mut wanted = Vec::new();
        for _ in 0..40 {
            let kinds: Vec<u16> = (0..random.random_range(1..30))
                .map(|_| if random.random_bool(0.05) { WANTED } else { 1 })
                .collect();
            let head = world.log.head().get();
            wanted.extend((head + 1..).zip(&kinds).filter(|(_, kind)| **kind == WANTED).map(|(seq, _)| seq));
            world.append(&kinds);
            sleep(Duration::from_millis(random.random_range(0..15_000))).await;
        }
        sleep(Duration::from_secs(3_600)).await;
        let head = world.log.head().get();
        world.log.close();
        serving.await.unwrap();
        let received = std::mem::take(&mut *received.lock());
        let events = received.iter().filter_map(|message| match message {
            Received::Event(seq) => Some(*seq),
            Received::Heartbeat(_) => None,
        });
        assert_eq!(events.collect::<Vec<_>>(), wanted, "seed {seed}");
        let mut passed = 0;
        for message in &received {
            match *message {
                Received::Event(seq) => assert!(seq > passed, "seed {seed}: {seq} after heartbeat {passed}"),
                Received::Heartbeat(seq) => {
                    assert!(seq >= passed, "seed {seed}: {seq} after {passed}");
                    passed = seq;
                }
            }
        }
        assert_eq!(received.last(), Some(&Received::Heartbeat(head)), "seed {seed}: the position is known");
        drop(world.inbox);
        world.writer.join().unwrap();
    }
}
