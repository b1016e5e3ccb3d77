//! A gateway whose log the test writes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::config::{Config, Secret};
use moltrade_relayer::event_log::{Submission, Verified};
use moltrade_relayer::testing::{Setup, TestGateway};
use relay_sim::wait::until;
use tempfile::TempDir;
use wire::{Signer, VerifiedEvent};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Text that would have an effect if it were interpreted, with characters that are invisible or
/// change the direction of text.
pub const HOSTILE: &str =
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\u{202e}dne\u{202c}\u{200b}!";

/// Starts a gateway with this configuration and an admin token.
pub async fn start(folder: &TempDir, text: &str, change: impl FnOnce(&mut Setup)) -> TestGateway {
    let loaded = Config::parse(Some((Path::new("config.toml"), text)), []);
    let mut loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    loaded.config.api.admin_token = Some(Secret::new(TOKEN));
    loaded.config.deduplication.rocksdb_path = folder.path().join("log");
    loaded.config.storage.fsync = false;
    let mut setup = Setup::loaded(loaded);
    change(&mut setup);
    setup.start().await.unwrap()
}

/// Gives events to the sequencer.
pub fn submit(gateway: &TestGateway, events: impl IntoIterator<Item = VerifiedEvent>) {
    let verified = |event| {
        let relay = "wss://relay.example".into();
        Submission::Event(Verified {
            event,
            relay,
            received_at_ms: unix_ms(),
            received: Instant::now(),
            budget: None,
        })
    };
    gateway.submit(events.into_iter().map(verified).collect());
}

/// Gives events to an empty log, and waits until they are committed.
pub async fn append(gateway: &TestGateway, events: Vec<VerifiedEvent>) {
    let head = gateway.log.head().get() + u64::try_from(events.len()).unwrap();
    submit(gateway, events);
    until("the events are committed", || gateway.log.head().get() >= head).await;
}

/// An event that differs from every other, dated now.
pub fn event(key: &Signer, kind: u16, content: &str) -> VerifiedEvent {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
    key.sign(
        unix_ms() / 1000,
        kind,
        &[["d", &count], ["title", HOSTILE]].map(|tag| tag.map(str::to_owned)),
        content,
    )
}
