//! The gateway under measurement, with its own folder.

use std::time::Duration;

use moltrade_relayer::config::Config;
use moltrade_relayer::fanout::registry::Change;
use moltrade_relayer::testing::{Setup, TestGateway};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::Fallible;

/// Returns a configuration that accepts all events from these relays. The folder is in the build's
/// output, because the system's temporary folder may be in memory, where fsync costs nothing.
pub fn config(urls: impl IntoIterator<Item = String>) -> Fallible<(Config, TempDir)> {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut config = Config::default();
    config.relay.bootstrap_relays = urls.into_iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    config.relay.backfill = Some(Duration::from_secs(1_000_000 * 3600));
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.monitoring.prometheus_port = None;
    config.output.websocket_port = 0;
    // Limits that would slow the measured work are disabled.
    config.relay.max_events_per_second = None;
    Ok((config, folder))
}

/// A gateway and its HTTP server, as in the program.
pub struct Gateway {
    running: TestGateway,
    _folder: TempDir,
}

impl Gateway {
    pub async fn start((config, folder): (Config, TempDir)) -> Fallible<Self> {
        Self::start_with_followers((config, folder), None).await
    }

    /// Starts a gateway. If `registry` is given, the gateway has a fan-out, whose registry first
    /// gets these rows.
    pub async fn start_with_followers(
        (mut config, folder): (Config, TempDir),
        registry: Option<Vec<Change>>,
    ) -> Fallible<Self> {
        // All clients have the same address.
        config.output.max_clients_per_address = None;
        config.fanout.enabled = registry.is_some();
        let setup = Setup { registry, ..Setup::new(config) };
        Ok(Self { running: setup.start().await?, _folder: folder })
    }

    /// Stops the gateway, so that later measurements have the machine to themselves.
    pub async fn stop(self) -> Fallible<()> {
        Ok(self.running.drain().await?)
    }
}

impl std::ops::Deref for Gateway {
    type Target = TestGateway;

    fn deref(&self) -> &TestGateway {
        &self.running
    }
}

/// The interval between checks while waiting.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Checks every few milliseconds until the condition holds.
pub async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Raises the limit on open files to the maximum, because a thousand relays and clients need more
/// than the usual default. Child processes inherit the limit.
pub fn allow_many_sockets() -> Fallible<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
