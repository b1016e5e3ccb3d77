//! The source of a follower's messages: signals of the followed bots, from memory or from the log.

use std::sync::Arc;
use std::time::Duration;

use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::event_log::reader::Chunk;
use moltrade_relayer::fanout::follower::FollowerSource;
use moltrade_relayer::fanout::keys::ConversationKeys;
use moltrade_relayer::fanout::registry::directory::{Directory, UnsealedFollow};
use moltrade_relayer::fanout::registry::{BotName, BotRow, FollowKey};
use moltrade_relayer::fanout::signals::Signals;
use moltrade_relayer::serve::Source;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::{PublicKey, Signer, VerifiedEvent};

use crate::gateway::Gateway;

const KIND: u16 = 30_931;
/// A time limit that no test reaches.
const PATIENCE: Duration = Duration::from_secs(20);

fn bot(number: u64) -> Signer {
    Signer::from_seed(1_000 + number)
}

fn follower() -> PublicKey {
    *Signer::from_seed(5_000).pubkey()
}

fn key(bot_number: u64) -> FollowKey {
    FollowKey { bot: *bot(bot_number).pubkey(), follower: follower() }
}

fn signal(bot_number: u64, created_at: u64) -> VerifiedEvent {
    bot(bot_number).sign(created_at, KIND, &[["d", "x"].map(str::to_owned)], &"x".repeat(200))
}

/// A gateway with the registered bots 1 to 3. Our follower follows bot 1.
struct World {
    gateway: Gateway,
    directory: Arc<Directory>,
    signals: Arc<Signals>,
    looking: JoinHandle<()>,
}

impl World {
    async fn keeping(bytes_max: usize) -> Self {
        Self::after(0, Cursor::START, bytes_max).await
    }

    /// Appends `rounds` rounds of events to the log, and scans the signals after the cursor.
    async fn after(rounds: u64, after: Cursor, bytes_max: usize) -> Self {
        let gateway = Gateway::start().await;
        append_rounds(&gateway, rounds).await;
        let directory = Arc::new(Directory::default());
        for number in 1..=3 {
            let (pubkey, name) = (*bot(number).pubkey(), BotName::new("a bot").unwrap());
            directory.put_bot(BotRow { pubkey, name, registered_at_ms: 1, is_approved: true });
        }
        directory.put_follow(UnsealedFollow { key: key(1), secret: None, since_ms: 0 });
        let kinds = [KIND].into();
        let signals = Arc::new(Signals::new(&gateway.log, kinds, Arc::clone(&directory), after, bytes_max));
        let looking = {
            let signals = Arc::clone(&signals);
            tokio::spawn(async move { signals.run().await.unwrap() })
        };
        Self { gateway, directory, signals, looking }
    }

    fn source(&self, cursor: u64) -> FollowerSource {
        let presence = self.directory.connect(follower()).unwrap();
        let keys = Arc::new(ConversationKeys::new(&Signer::from_seed(0)).unwrap());
        let cursor = Cursor::from_number(cursor);
        FollowerSource::new(presence, Arc::clone(&self.signals), keys, cursor, None)
    }
}

/// The sequence numbers that a source sends for a chunk. Notices come first, as on a connection.
fn messages(source: &mut FollowerSource, chunk: &Chunk) -> Vec<u64> {
    while source.notice().is_some() {}
    let texts = chunk.entries().iter().filter_map(|entry| source.message(entry).unwrap());
    let read = texts.map(|text| {
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["target_pubkey"], follower().to_string());
        assert_eq!(message["bot_pubkey"], bot(1).pubkey().to_string());
        message["seq"].as_u64().unwrap()
    });
    read.collect()
}

async fn next(source: &mut FollowerSource) -> Option<Vec<u64>> {
    let chunk = timeout(PATIENCE, source.next()).await.expect("in time").unwrap()?;
    Some(messages(source, &chunk))
}

async fn next_seqs(source: &mut FollowerSource, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.extend(next(source).await.expect("more"));
    }
    seqs
}

/// Appends rounds of three events: one by an author that is not a bot, a signal of another bot, and
/// a signal of bot 1. The signals of bot 1 have the sequences 3, 6, 9, …
async fn append_rounds(gateway: &Gateway, rounds: u64) {
    let first = gateway.log.head().get();
    for round in 0..rounds {
        let at = 10 * (first + round);
        let noise = bot(1).sign(at, 1, &[["t", "x"].map(str::to_owned)], "no signal");
        gateway.append(vec![noise]).await;
        gateway.append(vec![signal(2, at)]).await;
        gateway.append(vec![signal(1, at)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_signals_come_from_memory() {
    let world = World::keeping(1 << 20).await;
    let mut source = world.source(0);
    append_rounds(&world.gateway, 20).await;
    assert_eq!(next_seqs(&mut source, 20).await, (1..=20).map(|round| 3 * round).collect::<Vec<_>>());
    assert!(source.next_in_memory().is_none());
    assert_eq!(source.cursor(), Cursor::from_number(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_signals_come_from_the_log() {
    let world = World::keeping(2_000).await;
    append_rounds(&world.gateway, 50).await;
    let mut source = world.source(0);
    assert_eq!(next_seqs(&mut source, 50).await, (1..=50).map(|round| 3 * round).collect::<Vec<_>>());
    // The source continues in memory without a gap or a repeat.
    append_rounds(&world.gateway, 5).await;
    assert_eq!(next_seqs(&mut source, 5).await, (51..=55).map(|round| 3 * round).collect::<Vec<_>>());
}

/// After a restart, followers resume with old cursors.
#[tokio::test(flavor = "multi_thread")]
async fn stored_signals_are_scanned_once_for_all_followers() {
    let world = World::after(40, Cursor::from_number(60), 1 << 20).await;
    let mut recent = world.source(90);
    assert_eq!(next_seqs(&mut recent, 10).await, (31..=40).map(|round| 3 * round).collect::<Vec<_>>());
    let mut old = world.source(0);
    assert_eq!(next_seqs(&mut old, 40).await, (1..=40).map(|round| 3 * round).collect::<Vec<_>>());
}

/// Reading the log for a client without follows would be useless, and would delay other clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_follows_waits_for_one() {
    let world = World::after(5, Cursor::from_number(15), 1 << 20).await;
    world.directory.remove_follow(&key(1));
    let mut source = world.source(0);
    let waited = timeout(Duration::from_millis(100), source.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(source.cursor(), Cursor::START);
    let follows = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.directory.put_follow(UnsealedFollow { key: key(1), secret: None, since_ms: 0 });
    };
    let (seqs, ()) = tokio::join!(next_seqs(&mut source, 5), follows);
    assert_eq!(seqs, [3, 6, 9, 12, 15]);
}

/// A waiting follower's cursor must keep up with other bots' signals: otherwise the follower would
/// later have to read the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_of_a_waiting_follower_advances_with_other_signals() {
    let world = World::keeping(20_000).await;
    let mut source = world.source(0);
    let others = async {
        for at in 0..200 {
            world.gateway.append(vec![signal(2, at)]).await;
        }
        // Gives the source time to see (nearly) all signals.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut others = std::pin::pin!(others);
    loop {
        let next = tokio::select! {
            next = source.next() => next.unwrap().expect("not closed"),
            () = &mut others => break,
        };
        assert_eq!(messages(&mut source, &next), [0; 0]);
    }
    world.gateway.append(vec![signal(1, 1)]).await;
    // One chunk does not hold all signals.
    assert!(source.cursor().get() > 150, "{}", source.cursor());
    assert_eq!(next_seqs(&mut source, 1).await, [201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_and_unfollowing_is_in_effect_with_the_next_message() {
    let world = World::keeping(1 << 20).await;
    let mut source = world.source(0);
    world.gateway.append(vec![signal(1, 1)]).await;
    world.gateway.append(vec![signal(1, 2)]).await;
    assert_eq!(next_seqs(&mut source, 1).await, [1]);
    // The follower already has the chunk.
    let chunk = timeout(PATIENCE, source.next()).await.unwrap().unwrap().unwrap();
    world.directory.remove_follow(&key(1));
    assert_eq!(messages(&mut source, &chunk), [0; 0]);
    world.directory.put_follow(UnsealedFollow { key: key(1), secret: None, since_ms: 0 });
    world.gateway.append(vec![signal(1, 3)]).await;
    assert_eq!(next_seqs(&mut source, 1).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_log() {
    let world = World::keeping(1 << 20).await;
    let mut source = world.source(0);
    append_rounds(&world.gateway, 1).await;
    world.gateway.log.close();
    assert_eq!(next(&mut source).await, Some(vec![]), "of another bot");
    assert_eq!(next(&mut source).await, Some(vec![3]));
    assert_eq!(next(&mut source).await, None);
    timeout(PATIENCE, world.looking).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_follows_and_connections_is_forgotten() {
    let world = World::keeping(1 << 20).await;
    assert_eq!(world.directory.len(), (3, 1));
    let stranger = *Signer::from_seed(6_000).pubkey();
    let connections: Vec<_> = (0..16).map(|_| world.directory.connect(stranger).unwrap()).collect();
    assert!(world.directory.connect(stranger).is_err(), "one has 16 connections");
    drop(connections);
    drop(world.directory.connect(stranger).unwrap());
    world.directory.remove_follow(&key(1));
    assert_eq!(world.directory.len(), (3, 0));
    assert_eq!(world.directory.followers(), 0);
}
