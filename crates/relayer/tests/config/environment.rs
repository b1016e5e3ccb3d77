//! Environment variables.

use std::path::Path;

use moltrade_relayer::config::LogLevel;

use super::{accepted, parse, refused_variable};

#[test]
fn the_environment_overrides_the_file() {
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
        accepted("", &[("RELAYER_RELAY__BOOTSTRAP_RELAYS", "['wss://a.example/,x', \"wss://b.example\"]")]);
    assert_eq!(array.relay.bootstrap_relays.len(), 2);
    let none = parse("", &[("RELAY_URLS", "")]).unwrap();
    assert_eq!(none.warnings, ["relay.bootstrap_relays is empty: no events will arrive"]);
}

#[test]
fn bad_variables_are_reported() {
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
        "RELAYER_ZZZ",
        "5",
        "RELAYER_ZZZ: unknown variable; allowed: RELAYER_<SECTION>__<KEY>, as in RELAYER_OUTPUT__BATCH_SIZE",
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
fn variables_of_kubernetes_are_ignored() {
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

#[test]
fn commas_semicolons_or_white_space_separate_the_items_of_a_list() {
    for between in [",", ";", " ", "\n", "\t", "\r\n", " ; ", ",\n", ",,"] {
        let urls = format!("{between}wss://a.example{between}wss://b.example{between}");
        let config = accepted("", &[("RELAY_URLS", &urls)]);
        let relays: Vec<_> = config.relay.bootstrap_relays.iter().map(|relay| relay.as_str()).collect();
        assert_eq!(relays, ["wss://a.example", "wss://b.example"], "{between:?}");
        let kinds = accepted("", &[("RELAYER_FILTERS__ALLOWED_KINDS", &format!("1{between}7"))]);
        assert_eq!(kinds.filters.allowed_kinds, [1, 7].into(), "{between:?}");
    }
}

#[test]
fn a_variable_that_was_probably_meant_to_be_ours_causes_a_warning() {
    for (name, hint) in [
        ("RELAY_URL", "did you mean RELAY_URLS?"),
        ("RELAYS", "did you mean RELAY_URLS?"),
        ("relay_urls", "did you mean RELAY_URLS?"),
        ("RELAY_MODE", "the gateway reads RELAY_URLS and RELAYER_<SECTION>__<KEY>"),
        ("RELAY__BOOTSTRAP_RELAYS", "did you mean RELAYER_RELAY__BOOTSTRAP_RELAYS?"),
        ("relayer_output__batch_size", "did you mean RELAYER_OUTPUT__BATCH_SIZE?"),
        ("OUTPUT__BATCH_SIZE", "did you mean RELAYER_OUTPUT__BATCH_SIZE?"),
        ("PORT", "did you mean RELAYER_OUTPUT__WEBSOCKET_PORT?"),
        ("WEBSOCKET_PORT", "did you mean RELAYER_OUTPUT__WEBSOCKET_PORT?"),
        ("PROMETHEUS_PORT", "did you mean RELAYER_MONITORING__PROMETHEUS_PORT?"),
    ] {
        let loaded = parse("", &[(name, "9000")]).unwrap();
        assert_eq!(loaded.warnings, [format!("the environment variable {name} is not used; {hint}")]);
    }
    for (name, value) in [
        ("RELAY_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_PORT", "tcp://10.0.0.1:80"),
        ("RELAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("SSH_PORT", "22"),
        ("REPORT", "9"),
    ] {
        assert_eq!(parse("", &[(name, value)]).unwrap().warnings, Vec::<String>::new(), "{name}");
    }
    // An unknown variable with our prefix is an error.
    refused_variable(
        "RELAYER_APi__PUBLIC_URL",
        "http://a.example",
        "RELAYER_APi__PUBLIC_URL: unknown variable; did you mean RELAYER_API__PUBLIC_URL?",
    );
}
