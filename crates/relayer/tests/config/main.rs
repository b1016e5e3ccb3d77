//! The configuration: reading, errors, printing, reloading.

// Clippy exempts only #[test] functions; the helper functions here are test code, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod any_input;
mod deploy;
mod environment;
mod printed;
mod readers;
mod refused;
mod reload;
mod secret;
mod sinks;

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use moltrade_relayer::config::{
    Config, ConfigErrors, Filters, Loaded, LogFormat, LogLevel, Output, Relay, Storage,
};
use moltrade_relayer::event_log::EventCompression;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::parse(Some((Path::new("config.toml"), text)), environment)
}

fn accepted(text: &str, environment: &[(&str, &str)]) -> Config {
    parse(text, environment).unwrap_or_else(|errors| panic!("refused:\n{errors}")).config
}

/// Asserts that the file is refused with exactly these lines.
#[track_caller]
fn refused(text: &str, lines: &[&str]) {
    let errors = parse(text, &[]).expect_err("accepted").to_string();
    assert_eq!(errors, lines.join("\n"), "for the file:\n{text}");
}

/// Asserts that the variable is refused with exactly this line.
#[track_caller]
fn refused_variable(name: &str, value: &str, line: &str) {
    let errors = parse("", &[(name, value)]).expect_err("accepted").to_string();
    assert_eq!(errors, line, "for {name}={value}");
}

#[test]
fn without_settings_everything_is_the_default() {
    let loaded = Config::parse(None, []).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.sources(), "defaults (config.toml does not exist)");
    assert_eq!(loaded.config.relay.bootstrap_relays.len(), 2);
    assert_eq!(loaded.config.output.batch_size.get(), 100);
    assert_eq!(
        loaded.config.relay.user_agent.as_str(),
        format!(
            "moltrade-relayer/{} (+https://github.com/ai-chen2050/moltrade-relayer)",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert!(loaded.config.nostr.key().is_none());
}

#[test]
fn values_become_types() {
    let config = accepted(
        "
        [relay]
        bootstrap_relays = ['wss://A.example:443/', 'wss://a.example', \"ws://b.example:7777/r/0\"]
        backfill_hours = 0
        overlap_secs = -0
        user_agent = 'me/{version}'
        extra_ca_file = 'private ca.pem'
        max_events_per_second = 0
        max_offences_per_hour = 5
        silent_after_secs = 60
        [filters]
        allowed_kinds = [30931, 1, 1]
        max_age_hours = 24
        [storage]
        fsync = false
        compression = 'zstd'
        background_jobs = 4
        [output]
        max_latency_ms = 5
        batch_size = 0x10
        [monitoring]
        log_level = 'debug'
        log_format = 'json'
        prometheus_port = 0
        [postgres]
        dsn = 'postgres://me:hunter2@localhost/db'
        ",
        &[],
    );
    let relays: Vec<_> = config.relay.bootstrap_relays.iter().map(|relay| relay.as_str()).collect();
    assert_eq!(relays, ["wss://a.example", "ws://b.example:7777/r/0"]);
    assert_eq!(
        config.relay,
        Relay {
            bootstrap_relays: config.relay.bootstrap_relays.clone(),
            backfill: None,
            overlap: Duration::ZERO,
            user_agent: config.relay.user_agent.clone(),
            extra_ca_file: Some("private ca.pem".into()),
            max_events_per_second: None,
            max_offences_per_hour: NonZeroU32::new(5),
            silent_after: Duration::from_secs(60),
            ..Relay::default()
        }
    );
    assert_eq!(config.relay.user_agent.as_str(), concat!("me/", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        config.filters,
        Filters {
            allowed_kinds: [1, 30931].into(),
            max_age: Some(Duration::from_secs(24 * 3600)),
            ..Filters::default()
        }
    );
    assert_eq!(
        config.storage,
        Storage {
            fsync: false,
            compression: EventCompression::Zstd,
            background_jobs: 4,
            ..Storage::default()
        }
    );
    assert_eq!(
        config.output,
        Output {
            max_latency: Duration::from_millis(5),
            batch_size: NonZeroUsize::new(16).unwrap(),
            ..Output::default()
        }
    );
    assert_eq!(config.monitoring.log_level, LogLevel::Debug);
    assert_eq!(config.monitoring.log_format, LogFormat::Json);
    assert_eq!(config.monitoring.prometheus_port, None);
    assert_eq!(config.postgres.dsn.unwrap().reveal(), "postgres://me:hunter2@localhost/db");
}

#[test]
fn sections_may_use_every_toml_syntax() {
    for text in [
        "[output]\nbatch_size = 7",
        "output.batch_size = 7",
        "output = { batch_size = 7 }",
        "\u{feff}[output]\r\nbatch_size = 7\r\n",
    ] {
        assert_eq!(accepted(text, &[]).output.batch_size.get(), 7, "{text}");
    }
}

#[test]
fn a_test_can_name_what_it_changes() {
    let config = Config {
        storage: Storage { fsync: false, ..Storage::default() },
        output: Output { websocket_port: 0, ..Output::default() },
        ..Config::default()
    };
    assert_eq!(config.monitoring.prometheus_port, NonZeroU16::new(9090));
}
