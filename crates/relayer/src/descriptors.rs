//! Raises the limit on file descriptors, and divides the descriptors so that the database always
//! has enough.
//!
//! RocksDB fails permanently if it cannot open a file. Therefore relays and clients get only the
//! descriptors that the database, the sinks and the rest of the process do not need.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Loaded};
use crate::limits::{
    DATABASE_FILES_MAX, DIALS_AT_ONCE_MAX, LOOKUPS_AT_ONCE_MAX, METRICS_CONNECTIONS_MAX, OWN_FILES_MAX,
};

/// The minimum number of connections, relays and clients together.
const CONNECTIONS_LEAST: usize = 128;

/// The configuration keys that limit connections.
const KEYS: [&str; 4] =
    ["relay.max_connections", "output.max_clients", "fanout.max_clients", "api.max_connections"];

/// The system allows too few open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system lets this process open {limit} files (ulimit -n), but this configuration needs at least {least}; \
     raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of docker)"
)]
pub struct TooFew {
    limit: usize,
    least: usize,
}

/// Raises this process's limit to the maximum, and returns the new limit.
pub(crate) fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = &raised {
        tracing::warn!(
            name: "open_files_not_raised",
            %error, "cannot raise the limit of open files (ulimit -n) to its maximum"
        );
    }
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Lowers the limits on relays and clients to fit the descriptors, and logs this.
///
/// # Errors
/// As [`fit`].
pub(crate) fn fit_and_log(loaded: &Loaded, limit: usize) -> Result<Config, TooFew> {
    let (config, warning) = fit(&loaded.config, limit)?;
    if let Some(warning) = warning {
        // Warns only if the operator set a limit, or if not all listed relays fit; otherwise only
        // the defaults were too high.
        let are_named = loaded.config.relay.bootstrap_relays.len() > config.relay.max_connections.get();
        if are_named || KEYS.iter().any(|key| loaded.sets(key)) {
            tracing::warn!(name: "limits_lowered", "{warning}");
        } else {
            tracing::info!(name: "limits_lowered", "{warning}");
        }
    }
    Ok(config)
}

/// Lowers the limits on relays and clients to fit the descriptors. Returns a warning if the limits
/// had to be lowered.
///
/// # Errors
/// When fewer than [`CONNECTIONS_LEAST`] connections fit.
pub fn fit(config: &Config, limit: usize) -> Result<(Config, Option<String>), TooFew> {
    let reserved = reserved(config);
    let (relays, output, fanout, api) = (&config.relay, &config.output, &config.fanout, &config.api);
    let fanout_clients = if fanout.enabled { fanout.max_clients.get() } else { 0 };
    let clients = [output.max_clients.get(), fanout_clients, api.max_connections.get()];
    let needed = reserved + of_relays(relays.max_connections.get()) + clients.iter().sum::<usize>();
    if limit >= needed {
        return Ok((config.clone(), None));
    }
    let least = reserved + CONNECTIONS_LEAST;
    let left = limit
        .checked_sub(reserved)
        .filter(|left| *left >= CONNECTIONS_LEAST)
        .ok_or(TooFew { limit, least })?;
    // Configured relays have priority, but a quarter of the descriptors stays with the clients.
    let named = of_relays(relays.bootstrap_relays.len().min(relays.max_connections.get()));
    let all_relays = of_relays(relays.max_connections.get());
    let for_relays = named.clamp(left / 4, left * 3 / 4).min(all_relays);
    let for_clients = left - for_relays;
    let wanted: usize = clients.iter().sum();
    let share = |count: NonZeroUsize| {
        let fits = count.get().saturating_mul(for_clients) / wanted.max(1);
        NonZeroUsize::new(fits.min(count.get())).unwrap_or(NonZeroUsize::MIN)
    };
    let mut fitted = config.clone();
    fitted.relay.max_connections = NonZeroUsize::new(relays_in(for_relays)).unwrap_or(NonZeroUsize::MIN);
    fitted.output.max_clients = share(output.max_clients);
    fitted.fanout.max_clients = share(fanout.max_clients);
    fitted.api.max_connections = share(api.max_connections);
    let warning = format!(
        "the system lets this process open {limit} files (ulimit -n), and {needed} may be needed: relay.max_connections \
         is {} instead of {}, output.max_clients {} instead of {}, fanout.max_clients {} instead of {}, \
         api.max_connections {} instead of {}; raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of docker) \
         or lower these",
        fitted.relay.max_connections,
        relays.max_connections,
        fitted.output.max_clients,
        output.max_clients,
        fitted.fanout.max_clients,
        fanout.max_clients,
        fitted.api.max_connections,
        api.max_connections,
    );
    Ok((fitted, Some(warning)))
}

/// Returns the number of descriptors that relays and clients may not use.
fn reserved(config: &Config) -> usize {
    // A sink may hold its new connection while the old one is still closing.
    let tcp_sinks = 2 * config.output.tcp_sinks().len();
    let requests: usize =
        config.output.rest_sinks().iter().map(|sink| 2 * sink.options.concurrency.get()).sum();
    let postgres = if config.postgres.dsn.is_some() { config.postgres.max_connections.get() + 2 } else { 0 };
    let metrics = if config.monitoring.prometheus_port.is_some() { METRICS_CONNECTIONS_MAX.get() } else { 0 };
    let lookups = 2 * LOOKUPS_AT_ONCE_MAX;
    DATABASE_FILES_MAX + OWN_FILES_MAX + lookups + tcp_sinks + requests + postgres + metrics
}

/// Returns the descriptors needed for this number of relays. A relay that is being dialled may need
/// a second descriptor, for another address or for its NIP-11 document.
const fn of_relays(relays: usize) -> usize {
    relays + if relays < DIALS_AT_ONCE_MAX { relays } else { DIALS_AT_ONCE_MAX }
}

/// The inverse of [`of_relays`].
const fn relays_in(files: usize) -> usize {
    if files < 2 * DIALS_AT_ONCE_MAX { files / 2 } else { files - DIALS_AT_ONCE_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(config: &Config) -> usize {
        reserved(config)
            + of_relays(config.relay.max_connections.get())
            + config.output.max_clients.get()
            + config.fanout.max_clients.get()
            + config.api.max_connections.get()
    }

    #[test]
    fn limits_that_fit_are_unchanged() {
        let config = Config::default();
        for limit in [used(&config), 1 << 20, usize::MAX] {
            assert_eq!(fit(&config, limit).unwrap(), (config.clone(), None));
        }
    }

    #[test]
    fn the_database_keeps_its_files_at_every_limit() {
        for named in [2, 300, 5_000] {
            let mut config = Config::default();
            let url = |n| format!("wss://{n}.example").parse().unwrap();
            config.relay.bootstrap_relays = (0..named).map(url).collect();
            let least = reserved(&config) + CONNECTIONS_LEAST;
            for limit in (least..used(&config)).step_by(97) {
                let (fitted, warning) = fit(&config, limit).unwrap();
                assert!(used(&fitted) <= limit + 3, "{limit}: {}", used(&fitted));
                assert!(warning.unwrap().contains(&format!("open {limit} files")));
                let relays = fitted.relay.max_connections.get();
                assert!(relays >= named.min((limit - reserved(&config)) / 4), "{limit}: {relays} of {named}");
                assert!(fitted.api.max_connections.get() >= 1);
            }
            assert_eq!(fit(&config, least - 1).unwrap_err(), TooFew { limit: least - 1, least });
        }
    }

    #[test]
    fn the_limit_is_raised_to_its_maximum() {
        let limit = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(limit, maximum.map_or(usize::MAX, |limit| limit as usize));
    }
}
