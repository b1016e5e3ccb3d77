//! Refused settings, with the exact errors.

use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::StoreOptions;

use super::{accepted, parse, refused, refused_variable};

#[test]
fn unknown_names_are_refused_with_a_suggestion() {
    refused(
        "[output]\n  batchsize = 5\n",
        &["config.toml:2:3: output.batchsize: unknown key; did you mean batch_size?"],
    );
    refused("[ouput]\nbatch_size = 5", &["config.toml:1:2: ouput: unknown section; did you mean [output]?"]);
    refused(
        "batch_size = 5",
        &["config.toml:1:1: batch_size: unknown section; as a key it belongs in [output]"],
    );
    refused(
        "[output]\nlog_level = 'info'",
        &["config.toml:2:1: output.log_level: unknown key here; it belongs in [monitoring]"],
    );
    refused(
        "[storage]\nxyz = 1",
        &[
            "config.toml:2:1: storage.xyz: unknown key; allowed: fsync, retention_hours, max_bytes, min_free_bytes, tail_bytes, block_cache_bytes, write_buffer_bytes, background_jobs, compression",
        ],
    );
    refused(
        "[xyz]",
        &[
            "config.toml:1:2: xyz: unknown section; allowed: relay, deduplication, filters, storage, output, fanout, api, nostr, postgres, monitoring",
        ],
    );
    refused(
        "[[output.udp]]\naddress = 'a:1'",
        &[
            "config.toml:1:10: output.udp: unknown key; allowed: websocket_enabled, websocket_port, bind_address, batch_size, \
         max_latency_ms, downstream_tcp, downstream_rest, slow_client_lag, slow_client_secs, ping_interval_secs, \
         max_clients, max_clients_per_address, allowed_origins, tcp, rest, max_consumers, keep_unused_hours",
        ],
    );
    refused("output = 5", &["config.toml:1:10: output: found 5; allowed: a section [output]"]);
    refused("nostr = 'nsec1…'", &["config.toml:1:9: nostr: found a text; allowed: a section [nostr]"]);
}

#[test]
fn impossible_numbers_are_refused() {
    let batch_size = |value: &str, found: &str| {
        let line = format!(
            "config.toml:2:14: output.batch_size: found {found}; allowed: a whole number from 1 to 100000"
        );
        refused(&format!("[output]\nbatch_size = {value}"), &[&line]);
    };
    for same in ["0", "-1", "100001", "0xfffff"] {
        batch_size(same, same);
    }
    let huge = "9".repeat(40);
    batch_size(&huge, &huge);
    batch_size(&"9".repeat(400), &format!("{}…", "9".repeat(60)));
    batch_size("1.5", "a number with a fraction");
    batch_size("'many'", "\"many\"");
    batch_size("true", "true");
    batch_size("[5]", "a list");
    batch_size("{}", "a table");
    batch_size("2026-01-01", "a date");
    refused(
        "[filters]\nmax_event_bytes = 1023",
        &[
            "config.toml:2:19: filters.max_event_bytes: found 1023; allowed: a whole number of bytes from 1024 to 16777216",
        ],
    );
    refused(
        "[storage]\nmax_bytes = 5",
        &[
            "config.toml:2:13: storage.max_bytes: found 5; allowed: 0, or a whole number of bytes from 1048576 to 1152921504606846976",
        ],
    );
    refused(
        "[relay]\nmax_events_per_second = -1",
        &[
            "config.toml:2:25: relay.max_events_per_second: found -1; allowed: 0, or a whole number from 1 to 1000000",
        ],
    );
    for (key, place, range) in [("overlap_secs", 16, "0 to 86400"), ("silent_after_secs", 21, "1 to 86400")] {
        refused(
            &format!("[relay]\n{key} = 86401"),
            &[&format!(
                "config.toml:2:{place}: relay.{key}: found 86401; allowed: a whole number of seconds from {range}"
            )],
        );
    }
    refused(
        "[output]\nwebsocket_port = 70000",
        &["config.toml:2:18: output.websocket_port: found 70000; allowed: a whole number from 0 to 65535"],
    );
}

#[test]
fn wrong_types_and_texts_are_refused() {
    refused(
        "[storage]\nfsync = 'yes'",
        &["config.toml:2:9: storage.fsync: found \"yes\"; allowed: true or false"],
    );
    refused(
        "[monitoring]\nlog_level = 'loud'",
        &[
            "config.toml:2:13: monitoring.log_level: found \"loud\"; allowed: \"trace\", \"debug\", \"info\", \"warn\" or \"error\"",
        ],
    );
    refused(
        "[output]\nbind_address = 'localhost'",
        &[
            "config.toml:2:16: output.bind_address: found \"localhost\"; allowed: an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::1\"",
        ],
    );
    refused(
        "[deduplication]\nrocksdb_path = ''",
        &[
            "config.toml:2:16: deduplication.rocksdb_path: found \"\"; allowed: the path of a folder, which is created if it is missing",
        ],
    );
    refused(
        "[relay]\nuser_agent = 'caf\u{e9}'",
        &[
            "config.toml:2:14: relay.user_agent: found \"café\"; allowed: 1 to 200 characters of visible ASCII, with spaces only within",
        ],
    );
    refused(
        "[relay]\nextra_ca_file = ' '",
        &["config.toml:2:17: relay.extra_ca_file: found \" \"; allowed: the path of a file"],
    );
    refused(
        "[relay]\nbootstrap_relays = 'wss://a.example'",
        &[
            "config.toml:2:20: relay.bootstrap_relays: found \"wss://a.example\"; allowed: a list of at most 100000 items, \
         each a relay URL (ws:// or wss://, and a host)",
        ],
    );
}

#[test]
fn every_bad_item_of_a_list_is_reported_at_its_place() {
    let allowed = "allowed: a relay URL (ws:// or wss://, and a host)";
    refused(
        "[relay]\nbootstrap_relays = [\n  'https://a.example',\n  'wss://b.example', 7,\n  'wss://',\n]",
        &[
            &format!(
                "config.toml:3:3: relay.bootstrap_relays: found \"https://a.example\" (its scheme is not ws:// or wss://); {allowed}"
            ),
            &format!("config.toml:4:22: relay.bootstrap_relays: found 7; {allowed}"),
            &format!("config.toml:5:3: relay.bootstrap_relays: found \"wss://\" (it has no host); {allowed}"),
        ],
    );
    refused(
        "[filters]\nallowed_kinds = [1, 65536]",
        &["config.toml:2:21: filters.allowed_kinds: found 65536; allowed: a whole number from 0 to 65535"],
    );
}

#[test]
fn a_port_is_not_used_twice() {
    let both = "output.websocket_port and monitoring.prometheus_port: found";
    let allowed = "for both; allowed: two different ports, or 0 for monitoring.prometheus_port";
    refused("[output]\nwebsocket_port = 9090", &[&format!("config.toml:2:1: {both} 9090 {allowed}")]);
    refused("[monitoring]\n prometheus_port = 8080", &[&format!("config.toml:2:2: {both} 8080 {allowed}")]);
    refused_variable(
        "RELAYER_OUTPUT__WEBSOCKET_PORT",
        "9090",
        &format!("RELAYER_OUTPUT__WEBSOCKET_PORT: {both} 9090 {allowed}"),
    );
    let free = accepted("output.websocket_port = 0\nmonitoring.prometheus_port = 0", &[]);
    assert_eq!((free.output.websocket_port, free.monitoring.prometheus_port), (0, None));
}

#[test]
fn authentication_to_relays_requires_a_key() {
    let what = "relay.authenticate: found true, but there is no key to prove; allowed: true with nostr.secret_key or \
                nostr.secret_key_file, or false";
    refused("[relay]\nauthenticate = true", &[&format!("config.toml:2:1: {what}")]);
    refused_variable("RELAYER_RELAY__AUTHENTICATE", "true", &format!("RELAYER_RELAY__AUTHENTICATE: {what}"));
    let key = format!("relay.authenticate = true\nnostr.secret_key = '{}'", "01".repeat(32));
    assert!(accepted(&key, &[]).nostr.key().is_some());
}

#[test]
fn settings_without_effect_cause_a_warning() {
    refused(
        "[output]\ndownstream_tcp = ['a.example']",
        &[
            "config.toml:2:19: output.downstream_tcp: found \"a.example\" (it has no port); allowed: \"host:port\"",
        ],
    );
    for (text, warning) in [
        (
            "postgres.dsn = 'postgres://localhost/db'\nfanout.enabled = false",
            "postgres.dsn is set, but fanout.enabled is false: it is not used",
        ),
        (
            "filters.allowed_kinds = [1, 30930]",
            "filters.allowed_kinds has none of fanout.kinds: there will be no signals for followers",
        ),
        (
            "output.bind_address = '0.0.0.0'",
            "output.bind_address is not a loopback address and api.public_url is not set: followers and bots cannot \
             prove their keys, so /fanout refuses everybody",
        ),
    ] {
        assert_eq!(parse(text, &[]).unwrap().warnings, [warning]);
    }
    let right = "filters.allowed_kinds = [30931]\noutput.bind_address = '0.0.0.0'\napi.public_url = 'https://a.example'";
    assert_eq!(parse(right, &[]).unwrap().warnings, [""; 0]);
}

#[test]
fn a_minimum_of_free_bytes_below_what_the_database_needs_is_raised_with_a_warning() {
    let needed = StoreOptions::default().free_bytes_needed();
    let low = parse("storage.min_free_bytes = 1_000_000", &[]).unwrap();
    assert_eq!(low.config.free_bytes_min(), needed);
    let told = format!("storage.min_free_bytes is 1000000, but the database may need {needed} bytes");
    assert!(low.warnings.len() == 1 && low.warnings[0].starts_with(&told), "{:?}", low.warnings);
    // Larger write buffers need more: two of events, and two of half the size of ids.
    let large = parse("storage.write_buffer_bytes = 134_217_728", &[]).unwrap();
    assert_eq!(large.config.free_bytes_min(), needed + 3 * (64 << 20));
    assert_eq!(large.warnings.len(), 1, "{:?}", large.warnings);
    for (bytes, least) in [(0, 0), (needed, needed), (2 * needed, 2 * needed)] {
        let loaded = parse(&format!("storage.min_free_bytes = {bytes}"), &[]).unwrap();
        assert_eq!((loaded.config.free_bytes_min(), loaded.warnings.len()), (least, 0));
    }
}

#[test]
fn settings_of_rocksdb_are_checked() {
    refused(
        "[storage]\nblock_cache_bytes = 1000\nwrite_buffer_bytes = 0\nbackground_jobs = 65\ncompression = 'gzip'\n",
        &[
            "config.toml:2:21: storage.block_cache_bytes: found 1000; allowed: a whole number of bytes from 1048576 to 68719476736",
            "config.toml:3:22: storage.write_buffer_bytes: found 0; allowed: a whole number of bytes from 4194304 to 1073741824",
            "config.toml:4:19: storage.background_jobs: found 65; allowed: a whole number from 1 to 64",
            "config.toml:5:15: storage.compression: found \"gzip\"; allowed: \"none\", \"lz4\" or \"zstd\"",
        ],
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    refused(
        "[output]\nbatch_size = 0\nwebsocket_port = -1\n[filters]\nauthors = []\n[relay]\nmax_connections = 0\n",
        &[
            "config.toml:2:14: output.batch_size: found 0; allowed: a whole number from 1 to 100000",
            "config.toml:3:18: output.websocket_port: found -1; allowed: a whole number from 0 to 65535",
            "config.toml:5:1: filters.authors: unknown key; allowed: allowed_kinds, max_event_bytes, max_future_secs, max_age_hours, admit_expired",
            "config.toml:7:19: relay.max_connections: found 0; allowed: a whole number from 1 to 100000",
        ],
    );
    let errors = parse("output.batch_size = 0", &[("RELAYER_OUTPUT__BATCH_SIZE", "-1")]).unwrap_err();
    assert_eq!(errors.problems().len(), 2);
}

#[test]
fn broken_syntax_is_reported_with_its_place() {
    refused(
        "[output]\nbatch_size = \n",
        &["config.toml:2:14: string values must be quoted, expected literal string"],
    );
    for (text, place) in [
        ("[output\nbatch_size = 5", "config.toml:1:8: "),
        ("[output]\nbatch_size = 5\nbatch_size = 6", "config.toml:3:1: "),
        ("[output]\n\u{e9}\u{e9} = 5\n# \u{e9}\nbind_address = \"\u{e9}\u{e9}\\q\"", "config.toml:2:1: "),
        ("[relay]\nx = ]", "config.toml:2:5: "),
    ] {
        let errors = parse(text, &[]).unwrap_err().to_string();
        assert!(errors.starts_with(place), "{text}\n{errors}");
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = format!("[relay]\nbootstrap_relays = {}", "[".repeat(50_000));
    assert!(parse(&nested, &[]).is_err());
    assert!(parse("", &[("RELAY_URLS", &"[".repeat(50_000))]).is_err());
    let long = format!("{} = 1", "x".repeat(100_000));
    assert!(parse(&long, &[]).unwrap_err().to_string().len() < 300);
    let kinds = format!("filters.allowed_kinds = [{}]", "1,".repeat(65_537));
    refused(
        &kinds,
        &[
            "config.toml:1:25: filters.allowed_kinds: found 65537 items; allowed: a list of at most 65536 items, \
         each a whole number from 0 to 65535",
        ],
    );
}

#[test]
fn messages_stay_on_one_line() {
    let errors =
        parse("[output]\nbind_address = \"a\\n\\u001b[31m\"\n\"b\\nc\" = 1", &[]).unwrap_err().to_string();
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(!errors.contains('\u{1b}'));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let errors = Config::load(Some(&folder.path().join(name)), []).unwrap_err().to_string();
        errors.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        load("missing.toml"),
        "missing.toml: the configuration file cannot be read: No such file or directory (os error 2)"
    );
    std::fs::create_dir(folder.path().join("folder.toml")).unwrap();
    assert!(load("folder.toml").starts_with("folder.toml: the configuration file cannot be read: "));
    std::fs::write(folder.path().join("latin1.toml"), b"# caf\xc3\xa9\n# caf\xe9\n").unwrap();
    assert_eq!(load("latin1.toml"), "latin1.toml:2:6: found a byte that is not UTF-8; allowed: UTF-8 text");
    std::fs::write(folder.path().join("huge.toml"), vec![b'\n'; 8 * 1024 * 1024 + 1]).unwrap();
    assert_eq!(load("huge.toml"), "huge.toml: larger than 8388608 bytes: this is not a configuration file");
}
