//! Counts and limits connected clients, and disconnects them when the gateway stops.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Config, Output};
use crate::limits::{CLIENT_CLOSE_MAX, METRICS_CONNECTIONS_MAX};

/// Limits on the number of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// The maximum number of clients in total.
    pub(crate) in_all: NonZeroUsize,
    /// The maximum number of clients from one address; `None` for no such limit.
    pub(crate) from_address: Option<NonZeroUsize>,
}

impl ClientLimits {
    /// The limits for `/ws`.
    pub const fn of(output: &Output) -> Self {
        Self { in_all: output.max_clients, from_address: output.max_clients_per_address }
    }

    /// The limits for `/fanout`.
    pub const fn of_followers(config: &Config) -> Self {
        Self { in_all: config.fanout.max_clients, from_address: config.output.max_clients_per_address }
    }

    /// The limits for the port that serves only metrics.
    pub(crate) fn of_metrics_port(config: &Config) -> Self {
        Self { in_all: METRICS_CONNECTIONS_MAX, from_address: config.connections_per_address() }
    }

    /// The limits for other connections to the API.
    pub(crate) fn of_connections(config: &Config) -> Self {
        Self { in_all: config.api.max_connections, from_address: config.connections_per_address() }
    }
}

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The gateway is stopping.
    Stopping,
    /// The limit on all clients is reached.
    TooMany(NonZeroUsize),
    /// The limit on clients from one address is reached.
    TooManyFromAddress(NonZeroUsize),
}

/// The connected clients. Clones share the state.
#[derive(Debug, Clone)]
pub struct Clients {
    counted: Arc<Mutex<Counted>>,
    connected: watch::Sender<usize>,
    gauge: Gauge,
    /// Set when the gateway stops: the time by which all clients must have disconnected.
    deadline: watch::Sender<Option<Instant>>,
}

#[derive(Debug)]
struct Counted {
    limits: ClientLimits,
    /// Clients per address. Addresses without clients have no entry.
    addresses: HashMap<IpAddr, usize>,
}

/// A connected client, which counts until this value is dropped.
#[derive(Debug)]
pub struct Client {
    clients: Clients,
    origin: IpAddr,
    deadline: watch::Receiver<Option<Instant>>,
}

impl Clients {
    /// Starts without clients. The gauge tracks the number of clients.
    pub fn new(limits: ClientLimits, gauge: Gauge) -> Self {
        Self {
            counted: Arc::new(Mutex::new(Counted { limits, addresses: HashMap::new() })),
            connected: watch::Sender::new(0),
            gauge,
            deadline: watch::Sender::new(None),
        }
    }

    /// Sets the limits for new clients. Connected clients stay, even above the limits.
    pub(crate) fn set_limits(&self, limits: ClientLimits) {
        self.counted.lock().limits = limits;
    }

    /// Registers a client.
    ///
    /// # Errors
    /// When the gateway is stopping or a limit is reached.
    pub fn enter(&self, address: IpAddr) -> Result<Client, Refused> {
        self.enter_as(address, false)
    }

    /// Registers a connection that a proxy may use for several clients, so that no limit per
    /// address applies to it.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(crate) fn enter_shared(&self, address: IpAddr) -> Result<Client, Refused> {
        self.enter_as(address, true)
    }

    fn enter_as(&self, address: IpAddr, is_shared: bool) -> Result<Client, Refused> {
        let deadline = self.deadline.subscribe();
        if deadline.borrow().is_some() {
            return Err(Refused::Stopping);
        }
        let origin = origin(address);
        // Counts under the lock, so that two clients cannot both take the last place.
        let mut counted = self.counted.lock();
        let Counted { limits, addresses } = &mut *counted;
        if self.connected() >= limits.in_all.get() {
            return Err(Refused::TooMany(limits.in_all));
        }
        let from_here = addresses.get(&origin).copied().unwrap_or_default();
        let max = limits.from_address.filter(|_| !is_shared);
        if let Some(max) = max.filter(|max| from_here >= max.get()) {
            return Err(Refused::TooManyFromAddress(max));
        }
        addresses.insert(origin, from_here + 1);
        self.connected.send_modify(|connected| *connected += 1);
        drop(counted);
        self.gauge.inc();
        Ok(Client { clients: self.clone(), origin, deadline })
    }

    /// The number of connected clients.
    pub fn connected(&self) -> usize {
        *self.connected.borrow()
    }

    /// Whether new clients are refused because the gateway is stopping.
    pub(crate) fn is_draining(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Refuses new clients and waits until all clients have disconnected. Close the log first: a
    /// client's connection ends when the client has everything, or at the deadline. Returns the
    /// number of clients that are still connected.
    pub async fn drain(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        self.deadline.send_replace(Some(deadline));
        let mut connected = self.connected.subscribe();
        // Waits twice as long: once to send the close, and once for the client's answer.
        let all_gone = connected.wait_for(|connected| *connected == 0);
        drop(timeout_at(deadline + 2 * CLIENT_CLOSE_MAX, all_gone).await);
        self.connected()
    }
}

impl Client {
    /// The client's address; for IPv6, its /64 prefix.
    pub fn origin(&self) -> IpAddr {
        self.origin
    }

    /// Waits until the gateway begins to stop.
    pub async fn stopping(&mut self) {
        if self.deadline.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await // Unreachable: `clients` holds the sender.
        }
    }

    /// Waits for the time by which the client must have disconnected.
    pub async fn deadline(&mut self) {
        let deadline = self.deadline.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await, // Unreachable: `clients` holds the sender.
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut counted = self.clients.counted.lock();
        match counted.addresses.get_mut(&self.origin) {
            Some(from_here) if *from_here > 1 => *from_here -= 1,
            _ => drop(counted.addresses.remove(&self.origin)),
        }
        self.clients.connected.send_modify(|connected| *connected -= 1);
        drop(counted);
        self.clients.gauge.dec();
    }
}

/// Reduces an address to what the limits count as one address: an IPv4 address, even if mapped into
/// IPv6, or an IPv6 /64 prefix, because one user has the whole prefix (RFC 4291, section 2.5.4).
pub(crate) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(in_all: usize, from_address: usize) -> Clients {
        let limits = ClientLimits {
            in_all: NonZeroUsize::new(in_all).unwrap(),
            from_address: NonZeroUsize::new(from_address),
        };
        Clients::new(limits, Gauge::default())
    }

    fn from(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_when_its_client_leaves() {
        let clients = clients(3, 2);
        let too_many_from_there = Refused::TooManyFromAddress(NonZeroUsize::new(2).unwrap());
        let first = clients.enter(from("192.0.2.1")).unwrap();
        let second = clients.enter(from("::ffff:192.0.2.1")).unwrap();
        assert_eq!(clients.enter(from("192.0.2.1")).unwrap_err(), too_many_from_there);
        let other = clients.enter(from("192.0.2.2")).unwrap();
        let too_many = Refused::TooMany(NonZeroUsize::new(3).unwrap());
        assert_eq!(clients.enter(from("192.0.2.3")).unwrap_err(), too_many);
        drop(first);
        drop(clients.enter(from("192.0.2.1")).unwrap());
        drop((second, other));
        assert_eq!((clients.connected(), clients.gauge.get()), (0, 0));
        assert!(clients.counted.lock().addresses.is_empty(), "addresses without clients are removed");
    }

    #[test]
    fn other_limits_apply_to_new_clients() {
        let clients = clients(2, 0);
        let both = [(); 2].map(|()| clients.enter(from("192.0.2.1")).unwrap());
        let limits = |max| ClientLimits { in_all: NonZeroUsize::new(max).unwrap(), from_address: None };
        clients.set_limits(limits(1));
        assert_eq!(clients.connected(), 2, "nobody is disconnected");
        assert!(clients.enter(from("192.0.2.1")).is_err());
        clients.set_limits(limits(3));
        drop(clients.enter(from("192.0.2.1")).unwrap());
        drop(both);
    }

    #[test]
    fn the_addresses_of_an_ipv6_prefix_count_as_one() {
        let clients = clients(100, 1);
        let _first = clients.enter(from("2001:db8::1")).unwrap();
        assert!(clients.enter(from("2001:db8::ffff:1")).is_err());
        let _other = clients.enter(from("2001:db8:0:1::1")).unwrap();
    }

    #[test]
    fn a_connection_of_a_proxy_counts_in_all_only() {
        let clients = clients(3, 1);
        let _proxied = [(); 2].map(|()| clients.enter_shared(from("192.0.2.1")).unwrap());
        let _other = clients.enter(from("192.0.2.2")).unwrap();
        let too_many = Refused::TooMany(NonZeroUsize::new(3).unwrap());
        assert_eq!(clients.enter_shared(from("192.0.2.1")).unwrap_err(), too_many);
    }

    #[test]
    fn without_a_limit_per_address_all_clients_may_share_one() {
        let clients = clients(5, 0);
        let all: Vec<_> = (0..5).map(|_| clients.enter(from("192.0.2.1")).unwrap()).collect();
        assert_eq!(clients.connected(), all.len());
        assert!(clients.enter(from("192.0.2.2")).is_err());
    }
}
