//! The gateway that is measured, on a folder of its own.

use std::time::Duration;

use moltrade_relayer::config::Config;
use tempfile::TempDir;

/// A configuration that takes whatever its relays send.
pub fn config(
    urls: impl IntoIterator<Item = String>,
) -> Result<(Config, TempDir), Box<dyn std::error::Error>> {
    let folder = TempDir::new()?;
    let mut config = Config::default();
    config.relay.bootstrap_relays = urls.into_iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    config.relay.backfill = Some(Duration::from_secs(1_000_000 * 3600));
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.monitoring.prometheus_port = None;
    config.output.websocket_port = 0;
    Ok((config, folder))
}
