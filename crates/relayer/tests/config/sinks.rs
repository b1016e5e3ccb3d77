//! Sinks: their options, and errors with their positions.

use std::time::Duration;

use moltrade_relayer::config::{Compression, Framing, RestOptions, Start, TcpOptions};

use super::{accepted, parse, refused, refused_variable};

const NAMES: &str = "1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'";

/// Asserts that the value of an option is refused with exactly this error.
#[track_caller]
fn refused_option(key: &str, value: &str, column: usize, what: &str) {
    let text = format!("[[output.tcp]]\nname = 'a'\naddress = 'a:1'\n{key} = {value}");
    refused(&text, &[&format!("config.toml:4:{}: output.tcp.{key}: {what}", column + key.len() + 3)]);
}

#[test]
fn a_sink_has_its_options() {
    let author = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let text = format!(
        "output.downstream_tcp = ['a:1', 'A:1']
        [[output.tcp]]
        name = 'Indexer_1.a-b'
        address = 'Indexer.example:9000'
        framing = 'ndjson'
        ack = true
        max_unacked = 5
        ack_timeout_secs = 7
        kinds = [1, 30931]
        authors = ['{author}']
        filter = '{{\"#t\":[\"x\"]}}'
        start = 'oldest'
        [[output.tcp]]
        name = 'plain'
        address = '[::1]:9'"
    );
    let config = accepted(&text, &[]);
    let sinks = config.output.tcp_sinks();
    let names: Vec<_> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["a:1", "Indexer_1.a-b", "plain"]);
    let options = &sinks[1].options;
    assert_eq!(sinks[1].address.as_str(), "indexer.example:9000");
    assert_eq!((options.framing, options.ack, options.max_unacked.get()), (Framing::Ndjson, true, 5));
    let common = &sinks[1].common;
    assert_eq!((options.ack_timeout, common.start), (Duration::from_secs(7), Start::Oldest));
    assert_eq!(common.kinds, [1, 30931].into());
    assert_eq!(common.authors.iter().map(ToString::to_string).collect::<Vec<_>>(), [author]);
    assert!(common.filter.is_some());
    assert_eq!((&sinks[0].options, &sinks[2].options), (&TcpOptions::default(), &TcpOptions::default()));

    let printed = parse(&text, &[]).unwrap().to_toml();
    assert!(
        printed.contains(
            "\n    { name = \"Indexer_1.a-b\", address = \"indexer.example:9000\", framing = \"ndjson\""
        ),
        "{printed}"
    );
    assert_eq!(accepted(&printed, &[]), config, "{printed}");
}

#[test]
fn the_environment_can_set_sinks() {
    let config = accepted("", &[("RELAYER_OUTPUT__TCP", "[{ name = 'a', address = 'a:1', ack = true }]")]);
    assert!(config.output.tcp_sinks()[0].options.ack);
    let allowed = "allowed: a list of at most 1000 tables with name, address and the options of a sink";
    refused_variable(
        "RELAYER_OUTPUT__TCP",
        "a:1",
        &format!("RELAYER_OUTPUT__TCP: output.tcp: found \"a:1\"; {allowed}"),
    );
    refused("[output]\ntcp = 5", &[&format!("config.toml:2:7: output.tcp: found 5; {allowed}")]);
    refused("[output.tcp]\nname = 'a'", &[&format!("config.toml:1:1: output.tcp: found a table; {allowed}")]);
}

#[test]
fn every_bad_option_is_reported_at_its_place() {
    refused_option("framing", "'lines'", 1, "found \"lines\"; allowed: \"length\" or \"ndjson\"");
    refused_option("ack", "1", 1, "found 1; allowed: true or false");
    refused_option("max_unacked", "0", 1, "found 0; allowed: a whole number from 1 to 100000");
    refused_option("ack_timeout_secs", "0", 1, "found 0; allowed: a whole number of seconds from 1 to 86400");
    refused_option("kinds", "[1, 65536]", 5, "found 65536; allowed: a whole number from 0 to 65535");
    refused_option("authors", "['ab']", 2, "found \"ab\"; allowed: a public key of 64 lower-case hex digits");
    refused_option("start", "'newest'", 1, "found \"newest\"; allowed: \"now\" or \"oldest\"");
    let filter = "allowed: a NIP-01 filter as JSON, as in '{\"kinds\":[1],\"#t\":[\"nostr\"]}'";
    let errors =
        parse("[[output.tcp]]\nname = 'a'\naddress = 'a:1'\nfilter = '{\"kind\":[1]}'", &[]).unwrap_err();
    let errors = errors.to_string();
    assert!(
        errors.starts_with("config.toml:4:10: output.tcp.filter: found ") && errors.ends_with(filter),
        "{errors}"
    );
    assert!(errors.contains("unknown key `kind`"), "{errors}");
    refused(
        "[[output.tcp]]\nname = 'a'\naddress = 'a:1'\n  framming = 'length'\nsecret = 'x'",
        &[
            "config.toml:4:3: output.tcp.framming: unknown key; did you mean framing?",
            "config.toml:5:1: output.tcp.secret: unknown key; allowed: name, address, framing, ack, max_unacked, ack_timeout_secs, \
             heartbeat_secs, tls, ca_file, kinds, authors, filter, start",
        ],
    );
}

#[test]
fn heartbeats_need_lines() {
    let sink = |options: &str| format!("[[output.tcp]]\nname = 'a'\naddress = 'a:1'\n{options}");
    let config = accepted(&sink("framing = 'ndjson'\nheartbeat_secs = 30"), &[]);
    assert_eq!(config.output.tcp[0].options.heartbeat, Some(Duration::from_secs(30)));
    assert_eq!(accepted(&sink("heartbeat_secs = 0"), &[]).output.tcp[0].options.heartbeat, None);
    let allowed = "allowed: 0, or a whole number of seconds from 5 to 3600";
    refused_option("heartbeat_secs", "4", 1, &format!("found 4; {allowed}"));
    let errors = parse(&sink("heartbeat_secs = 5"), &[]).unwrap_err().to_string();
    assert!(errors.contains("found heartbeat_secs for \"a\", whose framing is \"length\""), "{errors}");
    assert!(errors.ends_with("allowed: framing = \"ndjson\", or no heartbeat_secs"), "{errors}");
}

#[test]
fn names_and_addresses_are_checked() {
    for name in ["", "a/b", "a b", "é", "a:1", &"x".repeat(65)] {
        let errors =
            parse(&format!("[[output.tcp]]\nname = '{name}'\naddress = 'a:1'"), &[]).unwrap_err().to_string();
        assert!(errors.starts_with("config.toml:2:8: output.tcp.name: found \""), "{errors}");
        assert!(errors.ends_with(&format!("; allowed: {NAMES}")), "{errors}");
    }
    accepted(&format!("[[output.tcp]]\nname = '{}'\naddress = 'a:1'", "x".repeat(64)), &[]);
    refused(
        "[[output.tcp]]\nname = 'a'\naddress = 'a'",
        &["config.toml:3:11: output.tcp.address: found \"a\" (it has no port); allowed: \"host:port\""],
    );
    refused(
        "\n[[output.tcp]]\nack = 1\n[[output.tcp]]\nname = 'a'",
        &[
            &format!("config.toml:2:1: output.tcp.name: missing; allowed: {NAMES}"),
            "config.toml:2:1: output.tcp.address: missing; allowed: \"host:port\"",
            "config.toml:3:7: output.tcp.ack: found 1; allowed: true or false",
            "config.toml:4:1: output.tcp.address: missing; allowed: \"host:port\"",
        ],
    );
    let sinks = |names: [&str; 3]| {
        names.map(|name| format!("[[output.tcp]]\nname = '{name}'\naddress = 'a:1'\n")).concat()
    };
    accepted(&sinks(["a", "b", "A"]), &[]);
    refused(
        &sinks(["a", "b", "a"]),
        &[
            "config.toml:8:8: output.tcp.name: found \"a\" a second time; allowed: a name of its own for each sink",
        ],
    );
}

#[test]
fn the_example_of_the_template_is_a_sink() {
    let template = moltrade_relayer::config::template();
    let (_, example) = template.split_once("# [[output.tcp]]").unwrap();
    let example = example.split_once("\n\n").unwrap().0.replace("\n# ", "\n");
    let sinks = accepted(&format!("[[output.tcp]]{example}"), &[]).output.tcp_sinks();
    assert_eq!(sinks[0].name.as_str(), "indexer");
    assert_eq!(sinks[0].options, TcpOptions::default());
    let (_, example) = template.split_once("# [[output.rest]]").unwrap();
    let example = example.split_once("\n\n").unwrap().0.replace("\n# ", "\n");
    let sinks = accepted(&format!("[[output.rest]]{example}"), &[]).output.rest_sinks();
    assert_eq!(sinks[0].address.as_str(), "https://hooks.example/nostr");
    assert_eq!(sinks[0].options, RestOptions::default());
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_sink_over_http_has_its_options() {
    let text = format!(
        "output.downstream_rest = ['http://A.example', 'https://b.example:8443/x/']
        [[output.rest]]
        name = 'hook'
        address = 'https://hooks.example/nostr?token=hunter2'
        batch = 50
        batch_bytes = 2048
        batch_wait_ms = 20
        concurrency = 4
        timeout_secs = 5
        compression = 'zstd'
        secret = '{SECRET} {SECRET}'
        headers = {{ Authorization = 'Bearer hunter3', X-Team = 'a' }}
        kinds = [1]
        start = 'oldest'"
    );
    let loaded = parse(&text, &[]).unwrap();
    let sinks = loaded.config.output.rest_sinks();
    let names: Vec<_> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["http://a.example/", "https://b.example:8443/x/", "hook"]);
    let options = &sinks[2].options;
    assert_eq!((options.batch.unwrap().get(), options.batch_bytes, options.concurrency.get()), (50, 2048, 4));
    assert_eq!((options.batch_wait, options.timeout), (Duration::from_millis(20), Duration::from_secs(5)));
    assert_eq!((options.compression, sinks[2].common.start), (Compression::Zstd, Start::Oldest));
    assert_eq!(options.headers.map()["authorization"], "Bearer hunter3");
    assert!(options.signing_keys().is_some());
    let shown = format!("{} {loaded:?} {:?}", loaded.to_toml(), loaded.source);
    for secret in ["hunter2", "hunter3", "MfKQ9r8"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("{ authorization = \"***\", x-team = \"***\" }"), "{shown}");
    assert!(shown.contains("address = \"https://hooks.example/nostr?***\""), "{shown}");
}

#[test]
fn errors_about_a_sink_over_http_do_not_show_its_secrets() {
    let options = |text: &str| format!("[[output.rest]]\nname = 'a'\naddress = 'http://a.example'\n{text}");
    let secret = "found a value (secret, not shown) (it does not begin with whsec_); allowed: whsec_ and the base64 of \
                  24 to 64 bytes; up to four of them, separated by spaces";
    refused(&options("secret = 'hunter2'"), &[&format!("config.toml:4:10: output.rest.secret: {secret}")]);
    let headers = "allowed: a table of at most 32 headers that are not the gateway's own";
    refused(
        &options("headers = { Content-Type = 'x', 'a b' = 'hunter2', X = 5 }"),
        &[
            &format!(
                "config.toml:4:13: output.rest.headers.Content-Type: found a header (its value is not shown): \
                 the gateway sets it itself; {headers}"
            ),
            &format!(
                "config.toml:4:33: output.rest.headers.a b: found a header (its value is not shown): its name is \
                 not valid for a header; {headers}"
            ),
            &format!(
                "config.toml:4:52: output.rest.headers.X: found a header (its value is not shown): its value is \
                 not a text; {headers}"
            ),
        ],
    );
    let http = "allowed: a URL (http:// or https://, and a host)";
    for (address, found) in [
        (
            "ftp://me:hunter2@a.example/x?hunter3",
            "\"ftp://***@a.example/x?***\" (its scheme is not http:// or https://)",
        ),
        (
            "http://me:hunter2@a.example",
            "\"http://***@a.example\" (it carries a user or a password, which would end up in logs)",
        ),
    ] {
        refused(
            &format!("[[output.rest]]\nname = 'a'\naddress = '{address}'"),
            &[&format!("config.toml:3:11: output.rest.address: found {found}; {http}")],
        );
    }
    let errors = parse("[output]\ndownstream_rest = ['http://a.example?token=hunter2']", &[]).unwrap_err();
    let errors = errors.to_string();
    assert!(errors.contains("found \"http://a.example?***\" (it has a query)"), "{errors}");
    for (option, what) in [
        ("batch = 10001", "found 10001; allowed: 0, or a whole number from 1 to 10000"),
        ("concurrency = 0", "found 0; allowed: a whole number from 1 to 64"),
        ("compression = 'br'", "found \"br\"; allowed: \"none\", \"gzip\" or \"zstd\""),
    ] {
        let key = option.split(' ').next().unwrap();
        let column = key.len() + 4;
        refused(&options(option), &[&format!("config.toml:4:{column}: output.rest.{key}: {what}")]);
    }
    let file = options(&format!("secret = '{SECRET}'\nsecret_file = '/nonexistent'"));
    let errors = parse(&file, &[]).unwrap_err().to_string();
    assert!(
        errors.starts_with(
            "config.toml:5:15: output.rest.secret_file: found \"/nonexistent\" (it cannot be read: No such"
        ),
        "{errors}"
    );
}

#[test]
fn a_secret_may_be_in_a_private_file_and_not_in_two_places() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n{SECRET}\n")).unwrap();
    let path = file.path().display();
    let sink = format!("[[output.rest]]\nname = 'a'\naddress = 'http://a.example'\nsecret_file = '{path}'");
    let mode = |mode| std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(
        parse(&sink, &[]).unwrap_err().to_string().contains("its mode is 644, which gives others access")
    );
    mode(0o600);
    assert!(accepted(&sink, &[]).output.rest_sinks()[0].options.signing_keys().is_some());
    refused(
        &format!("{sink}\nsecret = '{SECRET}'"),
        &["config.toml:4:15: output.rest.secret_file: secret is set, too; allowed: one of the two"],
    );
}

#[test]
fn names_are_unique_across_transports() {
    refused(
        "[[output.tcp]]\nname = 'a'\naddress = 'a:1'\n[[output.rest]]\nname = 'a'\naddress = 'http://a.example'",
        &[
            "config.toml:4:10: output.tcp and output.rest: found the name \"a\" in both; allowed: a name of its own \
           for each sink",
        ],
    );
}

#[test]
fn certificate_authorities_require_tls() {
    refused(
        "[[output.tcp]]\nname = 'a'\naddress = 'a:1'\nca_file = 'a.pem'",
        &["config.toml:4:11: output.tcp.ca_file: it is set; allowed: only with tls = true"],
    );
    refused(
        "[[output.rest]]\nname = 'a'\naddress = 'http://a.example'\nca_file = 'a.pem'",
        &[
            "config.toml:4:11: output.rest.ca_file: it is set; allowed: only with an address that begins with https://",
        ],
    );
}
