//! Resolves host names with the system's resolver, a bounded number at a time.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::limits::{DIAL_STEP_TIMEOUT, LOOKUPS_AT_ONCE_MAX};

type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves host names. Tests use their own resolver.
#[derive(Clone)]
pub struct Resolver(Arc<Ask>);

impl Resolver {
    /// The system's resolver: `/etc/hosts`, DNS and other configured sources, in the system's order
    /// (RFC 6724).
    pub fn system() -> Self {
        Self::from_fn(|host| {
            // Returns each address once, not once for each socket type.
            let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
            let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
                LookupErrorKind::NoName | LookupErrorKind::NoData => io::ErrorKind::NotFound.into(),
                _ => io::Error::from(error),
            })?;
            found.map(|info| Ok(info?.sockaddr.ip())).collect()
        })
    }

    /// A resolver that calls a function, which may block: each call has its own thread. An error of
    /// kind `NotFound`, or an empty list, means that the name does not exist.
    pub fn from_fn(addresses: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(addresses))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Why a name has no addresses.
#[derive(Debug)]
pub enum LookupError {
    /// The name does not exist or has no address.
    NoSuchName,
    Timeout,
    Failed(io::Error),
}

/// Limits concurrent look-ups.
#[derive(Debug)]
pub struct Lookups {
    resolver: Resolver,
    permits: Arc<Semaphore>,
}

impl Lookups {
    /// Allows [`LOOKUPS_AT_ONCE_MAX`] look-ups at a time.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, permits: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX)) }
    }

    /// Returns at least one address of a name. First waits for a permit, without a time limit.
    ///
    /// # Errors
    /// When the name has no address, or the look-up takes longer than [`DIAL_STEP_TIMEOUT`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let (resolver, host) = (self.resolver.clone(), host.to_owned());
        let (sender, receiver) = oneshot::channel();
        // A dedicated thread, not Tokio's blocking pool: look-ups that hang must not delay disk
        // reads. A look-up cannot be cancelled, so it holds its permit until it returns.
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            let addresses = (resolver.0)(&host);
            drop(permit);
            // The caller may have stopped waiting.
            let _ = sender.send(addresses);
        });
        thread.map_err(LookupError::Failed)?;
        match timeout(DIAL_STEP_TIMEOUT, receiver).await {
            Err(_) => Err(LookupError::Timeout),
            Ok(Err(_)) => Err(LookupError::Failed(io::Error::other("the resolver failed"))),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => Err(LookupError::NoSuchName),
            Ok(Ok(Err(error))) => Err(LookupError::Failed(error)),
            Ok(Ok(Ok(addresses))) if addresses.is_empty() => Err(LookupError::NoSuchName),
            Ok(Ok(Ok(addresses))) => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_this_machine_and_no_invalid_name() {
        let lookups = Lookups::new(Resolver::system());
        let addresses = lookups.addresses("localhost").await.expect("it has addresses");
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
        // Names under `.invalid` never exist (RFC 6761). Without a name server, the look-up fails.
        let outcome = lookups.addresses("relay.invalid").await;
        assert!(outcome.is_err(), "{outcome:?}");
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let resolver = Resolver::from_fn(|host| match host {
            "gone" => Err(io::ErrorKind::NotFound.into()),
            "empty" => Ok(Vec::new()),
            "later" => Err(io::Error::other("try again")),
            host => panic!("{host}"),
        });
        let lookups = Lookups::new(resolver);
        for (host, expected) in [
            ("gone", "NoSuchName"),
            ("empty", "NoSuchName"),
            ("later", "Failed(Custom { kind: Other, error: \"try again\" })"),
            ("panic", "Failed(Custom { kind: Other, error: \"the resolver failed\" })"),
        ] {
            let error = lookups.addresses(host).await.expect_err(host);
            assert_eq!(format!("{error:?}"), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn a_bounded_number_of_questions_is_asked_at_once() {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let gate = Arc::new(std::sync::Barrier::new(LOOKUPS_AT_ONCE_MAX + 1));
        let resolver = {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            Resolver::from_fn(move |_| {
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                gate.wait();
                Ok(vec![[127, 0, 0, 1].into()])
            })
        };
        let lookups = Arc::new(Lookups::new(resolver));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..2 * LOOKUPS_AT_ONCE_MAX {
            let lookups = Arc::clone(&lookups);
            asking.spawn(async move { lookups.addresses("a.example").await.expect("answered") });
        }
        for round in 1..=2 {
            while asked.load(std::sync::atomic::Ordering::SeqCst) < round * LOOKUPS_AT_ONCE_MAX {
                tokio::task::yield_now().await;
            }
            assert_eq!(lookups.permits.available_permits(), 0, "all permits are taken");
            assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), round * LOOKUPS_AT_ONCE_MAX);
            let gate = Arc::clone(&gate);
            tokio::task::spawn_blocking(move || gate.wait()).await.expect("opened");
        }
        assert_eq!(asking.join_all().await.len(), 2 * LOOKUPS_AT_ONCE_MAX);
    }
}
