//! The gateway that is measured, on a folder of its own.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use moltrade_relayer::api;
use moltrade_relayer::config::{Config, Output};
use moltrade_relayer::control::Control;
use moltrade_relayer::fanout::Fanout;
use moltrade_relayer::fanout::registry::{Change, Embedded, Store};
use moltrade_relayer::pipeline::Pipeline;
use moltrade_relayer::serve::ClientLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use wire::Signer;

use crate::Fallible;

/// A configuration that takes whatever its relays send. The folder is beside the build's output, because
/// the system's temporary folder may be in memory, where fsync costs nothing.
pub fn config(urls: impl IntoIterator<Item = String>) -> Fallible<(Config, TempDir)> {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut config = Config::default();
    config.relay.bootstrap_relays = urls.into_iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    config.relay.backfill = Some(Duration::from_secs(1_000_000 * 3600));
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.monitoring.prometheus_port = None;
    config.output.websocket_port = 0;
    // What is measured is not to be slowed.
    config.relay.max_events_per_second = None;
    Ok((config, folder))
}

/// A pipeline and its HTTP server, as the program runs them.
pub struct Gateway {
    pub pipeline: Pipeline,
    /// Its address.
    pub address: String,
    server: JoinHandle<()>,
    clients: api::Context,
    _folder: TempDir,
}

impl Gateway {
    pub async fn start((config, folder): (Config, TempDir)) -> Fallible<Self> {
        Self::start_with_followers((config, folder), None).await
    }

    /// With a fan-out, whose registry these rows are written into before.
    pub async fn start_with_followers(
        (config, folder): (Config, TempDir),
        rows: Option<Vec<Change>>,
    ) -> Fallible<Self> {
        // All clients come from one address.
        let output = Output { max_clients_per_address: None, ..config.output.clone() };
        let pipeline = Pipeline::start(&config)?;
        let listener = api::listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let identity = Signer::from_seed(0);
        let fanout = match rows {
            None => None,
            Some(rows) => {
                let store = Arc::new(Embedded::new(Arc::clone(&pipeline.log)));
                store.prepare(*identity.pubkey()).await?;
                store.write(*identity.pubkey(), rows).await?;
                let (log, metrics) = (&pipeline.log, &pipeline.metrics);
                let config = Config { output: output.clone(), ..config.clone() };
                Some(Fanout::start(&config, &identity, store, log, metrics, address.port()).await?)
            }
        };
        let clients = api::Context::new(api::Parts {
            pool: pipeline.pool.clone(),
            log: pipeline.log.clone(),
            inboxes: pipeline.inboxes.clone(),
            dedupe: pipeline.dedupe.clone(),
            disk_full: pipeline.disk_full.clone(),
            reserve: pipeline.reserve.clone(),
            metrics: pipeline.metrics.clone(),
            websocket: api::WebSocketOptions::from(&output),
            access: api::Access::new(None, Ipv4Addr::LOCALHOST.into()),
            control: Arc::new(Control::new(
                &Config::parse(None, [])?,
                pipeline.pool.clone(),
                pipeline.admission.clone(),
            )),
            instance: pipeline.instance,
            sinks: Arc::clone(pipeline.sinks()),
            consumers: pipeline.consumers.clone(),
            identity: *identity.pubkey(),
            fanout,
        });
        let address = address.to_string();
        let limits = ClientLimits { in_all: NonZeroUsize::MAX, from_address: None };
        let connections = api::Connections::new(limits, &pipeline.metrics);
        let server = tokio::spawn(api::serve(listener, api::router(clients.clone()), connections));
        Ok(Self { pipeline, address, server, clients, _folder: folder })
    }

    /// Ends it, so that the next one has the machine for itself.
    pub async fn stop(self) -> Fallible<()> {
        self.pipeline.drain().await?;
        self.clients.clients().drain(Duration::from_secs(1)).await;
        if let Some(fanout) = &self.clients.fanout {
            fanout.clients.drain(Duration::from_secs(1)).await;
        }
        self.server.abort();
        Ok(())
    }
}

/// How often those who wait for something look.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks every few milliseconds until it is so.
pub async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Raises the limit of open files as far as it goes: a thousand relays and clients need more than the
/// usual default. Children inherit it.
pub fn allow_many_sockets() -> Fallible<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
