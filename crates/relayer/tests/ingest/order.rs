//! Events of one author with equal `created_at` keep the order in which one connection first
//! delivered them. This holds for any number of shards and for any bursts and batches.
//!
//! A random schedule decides which connection delivers, which shard judges and when the sequencer
//! commits. `ORDER_SEED` replays one schedule.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use moltrade_relayer::config::Filters;
use moltrade_relayer::event_log::Verified;
use moltrade_relayer::ingest::Metrics;
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::ingest::shard::{BurstLimits, Shard, Verdict};
use moltrade_relayer::ingest::{Inbound, Inboxes, Lookup};
use relay_sim::rng::Rng;
use tokio::sync::mpsc::Receiver;
use wire::{EventId, PublicKey, Signer, VerifiedEvent};

use crate::bench::{Bench, NOW_SECS, text};

const SEEDS: u64 = 60;
const SHARDS: usize = 4;
const AUTHORS: u64 = 5;
const EVENTS_OF_AN_AUTHOR: usize = 12;

#[test]
fn invariant_9_events_of_one_second_keep_their_order_under_any_schedule() {
    let replayed = std::env::var("ORDER_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in replayed.map_or(1..=SEEDS, |seed| seed..=seed) {
        let mut rng = Rng::new(&[seed]);
        let published = published(&mut rng);
        let number_of_connections = rng.between(1, 4);
        // Either all relays have the same order of events, or each relay has a different order.
        let has_one_order = rng.chance(0.5);
        let connections = (0..number_of_connections).map(|_| {
            let order = if has_one_order { published.clone() } else { shuffled(&published, &mut rng) };
            Connection::new(order, &mut rng)
        });
        let connections = connections.collect();
        let mut play = Play::new(connections, rng);
        play.run();
        let logged = play.bench.logged();
        assert_eq!(logged.len(), published.len(), "ORDER_SEED={seed}: each is in the log once");
        assert_eq!(out_of_order(&logged, &play.firsts), None, "ORDER_SEED={seed}");
        if has_one_order {
            assert_eq!(by_author(&logged), by_author(&published), "ORDER_SEED={seed}");
        }
    }
}

#[test]
fn events_of_one_second_keep_their_order_while_threads_race() {
    const CONNECTIONS: usize = 3;
    let mut rng = Rng::new(&[1]);
    let bench = Bench::new();
    let published = published(&mut rng);
    let (inboxes, receivers) = Inboxes::new(SHARDS, 1 << 16);
    let (to_sequencer, bursts) = sync_channel(2);
    let limits = BurstLimits { candidates: 3, time: Duration::ZERO };
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let (inboxes, bench, published) = (inboxes.clone(), &bench, &published);
            scope.spawn(move || {
                for event in published {
                    let candidate = bench.candidate(&text(event));
                    if !matches!(bench.dedupe.look_up(&candidate.claimed), Lookup::Seen(_)) {
                        inboxes.offer(candidate).expect("there is room");
                    }
                }
            });
        }
        drop(inboxes);
        for inbox in receivers {
            let shard = Shard::new(Arc::clone(&bench.dedupe), Admission::shared(&Filters::default()));
            let (to_sequencer, metrics) = (to_sequencer.clone(), &metrics);
            scope.spawn(move || shard.run(inbox, &to_sequencer, limits, metrics).expect("judges"));
        }
        drop(to_sequencer);
        bench.sequence(&bursts, 7);
    });
    assert_eq!(by_author(&bench.logged()), by_author(&published));
}

/// Events of several authors, all dated in the same second, in the order of publication.
fn published(rng: &mut Rng) -> Vec<VerifiedEvent> {
    let signers: Vec<Signer> = (1..=AUTHORS).map(Signer::from_seed).collect();
    let authors: Vec<usize> = (0..signers.len()).flat_map(|author| [author; EVENTS_OF_AN_AUTHOR]).collect();
    let events = shuffled(&authors, rng).into_iter().enumerate().map(|(number, author)| {
        signers[author].sign(NOW_SECS, 1, &[] as &[Vec<String>], &format!("number {number}"))
    });
    events.collect()
}

fn shuffled<T: Clone>(items: &[T], rng: &mut Rng) -> Vec<T> {
    rng.distinct(items.len(), items.len()).into_iter().map(|place| items[place].clone()).collect()
}

fn by_author(events: &[VerifiedEvent]) -> HashMap<PublicKey, Vec<EventId>> {
    let mut of_authors: HashMap<PublicKey, Vec<EventId>> = HashMap::new();
    for event in events {
        of_authors.entry(*event.pubkey()).or_default().push(event.id());
    }
    of_authors
}

/// For each event, the connection that first delivered it, and the event's position on that
/// connection.
type Firsts = HashMap<EventId, (usize, usize)>;

/// Two events of one author that were both first delivered by the same connection, in the opposite
/// order.
fn out_of_order(logged: &[VerifiedEvent], firsts: &Firsts) -> Option<[EventId; 2]> {
    let mut last: HashMap<_, (usize, EventId)> = HashMap::new();
    logged.iter().find_map(|event| {
        let (connection, place) = firsts[&event.id()];
        let (before, earlier) = last.insert((*event.pubkey(), connection), (place, event.id()))?;
        (before > place).then(|| [earlier, event.id()])
    })
}

/// The events that a connection delivers, in order. Some are preceded by a forgery that claims
/// another author, so that another shard judges it.
struct Connection {
    texts: Vec<(Option<EventId>, String)>,
    delivered: usize,
}

impl Connection {
    fn new(events: Vec<VerifiedEvent>, rng: &mut Rng) -> Self {
        let mut texts = Vec::new();
        for event in &events {
            let other = rng.pick(&events).filter(|other| other.pubkey() != event.pubkey());
            if let Some(other) = other.filter(|_| rng.chance(0.3)) {
                let forged = text(event).replace(&event.pubkey().to_string(), &other.pubkey().to_string());
                texts.push((None, forged));
            }
            texts.push((Some(event.id()), text(event)));
        }
        Self { texts, delivered: 0 }
    }

    const fn is_done(&self) -> bool {
        self.delivered == self.texts.len()
    }
}

struct Play {
    bench: Bench,
    inboxes: Inboxes,
    shards: Vec<Judge>,
    /// Events that the shards have sent and that are not committed yet.
    handed_over: Vec<Verified>,
    connections: Vec<Connection>,
    firsts: Firsts,
    rng: Rng,
}

/// A shard, its inbox, and its unsent burst.
struct Judge {
    shard: Shard,
    inbox: Receiver<Inbound>,
    burst: Vec<Verified>,
}

impl Play {
    fn new(connections: Vec<Connection>, rng: Rng) -> Self {
        let bench = Bench::new();
        let (inboxes, receivers) = Inboxes::new(SHARDS, 1 << 16);
        let shards = receivers.into_iter().map(|inbox| {
            let shard = Shard::new(Arc::clone(&bench.dedupe), Admission::shared(&Filters::default()));
            Judge { shard, inbox, burst: Vec::new() }
        });
        let shards = shards.collect();
        Self { bench, inboxes, shards, handed_over: Vec::new(), connections, firsts: Firsts::new(), rng }
    }

    fn run(&mut self) {
        while !self.connections.iter().all(Connection::is_done) {
            match self.rng.below(10) {
                0..5 => self.deliver(),
                5..8 => {
                    let shard = self.rng.below(SHARDS);
                    for _ in 0..self.rng.between(1, 6) {
                        self.judge(shard);
                    }
                }
                8 => {
                    let shard = self.rng.below(SHARDS);
                    self.hand_over(shard);
                }
                _ => self.commit(),
            }
        }
        for shard in 0..SHARDS {
            while self.judge(shard) {}
            self.hand_over(shard);
        }
        self.commit();
    }

    /// Does the work of a connection: drops events that memory has seen, and sends the others to
    /// their shards.
    fn deliver(&mut self) {
        let number = self.rng.below(self.connections.len());
        let connection = &mut self.connections[number];
        let Some((genuine, text)) = connection.texts.get(connection.delivered) else { return };
        let place = connection.delivered;
        connection.delivered += 1;
        if let Some(id) = genuine {
            self.firsts.entry(*id).or_insert((number, place));
        }
        let candidate = self.bench.candidate(text);
        if !matches!(self.bench.dedupe.look_up(&candidate.claimed), Lookup::Seen(_)) {
            self.inboxes.offer(candidate).expect("there is room");
        }
    }

    /// Lets a shard judge one candidate. Returns `false` if the shard has no candidate.
    fn judge(&mut self, shard: usize) -> bool {
        let Judge { shard, inbox, burst } = &mut self.shards[shard];
        let Ok(Inbound::Candidate(candidate)) = inbox.try_recv() else { return false };
        if let Verdict::New(event) = shard.judge(&candidate).expect("the log answers") {
            burst.push(Bench::verified(event, &candidate));
        }
        true
    }

    fn hand_over(&mut self, shard: usize) {
        self.handed_over.append(&mut self.shards[shard].burst);
    }

    fn commit(&mut self) {
        let (sender, bursts) = sync_channel(1);
        let events = std::mem::take(&mut self.handed_over);
        sender.send(events.into_iter().map(Into::into).collect()).expect("room for one");
        drop(sender);
        let batch_size = self.rng.between(1, 20);
        self.bench.sequence(&bursts, batch_size);
    }
}
