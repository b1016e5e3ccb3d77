//! A new event from end to end: the gateway's CPU compared with one bare Schnorr verification of
//! the same event.

use moltrade_relayer::event_log::{Cursor, EventLog};
use secp256k1::{Secp256k1, XOnlyPublicKey, schnorr};
use std::sync::Arc;
use std::time::Duration;
use wire::UnverifiedEvent;

use crate::figures::Figure;
use crate::gateway::{Gateway, until};
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu, gateway};

const TRAFFIC: Traffic =
    Traffic { relays: 20, events: 10_000, copies: 10, rate: 0, spread_ms: 0, tls: false };
const RUNS: usize = 6;
const TARGET: f64 = 1.35;

/// A run of the whole path or of a part.
struct Run {
    copies: usize,
    client: bool,
    fsync: bool,
}

/// Microseconds per event.
struct Cost {
    gateway: f64,
    /// Parsing the author's key and verifying the event.
    bare: f64,
    /// Verifying the event with the author's parsed key.
    bare_known_author: f64,
}

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The minimum of each value counts, because the speed of a shared machine varies by half from
    // one second to the next.
    let (mut gateway, mut bare, mut known_author) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..RUNS {
        let cost =
            runtime.block_on(measure(&Run { copies: 10, client: true, fsync: true }, TRAFFIC.events))?;
        gateway = gateway.min(cost.gateway);
        bare = bare.min(cost.bare);
        known_author = known_author.min(cost.bare_known_author);
    }
    println!("bare verification with the author's key known {known_author:>6.2} us");
    runtime.block_on(measure(&Run { copies: 1, client: true, fsync: true }, TRAFFIC.events))?;
    runtime.block_on(measure(&Run { copies: 10, client: false, fsync: true }, TRAFFIC.events))?;
    runtime.block_on(measure(&Run { copies: 10, client: true, fsync: false }, TRAFFIC.events))?;
    runtime.block_on(measure(&Run { copies: 1, client: false, fsync: false }, TRAFFIC.events))?;
    Ok(vec![Figure::ratio("new event, end to end / verification", gateway, bare, TARGET)])
}

async fn measure(run: &Run, events: usize) -> Fallible<Cost> {
    let traffic = Traffic { copies: run.copies, events, ..TRAFFIC };
    let (mut player, urls) = traffic.player()?;
    let (mut config, folder) = gateway::config(urls)?;
    config.storage.fsync = run.fsync;
    let gateway = Gateway::start((config, folder)).await?;
    if run.client {
        player.ask(&format!("client ws://{}/ws?cursor=0", gateway.address))?;
    }
    player.ask("subscribed")?;
    let metrics = &gateway.metrics;
    let before = cpu::used();
    player.say("go")?;
    until(|| metrics.ingest.events_processed.get() + metrics.ingest.duplicates.total() >= traffic.frames())
        .await;
    player.hear()?;
    let each = cpu::micros_each(cpu::used() - before, events as u64);
    let batch = events as f64 / metrics.ingest.batches_committed.get() as f64;
    let candidates = metrics.ingest.lookups_in_memory.get() + metrics.ingest.lookups_on_disk.get();
    let candidates = candidates as f64 / events as f64;
    let (bare, bare_known_author) = verification(&gateway.log, events).await?;
    println!(
        "{:>2} copies, {}, {}: {each:>7.2} us an event, {:>5.2} times {bare:.2} us; {batch:.1} events a commit, {candidates:.1} candidates an event",
        run.copies,
        if run.client { "1 client " } else { "no client" },
        if run.fsync { "fsync   " } else { "no fsync" },
        each / bare,
    );
    gateway.stop().await?;
    Ok(Cost { gateway: each, bare, bare_known_author })
}

/// Returns the CPU of only verifying the log's events: first with each author's key as bytes, then
/// with the parsed key. Uses as many threads as the gateway has shards, because busy cores slow
/// each other down.
async fn verification(log: &Arc<EventLog>, events: usize) -> Fallible<(f64, f64)> {
    let mut signed = Vec::with_capacity(events);
    let mut reader = log.reader(Cursor::START);
    while signed.len() < events {
        let chunk = reader.next().await?.ok_or("the log ends early")?;
        for entry in chunk.entries() {
            let event = UnverifiedEvent::parse(entry.event.json())?;
            signed.push((*event.pubkey.as_bytes(), *event.id.as_bytes(), *event.sig.as_bytes()));
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = signed.chunks(signed.len().div_ceil(threads)).collect();
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| verify(part))).collect();
        let times = threads.into_iter().map(|thread| thread.join().unwrap_or_default());
        times.fold((Duration::ZERO, Duration::ZERO), |sum, time| (sum.0 + time.0, sum.1 + time.1))
    });
    Ok((cpu::micros_each(total.0, events as u64), cpu::micros_each(total.1, events as u64)))
}

type Signed = ([u8; 32], [u8; 32], [u8; 64]);

fn verify(signed: &[Signed]) -> (Duration, Duration) {
    let secp = Secp256k1::verification_only();
    let begin = cpu::used_by_thread();
    let mut keys = Vec::with_capacity(signed.len());
    for (key, id, sig) in signed {
        let Ok(key) = XOnlyPublicKey::from_slice(key) else { continue };
        keys.push(key);
        let holds = secp.verify_schnorr(&schnorr::Signature::from_byte_array(*sig), id, &key).is_ok();
        std::hint::black_box(holds);
    }
    let middle = cpu::used_by_thread();
    for ((_, id, sig), key) in signed.iter().zip(&keys) {
        let holds = secp.verify_schnorr(&schnorr::Signature::from_byte_array(*sig), id, key).is_ok();
        std::hint::black_box(holds);
    }
    (middle - begin, cpu::used_by_thread() - middle)
}
