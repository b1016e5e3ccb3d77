//! A registry of 100,000 follows: the time to load it at startup, and the memory of each follow.

use std::sync::Arc;
use std::time::Instant;

use moltrade_relayer::event_log::{EventLog, StoreOptions};
use moltrade_relayer::fanout::Metrics;
use moltrade_relayer::fanout::registry::{
    BotName, BotRow, Change, Embedded, FollowKey, FollowRow, Registry, RegistryLimits, Row, Sealer, Store,
};
use tempfile::TempDir;
use wire::Signer;

use crate::figures::{Figure, Target};
use crate::memory::resident_kib;
use crate::player::Player;
use crate::{Fallible, Outcome};

const FOLLOWERS: usize = 100_000;
const BOTS: usize = 100;
const LIMITS: RegistryLimits = RegistryLimits { bots: BOTS, follows: FOLLOWERS };

fn gateway() -> Signer {
    Signer::from_seed(0)
}

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("log").display().to_string();
    let rows = rows();
    let written = Instant::now();
    runtime.block_on(async {
        let store = embedded(&path)?;
        store.prepare(*gateway().pubkey()).await?;
        Fallible::Ok(store.write(*gateway().pubkey(), rows).await?)
    })?;
    println!("{FOLLOWERS} follows written in one commit: {:.1} s", written.elapsed().as_secs_f64());
    let mut child = Player::start(&["registry", &path])?;
    let answer = child.hear()?;
    let (seconds, bytes) = answer.split_once(' ').ok_or("two figures")?;
    let (seconds, bytes): (f64, f64) = (seconds.parse()?, bytes.parse()?);
    println!("known after {seconds:.2} s, {bytes:.0} bytes a follow, half of them with a secret");
    Ok(vec![
        Figure::plain("100,000 follows, known at the start", seconds, "s", Target::AtMost(3.0)),
        Figure::plain("100,000 follows, resident, each", bytes, "B", Target::AtMost(400.0)),
    ])
}

/// Returns the rows: each follower follows one bot, and every second follow has a shared secret.
fn rows() -> Vec<Change> {
    let sealer = Sealer::new(&gateway());
    let bots: Vec<_> = (0..BOTS).map(|number| *Signer::from_seed(number as u64 + 1).pubkey()).collect();
    let names = bots.iter().filter_map(|bot| Some((*bot, BotName::new("bench")?)));
    let bot_rows: Vec<_> = names
        .map(|(pubkey, name)| Row::Bot(BotRow { pubkey, name, registered_at_ms: 1, is_approved: true }))
        .collect();
    let follows = (0..FOLLOWERS).zip(bots.iter().cycle()).map(|(number, bot)| {
        let key = FollowKey { bot: *bot, follower: *Signer::from_seed(1_000 + number as u64).pubkey() };
        let secret = (number % 2 == 0).then(|| sealer.seal(&key, b"thirty-two bytes of some secret!"));
        Row::Follow(FollowRow { key, secret, since_ms: 1 })
    });
    bot_rows.into_iter().chain(follows).map(Change::Put).collect()
}

fn embedded(path: &str) -> Fallible<Embedded> {
    let log =
        EventLog::open(path.as_ref(), StoreOptions { fsync: true, ..StoreOptions::default() }, 1 << 20)?;
    Ok(Embedded::new(log))
}

/// Opens the registry in a folder, and reports the time and the memory per follow. The store is
/// opened and read once beforehand, so that the store's own memory does not count.
pub async fn play(path: &str) -> Fallible<()> {
    let store = Arc::new(embedded(path)?);
    store.load(*gateway().pubkey(), &mut |_| {}).await?;
    let (before, begin) = (resident_kib()?, Instant::now());
    let registry = Registry::open(store, &gateway(), LIMITS, Arc::new(Metrics::default())).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let (bots, follows) = registry.directory().len();
    if (bots, follows) != (BOTS, FOLLOWERS) {
        return Err(format!("{bots} bots and {follows} follows are known").into());
    }
    let bytes = (resident_kib()? - before) * 1_024;
    println!("{seconds} {}", bytes as f64 / FOLLOWERS as f64);
    Ok(())
}
