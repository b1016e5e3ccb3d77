//! Fills a log before the gateway starts, with unsigned events that resemble real ones.
//!
//! Signing a million events takes most of a minute, and no code after the shards reads signatures.
//! Ids, keys, signatures and contents are random, so that they differ and compress no better than
//! real ones.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bytes::Bytes;
use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::sequencer::{Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{EventLog, StoreOptions, Submission, Verified, keys};
use rocksdb::{Cache, DB, Env, Options, WaitForCompactOptions};
use wire::VerifiedEvent;

use crate::Fallible;
use crate::traffic::EVENT_BYTES;

/// Events per commit.
const BATCH: usize = 1_000;
/// The relay named as the source of all events.
const RELAY: &str = "wss://relay.example";
/// The alphabet of contents.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes this many events to the log of a gateway that has not started yet, and waits until
/// RocksDB has sorted the events into files.
pub fn fill(config: &Config, events: usize) -> Fallible<()> {
    let begin = Instant::now();
    let path = &config.deduplication.rocksdb_path;
    let log = EventLog::open(path, StoreOptions { fsync: false, ..StoreOptions::default() }, 0)?;
    let options = SequencerOptions { batch_size: BATCH };
    let sequencer = Sequencer::new(log, options, Arc::default())?;
    let (to_sequencer, inbox) = sync_channel(4);
    let writer = std::thread::spawn(move || sequencer.run(&inbox, |_| {}));
    let mut random = Random(1);
    for first in (0..events).step_by(BATCH) {
        let numbers = first..events.min(first + BATCH);
        let batch = numbers.map(|number| made_up(number, &mut random)).collect::<Option<_>>();
        to_sequencer.send(batch.ok_or("not the layout of an event")?)?;
    }
    drop(to_sequencer);
    writer.join().map_err(|_| "the writer of the log panicked")??;
    settle(config)?;
    println!("{events} events of {EVENT_BYTES} bytes written in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Waits for RocksDB's background work, which would otherwise disturb measurements.
fn settle(config: &Config) -> Fallible<()> {
    let path = &config.deduplication.rocksdb_path;
    let (options, families) = Options::load_latest(path, Env::new()?, false, Cache::new_lru_cache(64 << 20))?;
    let db = DB::open_cf_descriptors(&options, path, families)?;
    for family in [keys::EVENTS, keys::IDS] {
        db.flush_cf(db.cf_handle(family).ok_or("no such family")?)?;
    }
    db.wait_for_compact(&WaitForCompactOptions::default())?;
    drop(db);
    // Data that is not on disk yet would delay the first commits.
    for file in std::fs::read_dir(path)? {
        std::fs::File::open(file?.path())?.sync_all()?;
    }
    Ok(())
}

/// Creates an event in the layout of stored verified events.
fn made_up(number: usize, random: &mut Random) -> Option<Submission> {
    let (id, pubkey, sig) = (random.text(64, DIGITS), random.text(64, DIGITS), random.text(128, DIGITS));
    let created_at = 1_700_000_000 + number as u64;
    let head = format!(
        r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":1,"tags":[],"content":""#
    );
    let end = format!(r#"","sig":"{sig}"}}"#);
    let content = random.text(EVENT_BYTES - head.len() - end.len(), LETTERS);
    let event = VerifiedEvent::from_canonical(Bytes::from([head, content, end].concat()))?;
    let (relay, received_at_ms) = (RELAY.into(), created_at * 1_000);
    Some(Submission::Event(Verified { event, relay, received_at_ms, received: Instant::now(), budget: None }))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a text of `length` characters from an alphabet, whose size must be a power of two up
    /// to 256.
    fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let bytes = self.next().to_le_bytes();
            let indexes =
                bytes.iter().take(length - text.len()).map(|byte| usize::from(*byte) % alphabet.len());
            text.extend(indexes.filter_map(|index| alphabet.get(index)).map(|letter| char::from(*letter)));
        }
        text
    }
}
