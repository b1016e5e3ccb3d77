//! Variables over the file.

use std::path::Path;

use moltrade_relayer::config::LogLevel;

use super::{accepted, parse, refused_variable};

#[test]
fn the_environment_goes_before_the_file() {
    let config = accepted(
        "output.batch_size = 5\nstorage.fsync = true",
        &[
            ("RELAYER_OUTPUT__BATCH_SIZE", " 6 "),
            ("RELAYER_STORAGE__FSYNC", "false"),
            ("RELAYER_DEDUPLICATION__ROCKSDB_PATH", "/a b/c"),
            ("RELAYER_FILTERS__ALLOWED_KINDS", "1, 7,"),
            ("RELAYER_MONITORING__LOG_LEVEL", "warn"),
            ("RELAY_URLS", "wss://a.example, ws://b.example"),
            ("PATH", "/bin"),
            ("RUST_LOG", "nonsense"),
        ],
    );
    assert_eq!(config.output.batch_size.get(), 6);
    assert!(!config.storage.fsync);
    assert_eq!(config.deduplication.rocksdb_path, Path::new("/a b/c"));
    assert_eq!(config.filters.allowed_kinds, [1, 7].into());
    assert_eq!(config.monitoring.log_level, LogLevel::Warn);
    assert_eq!(config.relay.bootstrap_relays.len(), 2);

    let array =
        accepted("", &[("RELAYER_RELAY__BOOTSTRAP_RELAYS", "['wss://a.example,x', \"wss://b.example\"]")]);
    assert_eq!(array.relay.bootstrap_relays.len(), 2);
    let none = parse("", &[("RELAY_URLS", "")]).unwrap();
    assert_eq!(none.warnings, ["relay.bootstrap_relays is empty: no events will arrive"]);
}

#[test]
fn bad_variables_are_named() {
    refused_variable(
        "RELAYER_OUTPUT__BATCH_SIZE",
        "0",
        "RELAYER_OUTPUT__BATCH_SIZE: output.batch_size: found 0; allowed: a whole number from 1 to 100000",
    );
    refused_variable(
        "RELAYER_OUTPUT__BATCH_SIZE",
        "many",
        "RELAYER_OUTPUT__BATCH_SIZE: output.batch_size: found \"many\"; allowed: a whole number from 1 to 100000",
    );
    refused_variable(
        "RELAYER_OUTPUT_BATCH_SIZE",
        "5",
        "RELAYER_OUTPUT_BATCH_SIZE: unknown variable; did you mean RELAYER_OUTPUT__BATCH_SIZE?",
    );
    refused_variable(
        "RELAYER_XYZ",
        "5",
        "RELAYER_XYZ: unknown variable; allowed: RELAYER_<SECTION>__<KEY>, as in RELAYER_OUTPUT__BATCH_SIZE",
    );
    refused_variable(
        "RELAY_URLS",
        "wss://a.example,b.example",
        "RELAY_URLS: relay.bootstrap_relays: found \"b.example\" (it has no scheme); \
         allowed: a relay URL (ws:// or wss://, and a host)",
    );
    let both = [("RELAY_URLS", "wss://a.example"), ("RELAYER_RELAY__BOOTSTRAP_RELAYS", "wss://a.example")];
    assert_eq!(
        parse("", &both).unwrap_err().to_string(),
        "RELAY_URLS: relay.bootstrap_relays: RELAYER_RELAY__BOOTSTRAP_RELAYS sets it too; allowed: one of the two"
    );
}

#[test]
fn what_kubernetes_sets_is_no_mistake() {
    accepted(
        "",
        &[
            ("RELAYER_SERVICE_HOST", "10.0.0.1"),
            ("RELAYER_SERVICE_PORT_HTTP", "80"),
            ("RELAYER_PORT", "tcp://10.0.0.1:80"),
            ("RELAYER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ],
    );
    assert!(parse("", &[("RELAYER_PORT", "9000")]).is_err());
}
