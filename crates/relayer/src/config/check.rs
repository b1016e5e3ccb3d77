//! Finds values that contradict each other, and values that are probably mistakes.

use std::net::{IpAddr, Ipv4Addr};

use super::choices::Framing;
use super::rules::SINKS_MAX;
use super::settings::{Api, Config, Output, Storage};
use super::sinks::TcpSink;
use crate::event_log::StoreOptions;

/// Keys that contradict each other, and why.
pub(super) fn contradictions(config: &Config) -> Vec<(Vec<&'static str>, String)> {
    let Config { output, monitoring, nostr, relay, api, .. } = config;
    let mut found = Vec::new();
    if monitoring.prometheus_port.is_some_and(|port| port.get() == output.websocket_port) {
        let what = format!(
            "found {} for both; allowed: two different ports, or 0 for monitoring.prometheus_port",
            output.websocket_port
        );
        found.push((vec!["output.websocket_port", "monitoring.prometheus_port"], what));
    }
    let (key, key_file) = (nostr.secret_key.is_some(), nostr.secret_key_file.is_some());
    if key && key_file {
        let what = "both are set; allowed: one of the two".to_owned();
        found.push((vec!["nostr.secret_key", "nostr.secret_key_file"], what));
    }
    if relay.authenticate && !key && !key_file {
        let what = "found true, but there is no key to prove; allowed: true with nostr.secret_key or \
                    nostr.secret_key_file, or false";
        found.push((vec!["relay.authenticate"], what.to_owned()));
    }
    found.extend(api.contradictions(output));
    let beats = |sink: &&TcpSink| sink.options.heartbeat.is_some() && sink.options.framing != Framing::Ndjson;
    if let Some(sink) = output.tcp.iter().find(beats) {
        let what = format!(
            "found heartbeat_secs for \"{}\", whose framing is \"{}\"; allowed: framing = \"{}\", or no heartbeat_secs",
            sink.name,
            sink.options.framing,
            Framing::Ndjson,
        );
        found.push((vec!["output.tcp"], what));
    }
    let sinks = vec!["output.tcp", "output.rest"];
    if let Some(name) = output.name_twice() {
        let what = format!("found the name \"{name}\" in both; allowed: a name of its own for each sink");
        found.push((sinks.clone(), what));
    }
    if output.sinks() > SINKS_MAX {
        let what = format!("found {} sinks in all; allowed: at most {SINKS_MAX}", output.sinks());
        found.push((sinks, what));
    }
    found
}

impl Api {
    fn contradictions(&self, output: &Output) -> Vec<(Vec<&'static str>, String)> {
        let mut found = Vec::new();
        if let Some(admin) = &self.admin_token
            && let Some(reader) = self.readers.iter().find(|reader| reader.token() == Some(admin))
        {
            let what = format!(
                "found the same token for \"{}\" and the operator; allowed: a token of its own for each reader",
                reader.name
            );
            found.push((vec!["api.admin_token", "api.readers"], what));
        }
        if !self.proxy_protocol {
            return found;
        }
        let keys = vec!["api.trusted_proxies", "api.proxy_protocol"];
        // Commands such as `health` connect from the address that they connect to.
        let local = if output.bind_address.is_unspecified() { None } else { Some(output.bind_address) };
        let local = local.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if self.trusted_proxies.is_empty() {
            let what = "found true without proxies to expect it from; allowed: true with api.trusted_proxies, or false";
            found.push((keys, what.to_owned()));
        } else if self.trusted_proxies.iter().any(|network| network.contains(local)) {
            let what = format!(
                "found a range that contains {local}, from which the commands of this machine connect without the \
                 header; allowed: other addresses (let a proxy on this machine connect from 127.0.0.2, as `source \
                 127.0.0.2` of HAProxy does, and trust that), or proxy_protocol = false"
            );
            found.push((keys, what));
        }
        found
    }
}

impl Storage {
    pub(crate) const fn store_options(&self) -> StoreOptions {
        StoreOptions {
            fsync: self.fsync,
            block_cache_bytes: self.block_cache_bytes,
            write_buffer_bytes: self.write_buffer_bytes,
            background_jobs: self.background_jobs,
            compression: self.compression,
        }
    }
}

impl Config {
    /// Warnings about values that are allowed but probably not intended, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (relays, room) = (self.relay.bootstrap_relays.len(), self.relay.max_connections.get());
        if relays == 0 {
            warnings.push("relay.bootstrap_relays is empty: no events will arrive".to_owned());
        }
        if relays > room {
            warnings.push(format!(
                "relay.bootstrap_relays names {relays} relays, relay.max_connections allows {room}: \
                 the others are not connected"
            ));
        }
        let (min_free_bytes, effective) = (self.storage.min_free_bytes, self.free_bytes_min());
        if min_free_bytes != effective {
            warnings.push(format!(
                "storage.min_free_bytes is {min_free_bytes}, but the database may need {effective} bytes to flush \
                 its memory: that many are kept free"
            ));
        }
        warnings.extend(self.fanout_warnings());
        warnings
    }

    /// The minimum of free disk space for writes, in bytes: as configured, but at least what
    /// RocksDB may need for its write buffers; 0 if the check is off.
    pub fn free_bytes_min(&self) -> u64 {
        match self.storage.min_free_bytes {
            0 => 0,
            configured => configured.max(self.storage.store_options().free_bytes_needed()),
        }
    }

    fn fanout_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.fanout.enabled {
            if self.postgres.dsn.is_some() {
                warnings.push("postgres.dsn is set, but fanout.enabled is false: it is not used".to_owned());
            }
            return warnings;
        }
        let allowed = &self.filters.allowed_kinds;
        if !allowed.is_empty() && self.fanout.kinds.is_disjoint(allowed) {
            warnings.push(
                "filters.allowed_kinds has none of fanout.kinds: there will be no signals for followers"
                    .to_owned(),
            );
        }
        let is_loopback = self.output.bind_address.to_canonical().is_loopback();
        if !is_loopback && self.api.public_url.is_none() {
            warnings.push(
                "output.bind_address is not a loopback address and api.public_url is not set: followers and bots \
                 cannot prove their keys, so /fanout refuses everybody"
                    .to_owned(),
            );
        }
        warnings
    }
}
