//! Five million ids on disk. Measures the time from the start until the first event passes, and the
//! look-ups of known and unknown ids.

use std::path::Path;
use std::time::{Duration, Instant};

use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::{EventLog, StoreOptions, keys};
use moltrade_relayer::ingest::{Dedupe, Lookup};
use moltrade_relayer::testing::Setup;
use rocksdb::{Cache, DB, Env, Options, WaitForCompactOptions, WriteBatch, WriteOptions};
use wire::ClaimedId;

use crate::figures::{Figure, Target};
use crate::gateway::until;
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu, gateway};

const IDS: u64 = 5_000_000;
const ASKED: u64 = 10_000;
const ASKED_UNKNOWN: u64 = 200_000;
const TRAFFIC: Traffic = Traffic { relays: 1, events: 100, copies: 1, rate: 0, spread_ms: 0, tls: false };

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut player, urls) = TRAFFIC.player()?;
        let (config, _folder) = gateway::config(urls)?;
        let begin = Instant::now();
        fill(&config)?;
        println!("{IDS} ids written in {:.1} s", begin.elapsed().as_secs_f64());

        player.say("go")?;
        player.hear()?;
        let begin = Instant::now();
        let gateway = Setup::new(config).start().await?;
        let started = begin.elapsed();
        let early = known(&gateway.dedupe, 0)?;
        let still_rebuilding = !gateway.dedupe.bloom().is_complete();
        until(|| gateway.metrics.ingest.events_processed.get() > 0).await;
        let first = begin.elapsed();
        until(|| gateway.dedupe.bloom().is_complete()).await;
        let rebuilt = begin.elapsed();
        println!("{:.2} s until started, {:.2} s until the first event passed", secs(started), secs(first));
        println!("{:.2} s until the Bloom filter was rebuilt", secs(rebuilt));
        println!(
            "known ids recognised at the start: {early} of {ASKED}; rebuild under way: {still_rebuilding}"
        );

        let before = cpu::used_by_thread();
        let late = known(&gateway.dedupe, ASKED)?;
        let known_each = cpu::micros_each(cpu::used_by_thread() - before, ASKED);
        println!("known ids recognised after the rebuild: {late} of {ASKED}, {known_each:.2} us each");
        let before = cpu::used_by_thread();
        let unknown = (IDS..IDS + ASKED_UNKNOWN).map(id);
        let in_memory = unknown.filter(|id| gateway.dedupe.look_up(id) == Lookup::New).count();
        let look_each = cpu::micros_each(cpu::used_by_thread() - before, ASKED_UNKNOWN);
        let share = in_memory as f64 / ASKED_UNKNOWN as f64 * 100.0;
        println!("unknown ids answered from memory: {share:.2} %, {look_each:.3} us each");
        gateway.drain().await?;
        Ok(vec![
            Figure::plain("start with 5 million ids to first event", secs(first), "s", Target::AtMost(5.0)),
            Figure::plain(
                "known ids recognised, of 20,000",
                (early + late) as f64,
                "",
                Target::AtLeast(20_000.0),
            ),
            Figure::plain("unknown ids answered from memory", share, "%", Target::AtLeast(98.0)),
        ])
    })
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Looks up [`ASKED`] known ids, spread over all ids, and returns how many are recognised. Each
/// `offset` selects different ids.
fn known(dedupe: &Dedupe, offset: u64) -> Fallible<u64> {
    let mut known = 0;
    for number in offset..offset + ASKED {
        known += u64::from(dedupe.find(&id(number * (IDS / (2 * ASKED))))?.is_some());
    }
    Ok(known)
}

/// Returns the id with this number, as random as a hash.
fn id(number: u64) -> ClaimedId {
    let mut bytes = [0; 32];
    for (word, place) in bytes.chunks_exact_mut(8).zip(0..) {
        // SplitMix64.
        let mut mixed = (4 * number + place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    ClaimedId::from_bytes(bytes)
}

/// Writes a log whose events are trimmed and whose ids are kept: signing five million events would
/// take minutes. The rows have the layout of [`keys`], and the options are those of a real log.
fn fill(config: &Config) -> Fallible<()> {
    let path: &Path = &config.deduplication.rocksdb_path;
    drop(EventLog::open(path, StoreOptions { fsync: true, ..StoreOptions::default() }, 0)?);
    let (options, families) = Options::load_latest(path, Env::new()?, false, Cache::new_lru_cache(64 << 20))?;
    let db = DB::open_cf_descriptors(&options, path, families)?;
    let ids = db.cf_handle(keys::IDS).ok_or("no ids")?;
    let mut write = WriteOptions::default();
    write.disable_wal(true);
    let mut batch = WriteBatch::default();
    for number in 0..IDS {
        let row = [(number + 1).to_be_bytes(), 1_700_000_000_u64.to_be_bytes()].concat();
        batch.put_cf(ids, id(number).as_bytes(), row);
        if batch.len() == 1_000 {
            db.write_opt(std::mem::take(&mut batch), &write)?;
        }
    }
    db.write_opt(batch, &write)?;
    let meta = db.cf_handle(keys::META).ok_or("no meta")?;
    db.put_cf(meta, keys::META_HEAD, IDS.to_be_bytes())?;
    db.put_cf(meta, keys::META_FLOOR, (IDS + 1).to_be_bytes())?;
    db.flush_cf(ids)?;
    Ok(db.wait_for_compact(&WaitForCompactOptions::default())?)
}
