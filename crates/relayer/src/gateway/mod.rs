//! The gateway, which owns relays, ingest, event log, sinks, clients and fan-out. [`build`] starts
//! the gateway, this file runs and drains it, and [`parts`] holds what its servers share.

mod build;
mod liveness;
mod memory;
mod metrics;
mod parts;
pub(crate) mod summary;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::Config;
use crate::crash_point;
use crate::fanout::service::FanoutError;
use crate::fanout::{Fanout, registry};
use crate::limits::{CLIENT_DRAIN_MAX, DRAIN_MAX, GOODBYES_MAX, SINK_DRAIN_MAX};
use crate::nip19::npub;
use crate::tasks::{StageFailure, Stages};

pub(crate) use build::reserve_of;
pub use build::{Environment, StartError};
pub use memory::{Memory, MemoryPart};
pub use parts::Parts;
pub(crate) use summary::Totals;

#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error(transparent)]
    Stage(#[from] StageFailure),
    /// Events that were read from relays could not be committed in time.
    #[error("could not finish within {secs} s; events that were not committed are requested from their relays again", secs = DRAIN_MAX.as_secs())]
    Timeout,
}

/// A running gateway. Stop it with [`drain`](Self::drain): dropping it leaves its threads running.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<Parts>,
    stages: Stages,
    supervisor: JoinHandle<Result<(), StageFailure>>,
    /// Checks the clock for steps.
    clock: JoinHandle<()>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
}

impl Deref for Gateway {
    type Target = Arc<Parts>;

    fn deref(&self) -> &Arc<Parts> {
        &self.parts
    }
}

impl Gateway {
    /// Starts the fan-out with the configured registry, if enabled. May wait for a database.
    /// Followers sign proofs for `port`, unless a public URL is configured.
    ///
    /// # Errors
    /// When the registry has a permanent failure, or no thread can be started.
    pub(crate) async fn start_fanout(&self, config: &Config, port: u16) -> Result<(), FanoutError> {
        if !config.fanout.enabled {
            return Ok(());
        }
        let (log, metrics) = (&self.log, &self.metrics.fanout);
        let store = registry::store(config, log, metrics.registry_queries.clone())?;
        let fanout = Fanout::start(config, &self.identity, store, log, metrics, port).await?;
        let (bots, follows) = fanout.registry.directory().len();
        tracing::info!(
            name: "fanout_started",
            bots,
            follows,
            registry = fanout.registry.store_name(),
            npub = npub(self.identity.pubkey()),
            "signals are fanned out to followers on /fanout"
        );
        self.parts.liveness.watch_runtime("fanout-runtime", fanout.runtime());
        // The fan-out is set only once, so setting cannot fail.
        let _ = self.parts.fanout.set(fanout);
        Ok(())
    }

    /// Ends without draining sinks and clients, whose cursors are not written. Commits the events
    /// that were already read, and waits for the threads that use the log.
    ///
    /// # Errors
    /// When a stage failed, or the end takes longer than [`DRAIN_MAX`].
    pub(crate) async fn abort(self) -> Result<(), DrainError> {
        Ok(timeout(DRAIN_MAX, self.abort_in_order()).await.map_err(|_| DrainError::Timeout)??)
    }

    async fn abort_in_order(mut self) -> Result<(), StageFailure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.parts.disk_full.give_up();
        self.supervisor.abort();
        self.clock.abort();
        self.parts.sinks.abort();
        // The supervised tasks end with the supervisor.
        let _ = (&mut self.supervisor).await;
        let outcome = self.stages.join().await;
        self.parts.log.close();
        if let Some(fanout) = self.parts.fanout() {
            fanout.stop().await;
        }
        outcome
    }

    /// Waits until a stage fails or a reader finds the log damaged.
    pub async fn failure(&mut self) -> StageFailure {
        let of_fanout = async {
            match self.parts.fanout() {
                Some(fanout) => fanout.failure().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = self.stages.failure() => failure,
            failure = self.parts.sinks.failure() => failure,
            failure = of_fanout => failure,
            error = self.parts.log.failure() => StageFailure::new("a reader of the log", error),
            Err(panic) = &mut self.clock => StageFailure::new("the clock watcher", panic),
            ended = &mut self.supervisor => match ended {
                Ok(Err(failure)) => failure,
                Ok(Ok(())) => StageFailure::new("the relay supervisor", "it ended"),
                Err(panic) => StageFailure::new("the relay supervisor", panic),
            },
        }
    }

    /// Stops reading from relays, commits the events that were read, and closes the log. Connected
    /// sinks and clients get the remaining events.
    ///
    /// # Errors
    /// When a stage failed, or draining takes longer than [`DRAIN_MAX`].
    pub async fn drain(self) -> Result<(), DrainError> {
        let parts = Arc::clone(&self.parts);
        let drained = timeout(DRAIN_MAX, self.drain_in_order()).await;
        crash_point::reached("drained");
        if let Some(fanout) = parts.fanout() {
            fanout.stop().await;
        }
        Ok(drained.map_err(|_| DrainError::Timeout)??)
    }

    async fn drain_in_order(mut self) -> Result<(), StageFailure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.parts.disk_full.give_up();
        self.stop.send_replace(true);
        self.clock.abort();
        // The shards end when the last connection ends, and then the sequencer ends.
        if !self.supervisor.is_finished() && timeout(GOODBYES_MAX, &mut self.supervisor).await.is_err() {
            self.supervisor.abort();
            // The supervised tasks end with the supervisor.
            let _ = self.supervisor.await;
        }
        let outcome = self.stages.join().await;
        self.parts.log.close();
        tokio::join!(self.parts.sinks.drain(SINK_DRAIN_MAX), drain_clients(&self.parts));
        outcome
    }
}

/// Waits until the clients of `/ws` and `/fanout` have the remaining events, but at most
/// [`CLIENT_DRAIN_MAX`]. The listeners of the overview leave at once.
async fn drain_clients(parts: &Parts) {
    let followers = async {
        match parts.fanout() {
            Some(fanout) => fanout.clients.drain(CLIENT_DRAIN_MAX).await,
            None => 0,
        }
    };
    let (clients, followers, _) = tokio::join!(
        parts.clients.drain(CLIENT_DRAIN_MAX),
        followers,
        parts.listeners.drain(CLIENT_DRAIN_MAX)
    );
    let clients = clients + followers;
    if clients > 0 {
        tracing::warn!(
            name: "clients_undrained",
            clients,
            "some clients did not read the remaining events in time; they resume from their cursors"
        );
    }
}
