//! One reader with its limits, and its sessions.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::Filter;

use super::Refused;
use super::metrics::{ReadRefusal, ReaderMetrics};
use crate::config::{ReaderConfig, ReaderOptions};
use crate::limits::TICKETS_PER_READER_MAX;

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) config: ReaderConfig,
    /// The events that the reader may see; `None` for all.
    pub(super) filter: Option<Filter>,
    /// Has a permit for each further ticket.
    pub(super) tickets: Arc<Semaphore>,
    /// Has a permit for each further connection; `None` for no limit.
    connections: Option<Arc<Semaphore>>,
    limiter: Option<DefaultDirectRateLimiter>,
    requests: Counter,
    connected: Gauge,
    revoked: watch::Sender<bool>,
}

impl Reader {
    pub(super) fn new(config: &ReaderConfig, metrics: &ReaderMetrics) -> Self {
        let ReaderOptions { max_connections, max_requests_per_minute, .. } = config.options;
        Self {
            config: config.clone(),
            filter: filter(&config.options),
            tickets: Arc::new(Semaphore::new(TICKETS_PER_READER_MAX)),
            connections: max_connections.map(|max| Arc::new(Semaphore::new(max.get()))),
            limiter: max_requests_per_minute
                .map(|max: NonZeroU32| RateLimiter::direct(Quota::per_minute(max))),
            requests: metrics.requests_of(&config.name),
            connected: metrics.connections_of(&config.name),
            revoked: watch::Sender::new(false),
        }
    }

    /// Compares in constant time.
    pub(super) fn has_token(&self, token: &[u8]) -> bool {
        self.config.token().is_some_and(|own| own.is(token))
    }

    /// Counts a request. The error is the time until the next one is possible.
    pub(super) fn count_request(&self) -> Result<(), Duration> {
        if let Some(limiter) = &self.limiter
            && let Err(not_until) = limiter.check()
        {
            return Err(not_until.wait_time_from(DefaultClock::default().now()));
        }
        self.requests.inc();
        Ok(())
    }

    pub(super) fn connect(&self) -> Result<Session, Refused> {
        let permit = match &self.connections {
            Some(connections) => {
                let permit = Arc::clone(connections).try_acquire_owned();
                Some(permit.map_err(|_| Refused::from(ReadRefusal::TooManyConnections))?)
            }
            None => None,
        };
        self.connected.inc();
        let counted = Counted { gauge: self.connected.clone(), _permit: permit };
        Ok(Session { ended: self.revoked.subscribe(), _counted: Some(counted) })
    }

    /// Ends all sessions of the reader.
    pub(super) fn revoke(&self) {
        self.revoked.send_replace(true);
    }

    pub(super) fn is_revoked(&self) -> bool {
        *self.revoked.borrow()
    }
}

/// `None` if the reader may see all events.
fn filter(options: &ReaderOptions) -> Option<Filter> {
    let ReaderOptions { kinds, authors, .. } = options;
    let mut filter = Filter::new();
    if !kinds.is_empty() {
        filter = filter.kinds(kinds.iter().copied());
    }
    if !authors.is_empty() {
        filter = filter.authors(authors.iter().copied());
    }
    (filter != Filter::new()).then_some(filter)
}

/// A connection that may read. It counts towards its reader's limit until this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    /// Becomes true when the session must end.
    ended: watch::Receiver<bool>,
    _counted: Option<Counted>,
}

impl Session {
    pub(super) const fn until(ended: watch::Receiver<bool>) -> Self {
        Self { ended, _counted: None }
    }

    /// Waits until the caller loses its right to read. Cancel-safe.
    pub(crate) async fn revoked(&mut self) {
        // The sender is dropped when the gateway ends.
        if self.ended.wait_for(|ended| *ended).await.is_err() {
            std::future::pending().await
        }
    }
}

#[derive(Debug)]
struct Counted {
    gauge: Gauge,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
