//! The clients that are connected: how many there are, and their end when the gateway stops.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::limits::CLIENT_CLOSE_MAX;

/// The connected clients. Clones are the same.
#[derive(Debug, Clone)]
pub struct Clients {
    connected: watch::Sender<usize>,
    gauge: Gauge,
    /// When clients must be gone, once the gateway stops.
    deadline: watch::Sender<Option<Instant>>,
}

/// A client that is connected, until this is dropped.
#[derive(Debug)]
pub struct Client {
    clients: Clients,
    deadline: watch::Receiver<Option<Instant>>,
}

impl Clients {
    /// None yet. The gauge follows their number.
    pub fn new(gauge: Gauge) -> Self {
        Self { connected: watch::Sender::new(0), gauge, deadline: watch::Sender::new(None) }
    }

    /// Counts a client in; `None` when the gateway is stopping.
    pub fn enter(&self) -> Option<Client> {
        let deadline = self.deadline.subscribe();
        if deadline.borrow().is_some() {
            return None;
        }
        self.connected.send_modify(|connected| *connected += 1);
        self.gauge.inc();
        Some(Client { clients: self.clone(), deadline })
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        *self.connected.borrow()
    }

    /// Whether new clients are turned away.
    pub fn is_draining(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Turns new clients away and waits until the others are gone. Close the log before: a client goes
    /// when it has everything, or when the time is over. Returns how many did not even go then.
    pub async fn drain(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        self.deadline.send_replace(Some(deadline));
        let mut connected = self.connected.subscribe();
        // Twice, for the close that is sent and for the answer to it.
        let all_gone = connected.wait_for(|connected| *connected == 0);
        drop(timeout_at(deadline + 2 * CLIENT_CLOSE_MAX, all_gone).await);
        self.connected()
    }
}

impl Client {
    /// Comes back when the client must be gone.
    pub async fn deadline(&mut self) {
        let deadline = self.deadline.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await, // Cannot be: `clients` holds the sender.
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.gauge.dec();
        self.clients.connected.send_modify(|connected| *connected -= 1);
    }
}
