//! One signal at a time to ten thousand followers on `/fanout`. Measures three things: the latency
//! from the relay's socket to each follower; the CPU compared with a bare encryption; and, at the
//! same time, the latency of other events from the relay's socket to the log.

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moltrade_relayer::event_log::{Cursor, EventLog};
use moltrade_relayer::fanout::follower::FollowerSource;
use moltrade_relayer::fanout::keys::ConversationKeys;
use moltrade_relayer::fanout::registry::directory::{Directory, UnsealedFollow};
use moltrade_relayer::fanout::registry::{BotName, BotRow, Change, FollowKey, FollowRow, Row};
use moltrade_relayer::fanout::signals::Signals;
use moltrade_relayer::serve::Source;
use nostr::nips::nip44::v2::{ConversationKey, encrypt_to_bytes_with_nonce};
use relay_sim::{Sim, Sizes};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout_at};
use wire::{Signer, VerifiedEvent};

use crate::audience::{Arrivals, PATIENCE, dial_all, now_us, shares};
use crate::crowd::upgrade_request;
use crate::figures::{Figure, Target};
use crate::gateway::Gateway;
use crate::memory::resident_kib;
use crate::player::{Player, told};
use crate::{Fallible, Outcome, cpu, gateway};

const FOLLOWERS: usize = 10_000;
/// The number of signals that are sent alone. The same number is then sent among other events.
const SIGNALS: usize = 15;
/// The pause between two signals.
const EVERY: Duration = Duration::from_secs(1);
/// The rate of the other events, per second.
const OTHERS_RATE: usize = 200;
const OTHERS: usize = OTHERS_RATE * SIGNALS;
/// The size of a signal's content in bytes: a trading order with reasons.
const CONTENT_BYTES: usize = 400;
/// The time for new connections to settle.
const REST: Duration = Duration::from_secs(2);

fn bot() -> Signer {
    Signer::from_seed(1)
}

fn follower(number: usize) -> Signer {
    Signer::from_seed(1_000 + number as u64)
}

fn signal(number: usize) -> VerifiedEvent {
    let tags = [["d", "btc-usdt"].map(str::to_owned)];
    let content = format!("{number:0CONTENT_BYTES$}");
    bot().sign(now_us() / 1_000_000, 30_931, &tags, &content)
}

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // The relay and the followers have separate processes, so that ten thousand followers do
        // not delay the relay.
        let (mut relay, mut crowd) = (Player::start(&["bot"])?, Player::start(&["followers"])?);
        let (mut config, folder) = gateway::config([relay.hear()?])?;
        config.fanout.max_clients = NonZeroUsize::new(FOLLOWERS).ok_or("no followers")?;
        let gateway = Gateway::start_with_followers((config, folder), Some(rows())).await?;
        relay.ask("subscribed")?;
        let log = gateway.log.clone();
        let committed = std::thread::spawn(move || commits(&log));
        sleep(REST).await;
        let none_kib = resident_kib()?;
        let open = format!("open {FOLLOWERS} {}", gateway.address);
        crowd.ask(&open)?;
        sleep(REST).await;
        let each_kib = resident_kib()?.saturating_sub(none_kib) as f64 / FOLLOWERS as f64;
        let before = cpu::used();
        let sent = relay.ask("alone")?;
        let ours = cpu::micros_each(cpu::used() - before, (SIGNALS * FOLLOWERS) as u64);
        let [whole, half, most, all] = numbers(&crowd.ask(&format!("found {sent}"))?)?;

        crowd.ask(&open)?;
        sleep(REST).await;
        let sent = relay.ask("beside")?;
        let (sent, others) = sent.split_once('|').ok_or("two lists")?;
        let [whole_beside, _, most_beside, all_beside] = numbers(&crowd.ask(&format!("found {sent}"))?)?;
        let (bare, made) = (bare_encryption()?, made_messages(&gateway.log).await?);
        gateway.stop().await?;
        let committed = committed.join().map_err(|_| "the reader of the log panicked")??;
        let [ingest_half, ingest_most, ingest_all] = shares(ingest(&committed, others)?);
        let ms = |micros: u64| micros as f64 / 1e3;

        println!("{SIGNALS} signals to {FOLLOWERS} followers, one a second: {ours:.2} us of CPU a message, with its write");
        println!("bare NIP-44 encryption with a known key {bare:.2} us, a follower's message made {made:.2} us");
        println!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", half / 1e3, most / 1e3, all / 1e3);
        println!("beside {OTHERS_RATE} other events a second: p99 {:.1} ms, max {:.1} ms", most_beside / 1e3, all_beside / 1e3);
        println!("ingest of those: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", ms(ingest_half), ms(ingest_most), ms(ingest_all));
        println!("resident, a connected follower: {each_kib:.1} KiB");
        let least = whole.min(whole_beside);
        Ok(vec![
            Figure::plain("signal to 10,000 followers, p99", most / 1e3, "ms", Target::AtMost(500.0)),
            Figure::plain("10,000 followers, that got everything", least, "", Target::AtLeast(FOLLOWERS as f64)),
            Figure::ratio("a follower's message made / bare encryption", made, bare, 3.0),
            Figure::ratio("the same, and written / bare encryption", ours, bare, 3.0),
            Figure::plain("ingest beside signals, p99", ms(ingest_most), "ms", Target::AtMost(20.0)),
        ])
    })
}

/// Returns the microseconds that this thread takes to make each follower's message, without writing
/// it to a socket.
async fn made_messages(log: &Arc<EventLog>) -> Fallible<f64> {
    const ROUNDS: usize = 5;
    let directory = Arc::new(Directory::default());
    let bot = *bot().pubkey();
    let name = BotName::new("bench").ok_or("no name")?;
    directory.put_bot(BotRow { pubkey: bot, name, registered_at_ms: 1, is_approved: true });
    let signals = Arc::new(Signals::new(log, [30_931].into(), Arc::clone(&directory), log.head(), 1 << 20));
    let keys = Arc::new(ConversationKeys::new(&Signer::from_seed(0)).ok_or("no key")?);
    let mut sources = Vec::new();
    for number in 0..FOLLOWERS {
        let pubkey = *follower(number).pubkey();
        directory.put_follow(UnsealedFollow {
            key: FollowKey { bot, follower: pubkey },
            secret: None,
            since_ms: 1,
        });
        let presence = directory.connect(pubkey).map_err(|_| "too many connections")?;
        let (signals, keys) = (Arc::clone(&signals), Arc::clone(&keys));
        sources.push(FollowerSource::new(presence, signals, keys, Cursor::START, None));
    }
    let chunk = log.reader(Cursor::START).next().await?.ok_or("no events")?;
    let signal = chunk.entries().iter().find(|entry| entry.event.pubkey() == &bot).ok_or("no signal")?;
    // The first round also derives the followers' keys, which are then kept.
    let mut micros = 0.0;
    for round in 0..=ROUNDS {
        let before = cpu::used_by_thread();
        for source in &mut sources {
            black_box(source.message(signal).map_err(|_| "no message")?.ok_or("not wanted")?);
        }
        if round > 0 {
            micros += cpu::micros_each(cpu::used_by_thread() - before, (ROUNDS * FOLLOWERS) as u64);
        }
    }
    Ok(micros)
}

fn rows() -> Vec<Change> {
    let bot = *bot().pubkey();
    let name = BotName::new("bench").into_iter();
    let bots =
        name.map(|name| Row::Bot(BotRow { pubkey: bot, name, registered_at_ms: 1, is_approved: true }));
    let follows = (0..FOLLOWERS).map(|number| {
        let key = FollowKey { bot, follower: *follower(number).pubkey() };
        Row::Follow(FollowRow { key, secret: None, since_ms: 1 })
    });
    bots.chain(follows).map(Change::Put).collect()
}

/// Records the commit time of each event, in Unix microseconds, until the log is closed. Uses a
/// separate thread, because the runtime is busy with the measured work.
fn commits(log: &Arc<EventLog>) -> Result<HashMap<String, u64>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let mut reader = log.reader(Cursor::START);
    let mut at_us = HashMap::new();
    runtime.block_on(async {
        while let Some(chunk) = reader.next().await.map_err(|error| error.to_string())? {
            let now = now_us();
            at_us.extend(chunk.entries().iter().map(|entry| (entry.event.id().to_string(), now)));
        }
        Ok(at_us)
    })
}

/// Returns the microseconds from the relay's socket to the commit.
fn ingest(committed: &HashMap<String, u64>, sent: &str) -> Fallible<Vec<u64>> {
    let each = sent.split(' ').map(|one| {
        let (id, at_us) = one.split_once('=').ok_or("no time")?;
        let at: u64 = at_us.parse()?;
        Ok(committed.get(id).ok_or("an event that was not committed")?.saturating_sub(at))
    });
    each.collect()
}

/// Returns the microseconds that this thread takes to encrypt one signal.
fn bare_encryption() -> Fallible<f64> {
    const TIMES: u64 = 50_000;
    let (key, signal) = (ConversationKey::new([7; 32]), signal(0));
    let before = cpu::used_by_thread();
    for _ in 0..TIMES {
        let payload = encrypt_to_bytes_with_nonce(&key, signal.json(), rand::random())?;
        black_box(STANDARD.encode(payload));
    }
    Ok(cpu::micros_each(cpu::used_by_thread() - before, TIMES))
}

fn numbers(answer: &str) -> Fallible<[f64; 4]> {
    let numbers: Vec<f64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|_| "four figures".into())
}

/// The relay. Commands: `subscribed` responds when the gateway has subscribed. `alone` sends
/// signals and responds with their send times. `beside` sends signals among other events, and its
/// response adds the other events' times after a `|`.
pub async fn play_bot() -> Fallible<()> {
    let sim = Sim::builder().relays(1).events(0).copies(1).sizes(Sizes::Exactly(600)).start().await?;
    println!("{}", sim.url(0));
    loop {
        match told().await?.as_str() {
            "subscribed" => {
                sim.wait_subscribed(1).await;
                println!("subscribed");
            }
            "alone" => println!("{}", send_signals(&sim, 0).await),
            "beside" => {
                let (signals, others) = tokio::join!(send_signals(&sim, SIGNALS), send_others(&sim));
                println!("{signals}|{}", others.join(" "));
            }
            _ => return Ok(()),
        }
    }
}

/// Makes the relay send signals, numbered from `first`. Returns their send times.
async fn send_signals(sim: &Sim, first: usize) -> String {
    let mut sent = Vec::new();
    for number in first..first + SIGNALS {
        let signal = signal(number);
        // The connection writes the signal to its socket at once.
        sent.push(now_us().to_string());
        sim.publish([0], signal.json().clone());
        sleep(EVERY).await;
    }
    sent.join(" ")
}

/// The followers. Commands: `open <followers> <address>` connects followers and responds when all
/// are connected. `found <microseconds> …` passes the send time of each signal. The response has
/// the number of followers that received all signals, and p50, p99 and the maximum of the
/// microseconds from sending a signal until a follower received it. Then the followers disconnect.
pub async fn play() -> Fallible<()> {
    let mut followers = JoinSet::new();
    loop {
        let line = told().await?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["open", count, address] => {
                let host = (*address).to_owned();
                let request = move |number| request(&host, number);
                followers = dial_all(count.parse()?, address, request, SIGNALS, |_, _| true).await?;
                println!("open");
            }
            ["found", sent @ ..] => {
                let sent = sent.iter().map(|at_us| at_us.parse()).collect::<Result<Vec<u64>, _>>()?;
                println!("{}", found(std::mem::take(&mut followers), &sent).await?);
            }
            _ => return Ok(()),
        }
    }
}

/// Makes the relay send events that are not signals, a few at a time. Returns their ids and send
/// times.
async fn send_others(sim: &Sim) -> Vec<String> {
    const AT_ONCE: usize = 4;
    let mut ticks = interval(Duration::from_secs(1) / (OTHERS_RATE / AT_ONCE) as u32);
    let mut sent = Vec::new();
    while sent.len() < OTHERS {
        ticks.tick().await;
        let before = now_us();
        let events = sim.publish_many(&[0], 1, &[before / 1_000_000; AT_ONCE]);
        sent.extend(events.iter().map(|event| format!("{}={before}", event.id())));
    }
    sent
}

/// Builds the request for a follower's signals, with a token signed by the follower's key.
fn request(address: &str, number: usize) -> String {
    let tags = [["u", &format!("http://{address}/fanout")], ["method", "GET"]];
    let tags = tags.map(|tag| tag.map(str::to_owned));
    let token = follower(number).sign(now_us() / 1_000_000, 27_235, &tags, "");
    let header = format!("\r\nAuthorization: Nostr {}\r\n\r\n", STANDARD.encode(token.json()));
    upgrade_request(address, "/fanout").replace("\r\n\r\n", &header)
}

/// Collects the followers' results.
async fn found(mut followers: JoinSet<Arrivals>, sent: &[u64]) -> Fallible<String> {
    let (by, mut whole, mut latencies) = (Instant::now() + PATIENCE, 0, Vec::new());
    while let Ok(Some(arrivals)) = timeout_at(by.into(), followers.join_next()).await {
        let arrivals = arrivals?;
        whole += usize::from(arrivals.len() == SIGNALS);
        latencies.extend(arrivals.iter().zip(sent).map(|(at_us, sent_us)| at_us.saturating_sub(*sent_us)));
    }
    let [half, most, all] = shares(latencies);
    Ok(format!("{whole} {half} {most} {all}"))
}
