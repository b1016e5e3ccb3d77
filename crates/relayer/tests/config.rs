//! The configuration: what is read, what is refused and how that is said, and what is printed.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use moltrade_relayer::config::{self, Config, ConfigErrors, Filters, Loaded, LogLevel, Output, Storage};
use proptest::prelude::*;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::parse(Some((Path::new("config.toml"), text)), environment)
}

fn accepted(text: &str, environment: &[(&str, &str)]) -> Config {
    parse(text, environment).unwrap_or_else(|errors| panic!("refused:\n{errors}")).config
}

/// The file is refused, with exactly these lines.
#[track_caller]
fn refused(text: &str, lines: &[&str]) {
    let errors = parse(text, &[]).expect_err("accepted").to_string();
    assert_eq!(errors, lines.join("\n"), "for the file:\n{text}");
}

/// The variable is refused, with exactly this line.
#[track_caller]
fn refused_variable(name: &str, value: &str, line: &str) {
    let errors = parse("", &[(name, value)]).expect_err("accepted").to_string();
    assert_eq!(errors, line, "for {name}={value}");
}

#[test]
fn nothing_set_is_the_defaults() {
    let loaded = Config::parse(None, []).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.sources(), "defaults (config.toml does not exist)");
    assert_eq!(loaded.config.relay.bootstrap_relays.len(), 2);
    assert_eq!(loaded.config.output.batch_size.get(), 100);
}

#[test]
fn values_become_types() {
    let config = accepted(
        "
        [relay]
        bootstrap_relays = ['wss://A.example:443/', 'wss://a.example', \"ws://b.example:7777/r/0\"]
        backfill_hours = 0
        [filters]
        allowed_kinds = [30931, 1, 1]
        max_age_hours = 24
        [storage]
        fsync = false
        [output]
        max_latency_ms = 5
        batch_size = 0x10
        [monitoring]
        log_level = 'debug'
        prometheus_port = 0
        [postgres]
        dsn = 'postgres://me:hunter2@localhost/db'
        ",
        &[],
    );
    let relays: Vec<_> = config.relay.bootstrap_relays.iter().map(|relay| relay.as_str()).collect();
    assert_eq!(relays, ["wss://a.example", "ws://b.example:7777/r/0"]);
    assert_eq!(config.relay.backfill, None);
    assert_eq!(
        config.filters,
        Filters {
            allowed_kinds: [1, 30931].into(),
            max_age: Some(Duration::from_secs(24 * 3600)),
            ..Filters::default()
        }
    );
    assert_eq!(config.storage, Storage { fsync: false, ..Storage::default() });
    assert_eq!(
        config.output,
        Output {
            max_latency: Duration::from_millis(5),
            batch_size: NonZeroUsize::new(16).unwrap(),
            ..Output::default()
        }
    );
    assert_eq!(config.monitoring.log_level, LogLevel::Debug);
    assert_eq!(config.monitoring.prometheus_port, None);
    assert_eq!(config.postgres.dsn.unwrap().reveal(), "postgres://me:hunter2@localhost/db");
}

#[test]
fn tables_may_be_written_in_every_way_of_toml() {
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
fn unknown_names_are_refused_with_the_likely_ones() {
    refused(
        "[output]\n  batchsize = 5\n",
        &["config.toml:2:3: output.batchsize: unknown key; did you mean batch_size?"],
    );
    refused("[ouput]\nbatch_size = 5", &["config.toml:1:2: ouput: unknown section; did you mean [output]?"]);
    refused(
        "batch_size = 5",
        &["config.toml:1:1: batch_size: unknown section; as a key it belongs into [output]"],
    );
    refused(
        "[output]\nlog_level = 'info'",
        &["config.toml:2:1: output.log_level: unknown key here; it belongs into [monitoring]"],
    );
    refused(
        "[storage]\nxyz = 1",
        &[
            "config.toml:2:1: storage.xyz: unknown key; allowed: fsync, retention_hours, max_bytes, min_free_bytes, tail_bytes",
        ],
    );
    refused(
        "[xyz]",
        &[
            "config.toml:1:2: xyz: unknown section; allowed: relay, deduplication, filters, storage, output, postgres, monitoring",
        ],
    );
    refused(
        "[[output.tcp]]\naddress = 'a:1'",
        &[
            "config.toml:1:10: output.tcp: unknown key; allowed: websocket_enabled, websocket_port, bind_address, batch_size, \
         max_latency_ms, downstream_tcp, downstream_rest",
        ],
    );
    refused("output = 5", &["config.toml:1:10: output: found 5; allowed: a section [output]"]);
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
        "[relay]\nbootstrap_relays = 'wss://a.example'",
        &[
            "config.toml:2:20: relay.bootstrap_relays: found \"wss://a.example\"; allowed: a list of at most 100000 items, \
         each a relay URL (ws:// or wss://, and a host)",
        ],
    );
}

#[test]
fn every_bad_item_of_a_list_is_named_at_its_place() {
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
fn what_is_not_supported_yet_is_not_ignored() {
    let what = "not supported by this version yet; allowed: an empty list";
    refused(
        "[output]\ndownstream_tcp = ['a.example:9000']\ndownstream_rest = ['http://b.example']",
        &[
            &format!("config.toml:2:1: output.downstream_tcp: {what}"),
            &format!("config.toml:3:1: output.downstream_rest: {what}"),
        ],
    );
    refused(
        "[output]\ndownstream_tcp = ['a.example']",
        &[
            "config.toml:2:19: output.downstream_tcp: found \"a.example\" (it has no port); allowed: \"host:port\"",
        ],
    );
    let dsn = parse("postgres.dsn = 'postgres://localhost/db'", &[]).unwrap();
    assert_eq!(dsn.warnings, ["postgres.dsn is set, but this version has no fan-out yet: it is not used"]);
}

#[test]
fn all_problems_are_told_at_once_in_the_files_order() {
    refused(
        "[output]\nbatch_size = 0\nwebsocket_port = -1\n[filters]\nkinds = []\n[relay]\nmax_connections = 0\n",
        &[
            "config.toml:2:14: output.batch_size: found 0; allowed: a whole number from 1 to 100000",
            "config.toml:3:18: output.websocket_port: found -1; allowed: a whole number from 0 to 65535",
            "config.toml:5:1: filters.kinds: unknown key; allowed: allowed_kinds, max_event_bytes, max_future_secs, max_age_hours",
            "config.toml:7:19: relay.max_connections: found 0; allowed: a whole number from 1 to 100000",
        ],
    );
    let errors = parse("output.batch_size = 0", &[("RELAYER_OUTPUT__BATCH_SIZE", "-1")]).unwrap_err();
    assert_eq!(errors.problems().len(), 2);
}

#[test]
fn broken_syntax_has_its_place() {
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
fn secrets_are_never_shown() {
    let dsn = "postgres://me:hunter2@localhost/db";
    let loaded = parse(&format!("[postgres]\ndsn = '{dsn}'"), &[]).unwrap();
    let shown = format!("{} {:?} {}", loaded.to_toml(), loaded, loaded.warnings.join(" "));
    assert!(shown.contains("dsn = \"***\"  # config.toml:2:1"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");

    let not_shown = "postgres.dsn: found a value (secret, not shown)";
    let allowed = "allowed: a URL such as \"postgres://user:password@localhost:5432/moltrade\"";
    refused(
        "[postgres]\ndsn = 'mysql://me:hunter2@localhost/db'",
        &[&format!("config.toml:2:7: {not_shown} (its scheme is not postgres://); {allowed}")],
    );
    refused(
        "[postgres]\ndsn = 'hunter2'",
        &[&format!("config.toml:2:7: {not_shown} (it is not a URL); {allowed}")],
    );
    refused("[postgres]\ndsn = 12345", &[&format!("config.toml:2:7: {not_shown}; {allowed}")]);
    refused_variable(
        "RELAYER_POSTGRES__DSN",
        "hunter2",
        &format!("RELAYER_POSTGRES__DSN: {not_shown} (it is not a URL); {allowed}"),
    );
    for text in [
        "[postgres]\ndsn = postgres://me:hunter2@localhost/db",
        "[postgres]\ndsn = 'postgres://me:hunter2@localhost/db",
        "[postgres]\ndsn = \"postgres://me:hunter2@localhost/\\q\"",
        "[relay]\nbootstrap_relays = ['wss://me:hunter2@a.example']",
        "[relay]\nbootstrap_relays = ['https://me:hunter2@a.example']",
    ] {
        let errors = parse(text, &[]).unwrap_err().to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

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
    assert_eq!(load("huge.toml"), "huge.toml: larger than 8388608 bytes: this is no configuration file");
}

#[test]
fn check_config_prints_what_is_in_effect_and_why() {
    let loaded = parse("[output]\nbatch_size = 5", &[("RELAYER_STORAGE__FSYNC", "false")]).unwrap();
    let text = loaded.to_toml();
    assert!(text.starts_with("# In effect: config.toml and 1 environment variable."), "{text}");
    assert!(text.contains("\nbatch_size = 5  # config.toml:2:1\n"), "{text}");
    assert!(text.contains("\nfsync = false  # RELAYER_STORAGE__FSYNC\n"), "{text}");
    assert!(text.contains("\nhotset_size = 10000\n"), "{text}");
    assert!(text.contains("\n# dsn is not set\n"), "{text}");
    assert_eq!(accepted(&text, &[]), loaded.config);
}

#[test]
fn the_template_is_the_defaults() {
    assert_eq!(accepted(&config::template(), &[]), Config::default());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.template.toml");
    let file = std::fs::read_to_string(path).unwrap();
    assert!(file == config::template(), "config.template.toml is out of date: run `make config-template`");
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

proptest! {
    /// Whatever the file and the variables say: an answer, never a panic; and what was accepted is still
    /// accepted, and the same, once printed.
    #[test]
    fn no_input_panics(
        text in "([a-z_\\[\\]={}\"'.,#0-9 \\n-]|\\PC|\\[(relay|output|filters|storage|postgres)\\]\n|\
                 (bootstrap_relays|batch_size|allowed_kinds|fsync|dsn) = ){0,40}",
        name in "(RELAYER_(OUTPUT|RELAY|FILTERS)__(BATCH_SIZE|BOOTSTRAP_RELAYS|ALLOWED_KINDS)|RELAY_URLS|RELAYER_\\PC*)",
        value in "\\PC*",
    ) {
        for environment in [&[][..], &[(name.as_str(), value.as_str())]] {
            match parse(&text, environment) {
                Ok(loaded) => {
                    let shown = loaded.to_toml();
                    if loaded.config.postgres.dsn.is_none() {
                        prop_assert_eq!(accepted(&shown, &[]), loaded.config);
                    }
                }
                Err(errors) => prop_assert!(!errors.problems().is_empty()),
            }
        }
    }

    /// Relay URLs have one normal form: what was parsed, printed and parsed again is the same.
    #[test]
    fn a_relay_url_is_its_own_normal_form(text in "(WSS?|wss?|ws):/{0,3}[\\PC]{0,20}(:[0-9]{1,5})?/?\\PC{0,10}") {
        if let Ok(url) = text.parse::<config::RelayUrl>() {
            prop_assert_eq!(url.as_str().parse::<config::RelayUrl>().unwrap(), url);
        }
    }
}
