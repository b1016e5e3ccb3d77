//! Explores, within bounds, every order of messages around every request and every interleaving of
//! the relay, the reader and the conversation. No second may be proven if we lack one of the
//! relay's events of that second, and we must never end without a subscription.
//!
//! Only the relay is a model; reader, requests, conversation and session are the real code, without
//! a socket. Whenever several steps or answers are possible, a run chooses one. With one deviation,
//! every combination is tried. With several, random runs are tried.

mod relay;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use arc_swap::ArcSwap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::advance;
use wire::Signer;
use wire::websocket::Message;

use self::relay::{Frame, Relay};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Config;
use crate::event_log::EventLog;
use crate::event_log::free_space::Reserve;
use crate::event_log::store::StoreOptions;
use crate::ingest::Inbound;
use crate::ingest::dedupe::DedupeSizes;
use crate::ingest::{self, Dedupe, Inboxes};
use crate::net::resolver::Resolver;
use crate::relay::information::Information;
use crate::relay::peer::{Metrics, Pace, Stated};
use crate::relay::shared::LinkLimits;
use crate::relay::transport::{DialOptions, Dialer, InstanceId};

/// How many times in a row the longest wait may pass without another step.
const ROUNDS_MAX: usize = 3;
/// More steps than any run should take.
const STEPS_MAX: usize = 1_000;
/// How many random runs with several deviations are tried.
const RUNS_DRAWN: usize = 30_000;

/// The choices of a run, recorded so that the next run differs.
#[derive(Debug, Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
    /// Makes random choices if there are too many runs to try them all.
    dice: Option<StdRng>,
}

impl Choices {
    /// Chooses one of `of` possibilities.
    fn choose(&mut self, of: usize) -> usize {
        if of < 2 {
            return 0;
        }
        if let Some(dice) = &mut self.dice {
            return dice.random_range(0..of);
        }
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, offered) = self.taken[self.at];
        assert_eq!(offered, of, "a run must replay");
        self.at += 1;
        choice
    }

    /// Moves to the next combination; `false` if there is none.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        self.dice.is_some()
    }
}

/// Whether the conversation wants to be polled.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The state that all runs share.
struct World {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Inbound>,
    subscription: Arc<Subscription>,
    manual_clock: ManualClock,
    _folder: TempDir,
}

impl World {
    fn new(signer: Option<Signer>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (clock, manual_clock) = Clock::manual();
        let (options, reserve) = (StoreOptions { fsync: false, ..StoreOptions::default() }, Reserve::none());
        let log = EventLog::open_with(folder.path(), options, 1 << 16, clock, reserve);
        let log = log.expect("a log");
        let (inboxes, mut receivers) = Inboxes::new(1, 1 << 16);
        let sizes = DedupeSizes { hotset: 64, bloom: 64, lru: 64 };
        let dialer = Dialer::new(DialOptions {
            frame_bytes_max: 1 << 16,
            user_agent: "test".to_owned(),
            extra_ca_file: None,
            resolver: Resolver::system(),
            instance: InstanceId::random(),
            tls_sessions_max: 0,
        });
        let shared = Shared {
            dialer: Arc::new(dialer.expect("set up")),
            dedupe: Arc::new(Dedupe::new(Arc::clone(&log), sizes)),
            inboxes,
            refusals: Arc::default(),
            log,
            metrics: Arc::new(Metrics::default()),
            ingest_metrics: Arc::new(ingest::Metrics::default()),
            signer: signer.map(Arc::new),
            repairs: Semaphore::new(1),
            scans: Arc::new(Semaphore::new(1)),
            link_limits: ArcSwap::from_pointee(LinkLimits {
                health_check_interval: Duration::from_secs(30),
                events_per_second_max: None,
            }),
        };
        let mut config = Config::default();
        config.relay.backfill = Some(Duration::from_secs(3_600));
        config.relay.overlap = Duration::from_secs(5);
        Self {
            shared: Arc::new(shared),
            inbox: receivers.remove(0),
            subscription: Arc::new(Subscription::new(&config)),
            manual_clock,
            _folder: folder,
        }
    }

    /// A relay at first contact, with a known NIP-11 document.
    fn peer(&self) -> Arc<Peer> {
        let peer = Arc::new(Peer::new("wss://relay.example".parse().expect("a URL")));
        let information = Some(Box::new(Information::default()));
        peer.capabilities(|capabilities| {
            capabilities.inform(Stated { information, asked_at_ms: self.shared.log.clock().unix_ms() })
        });
        peer
    }
}

/// The bounds of a run.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// How many times a run publishes an event, waits 2 seconds and sends a ping.
    ticks: usize,
    /// How often the relay deviates from a request.
    deviations: usize,
}

/// How a run ended.
#[derive(Debug, Default)]
struct Outcome {
    ended: bool,
    /// Whether a live event's second was proven.
    proved: bool,
}

/// One run: a connection from its first request until there is nothing left to do.
struct Run<'a, 'c> {
    world: &'a mut World,
    session: RelaySession<'a>,
    peer: &'a Arc<Peer>,
    subscription: Arc<Subscription>,
    conversation: Option<RunningConversation>,
    woken: Arc<Woken>,
    relay: Relay,
    choices: &'c mut Choices,
    ticks: usize,
    /// The ids of events that were read.
    got: HashSet<u64>,
    /// When the run began, in Unix seconds.
    start: u64,
    steps: Vec<String>,
}

enum Step {
    Read,
    Converse,
    Tick,
    Close,
}

impl Run<'_, '_> {
    async fn play(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let ended = self.play_on(&mut outcome).await;
        outcome.ended = ended.is_err();
        outcome
    }

    async fn play_on(&mut self, outcome: &mut Outcome) -> Result<(), DisconnectReason> {
        // The waits to try, shortest first, until the next timer fires.
        let waits = [1, 1_100, 3_000, 11_000, 31_000, 301_000].map(Duration::from_millis);
        let (mut wait, mut is_waiting, mut rounds) = (waits.iter(), false, 0);
        loop {
            assert!(self.steps.len() < STEPS_MAX, "it does not end: {:#?}", self.steps);
            let mut possible = Vec::with_capacity(4);
            if !self.relay.pipe.is_empty() {
                possible.push(Step::Read);
            }
            if self.can_converse() {
                possible.push(Step::Converse);
            }
            let is_quiet = possible.is_empty();
            if self.ticks > 0 {
                possible.push(Step::Tick);
            }
            if self.relay.is_open && self.relay.deviations > 0 {
                possible.push(Step::Close);
            }
            if is_quiet {
                // Waiting changes nothing until a timer fires, so one choice decides whether that
                // is before or after the next step.
                let waits_on =
                    rounds < ROUNDS_MAX && (is_waiting || possible.is_empty() || self.choices.choose(2) == 0);
                if waits_on && let Some(time) = wait.next() {
                    is_waiting = true;
                    self.pass(*time).await;
                    self.authenticate_if_due()?;
                    if self.can_converse() || !self.relay.pipe.is_empty() {
                        // The rounds are limited, because the conversation retries failed requests
                        // endlessly.
                        rounds += usize::from(wait.len() == 0);
                        (wait, is_waiting) = (waits.iter(), false);
                    }
                    continue;
                }
                if possible.is_empty() {
                    self.assert_not_deaf();
                    return Ok(());
                }
            }
            (wait, is_waiting) = (waits.iter(), false);
            let chosen = self.choices.choose(possible.len());
            match possible.swap_remove(chosen) {
                Step::Read => self.read()?,
                Step::Converse => self.poll()?,
                Step::Tick => {
                    rounds = 0;
                    self.tick().await;
                }
                Step::Close => {
                    rounds = 0;
                    self.note("the relay ends the live subscription");
                    self.relay.close(self.choices);
                }
            }
            self.assert_claims(outcome);
        }
    }

    fn can_converse(&self) -> bool {
        self.conversation.is_some() && self.woken.0.load(Ordering::Relaxed)
    }

    fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    /// Lets time pass on all clocks.
    async fn pass(&mut self, time: Duration) {
        self.note(format!("{time:?} pass"));
        advance(time).await;
        self.world.manual_clock.pass(time);
        self.relay.now = self.world.shared.log.clock().unix_secs();
    }

    /// Publishes an event, waits until its second is over, and sends a ping.
    async fn tick(&mut self) {
        self.ticks -= 1;
        // The clock also advances by itself.
        self.relay.now = self.world.shared.log.clock().unix_secs();
        let id = self.relay.publish();
        self.note(format!("event {id} of {} appears; a ping", self.relay.now - self.start));
        self.pass(Duration::from_secs(2)).await;
        let payload = self.session.ping();
        self.relay.pipe.push_back(Frame::Pong(payload));
    }

    /// Reads one message, as the session does.
    fn read(&mut self) -> Result<(), DisconnectReason> {
        let Some(frame) = self.relay.pipe.pop_front() else { return Ok(()) };
        self.note(format!("we read {frame:?}"));
        if let Frame::Text(_, Some(id)) = &frame {
            self.got.insert(*id);
        }
        let message = match &frame {
            Frame::Text(text, _) => Message::Text(text.as_bytes()),
            Frame::Pong(payload) => Message::Pong(payload),
        };
        let mut counts =
            ReadCounts::new(self.peer, &self.session.shared.metrics, &self.session.shared.ingest_metrics);
        let flow = self.session.reader().handle(message, &mut counts);
        drop(counts);
        while self.world.inbox.try_recv().is_ok() {}
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Pause::Control(event)) => {
                let next = self.session.handle_control(event)?;
                self.steer(next);
                Ok(())
            }
            ControlFlow::Break(Pause::ShardsBusy(_)) => panic!("there is room"),
        }
    }

    fn authenticate_if_due(&mut self) -> Result<(), DisconnectReason> {
        if self.session.authentication_due.is_some_and(|due| due <= Instant::now()) {
            let next = self.session.authenticate()?;
            self.note(format!("authentication: {next:?}"));
            self.steer(next);
        }
        Ok(())
    }

    fn steer(&mut self, next: NextStep) {
        self.session.steer(next, &mut self.conversation, &self.subscription);
        if next != NextStep::Continue {
            self.woken.0.store(true, Ordering::Relaxed);
            self.send();
        }
    }

    /// Polls the conversation and sends its messages.
    fn poll(&mut self) -> Result<(), DisconnectReason> {
        self.woken.0.store(false, Ordering::Relaxed);
        self.note("the conversation is polled");
        // The pace is not part of this model.
        self.peer.capabilities(|capabilities| capabilities.pace = Pace::default());
        let waker = Waker::from(Arc::clone(&self.woken));
        let Some(conversation) = &mut self.conversation else { return Ok(()) };
        let polled = conversation.as_mut().poll(&mut Context::from_waker(&waker));
        while self.world.inbox.try_recv().is_ok() {}
        if let Poll::Ready(ended) = polled {
            self.conversation = None;
            self.send();
            return ended.map_err(DisconnectReason::from);
        }
        self.send();
        Ok(())
    }

    fn send(&mut self) {
        while let Some(message) = self.session.requests.next_outgoing() {
            let answer = self.relay.hear(&message, self.choices);
            self.note(format!("we say {message}: {answer}"));
        }
    }

    fn assert_claims(&mut self, outcome: &mut Outcome) {
        let Some(coverage) = self.peer.read_coverage() else { return };
        let is_claimed = |second: &u64| {
            let is_gap = coverage.gaps().iter().any(|gap| (gap.since..=gap.until).contains(second));
            // The last second was not over, so the next connection reopens it in any case.
            (coverage.from()..coverage.until()).contains(second) && !is_gap
        };
        for (id, second) in &self.relay.events {
            if is_claimed(second) {
                assert!(
                    self.got.contains(id),
                    "{} is proven without event {id}: {:#?}",
                    second.cast_signed() - self.start.cast_signed(),
                    self.steps
                );
                outcome.proved |= *second >= self.start;
            }
        }
    }

    fn assert_not_deaf(&self) {
        let live = self.session.requests.live();
        // A relay may demand a key by a challenge alone, without refusing anything.
        let is_served = self.relay.is_open || self.relay.demands_key;
        assert!(is_served, "we are deaf, live {live:?}: {:#?}", self.steps);
    }
}

/// Tries all runs within the bounds, or `drawn` random runs. Returns the numbers of all runs, of
/// runs that ended the connection, and of runs that proved time.
async fn explore(key: Option<u64>, bounds: Bounds, drawn: Option<usize>) -> [usize; 3] {
    let mut world = World::new(key.map(Signer::from_seed));
    let dice = drawn.map(|_| StdRng::seed_from_u64(11));
    let mut choices = Choices { dice, ..Choices::default() };
    let mut counts = [0; 3];
    loop {
        let (peer, shared) = (world.peer(), Arc::clone(&world.shared));
        let session = RelaySession::new(&peer, &shared);
        let subscription = Arc::clone(&world.subscription);
        let conversation = Some(session.converse(&subscription));
        let start = shared.log.clock().unix_secs();
        let relay = Relay::new(start, bounds.deviations);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let run = Run {
            world: &mut world,
            session,
            peer: &peer,
            subscription,
            conversation,
            woken,
            relay,
            choices: &mut choices,
            ticks: bounds.ticks,
            got: HashSet::new(),
            start,
            steps: Vec::new(),
        };
        let Outcome { ended, proved } = run.play().await;
        counts[0] += 1;
        counts[1] += usize::from(ended);
        counts[2] += usize::from(proved);
        if !choices.advance() || drawn == Some(counts[0]) {
            return counts;
        }
    }
}

/// Tries all runs with one deviation, and random runs with several.
async fn explore_few_and_many(key: Option<u64>) {
    let few = explore(key, Bounds { ticks: 1, deviations: 1 }, None).await;
    let many = explore(key, Bounds { ticks: 3, deviations: 3 }, Some(RUNS_DRAWN)).await;
    for [runs, ended, proved] in [few, many] {
        assert!(ended > 100 && proved > 100, "of {runs} runs {ended} ended and {proved} proved something");
    }
}

#[tokio::test(start_paused = true)]
async fn invariant_6_nothing_is_proven_without_an_open_subscription_in_any_order_of_messages() {
    explore_few_and_many(None).await;
}

#[tokio::test(start_paused = true)]
async fn invariant_6_with_a_key_to_prove_nothing_is_proven_in_any_order_of_messages() {
    explore_few_and_many(Some(7)).await;
}
