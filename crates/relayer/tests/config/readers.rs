//! `[[api.readers]]` and `[api] trusted_proxies`: their options, and errors with their positions.
//! No error shows a token.

use std::os::unix::fs::PermissionsExt;

use super::{accepted, parse, refused, refused_variable};

const TOKEN: &str = "correct-horse-battery";

#[test]
fn a_reader_has_its_options() {
    let author = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "another-token-of-a-reader\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[[api.readers]]
        name = 'dashboard'
        token = '{TOKEN}'
        [[api.readers]]
        name = 'acme'
        token_file = '{}'
        kinds = [1, 7]
        authors = ['{author}']
        max_connections = 0
        max_requests_per_minute = 5
        max_consumers = 3",
        file.display()
    );
    let loaded = parse(&text, &[]).unwrap();
    let readers = &loaded.config.api.readers;
    let [dashboard, acme] = readers.as_slice() else { panic!("{readers:?}") };
    assert_eq!((dashboard.name.as_str(), acme.name.as_str()), ("dashboard", "acme"));
    let options = &dashboard.options;
    assert_eq!(options.token.as_ref().unwrap().secret().reveal(), TOKEN);
    assert_eq!(options.max_connections.map(usize::from), Some(100));
    assert_eq!(options.max_requests_per_minute.map(u32::from), Some(600));
    assert_eq!(options.max_consumers.get(), 10);
    let options = &acme.options;
    assert_eq!(options.token_file.as_ref().unwrap().secret.secret().reveal(), "another-token-of-a-reader");
    assert_eq!((options.kinds.len(), options.authors.len(), options.max_connections), (2, 1, None));
    let shown = format!("{} {loaded:?}", loaded.to_toml());
    assert!(!shown.contains(TOKEN) && !shown.contains("another-token"), "{shown}");
    assert!(shown.contains("{ name = \"dashboard\", token = \"***\", kinds = []"), "{shown}");
    // A reload compares the tokens, too.
    let changed = parse(&text.replace(TOKEN, "correct-horse-battery-2"), &[]).unwrap();
    assert_eq!(loaded.config.changed_keys(&changed.config), ["api.readers"]);
    std::fs::write(&file, "a-later-token-of-a-reader").unwrap();
    let changed = parse(&text, &[]).unwrap();
    assert_eq!(loaded.config.changed_keys(&changed.config), ["api.readers"]);
}

#[test]
fn the_environment_can_set_readers() {
    let readers = format!("[{{ name = 'a', token = '{TOKEN}' }}]");
    assert_eq!(accepted("", &[("RELAYER_API__READERS", &readers)]).api.readers.len(), 1);
    let allowed = "found a value that is no table; allowed: a list of at most 1000 tables with name, token or token_file, \
                   and the options of a reader";
    let told = format!("RELAYER_API__READERS: api.readers: {allowed}");
    refused_variable("RELAYER_API__READERS", TOKEN, &told);
}

/// A reader with these keys is refused with this error, which does not show the token.
#[track_caller]
fn refused_reader(keys: &str, error: &str) {
    refused(&format!("[[api.readers]]\n{keys}"), &[error]);
    assert!(!error.contains(TOKEN));
}

#[test]
fn every_bad_option_is_reported_without_a_token() {
    refused_reader("name = 'a'", "config.toml:1:1: api.readers.token: missing; allowed: token or token_file");
    refused_reader(
        "name = 'a'\ntoken = 'short'",
        "config.toml:3:9: api.readers.token: found a value (secret, not shown) (it is too short); allowed: 16 to 512 \
         characters of visible ASCII without spaces, such as `openssl rand -hex 32` prints",
    );
    refused_reader(
        &format!("name = 'a'\ntokn = '{TOKEN}'\ntoken = '{TOKEN}'"),
        "config.toml:3:1: api.readers.tokn: unknown key; did you mean token?",
    );
    refused_reader(
        &format!("token = '{TOKEN}'"),
        "config.toml:1:1: api.readers.name: missing; allowed: 1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'",
    );
    refused_reader(
        &format!("name = 'a'\ntoken = '{TOKEN}'\nmax_consumers = 0"),
        "config.toml:4:17: api.readers.max_consumers: found 0; allowed: a whole number from 1 to 100000",
    );
    let two = format!("name = 'a'\ntoken = '{TOKEN}'\n[[api.readers]]\nname = 'b'\ntoken = '{TOKEN}'");
    refused_reader(
        &two,
        "config.toml:4:1: api.readers.token: found the token of \"a\" for \"b\"; allowed: a token of its own for each \
         reader",
    );
    let two = format!("name = 'a'\ntoken = '{TOKEN}'\n[[api.readers]]\nname = 'a'\ntoken = '{TOKEN}-2'");
    refused_reader(
        &two,
        "config.toml:4:1: api.readers.name: found \"a\" a second time; allowed: a name of its own for each reader",
    );
    let missing = format!("name = 'a'\ntoken = '{TOKEN}'\ntoken_file = '{TOKEN}'");
    let errors = parse(&format!("[[api.readers]]\n{missing}"), &[]).unwrap_err().to_string();
    assert!(errors.contains("api.readers.token_file: found a value (secret, not shown)"), "{errors}");
    assert!(
        errors.contains("api.readers.token: token_file is set, too; allowed: one of the two"),
        "{errors}"
    );
    assert!(!errors.contains(TOKEN), "{errors}");
    refused(
        &format!("api.admin_token = '{TOKEN}'\n[[api.readers]]\nname = 'a'\ntoken = '{TOKEN}'"),
        &[
            "config.toml:2:7: api.admin_token and api.readers: found the same token for \"a\" and the operator; allowed: \
           a token of its own for each reader",
        ],
    );
}

#[test]
fn trusted_proxies_are_addresses_and_ranges() {
    let text =
        "api.trusted_proxies = ['127.0.0.1', '10.1.2.3/8', '::ffff:192.0.2.1', 'fd00::/8', '10.0.0.0/8']";
    let config = accepted(text, &[]);
    let shown: Vec<_> = config.api.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1", "10.0.0.0/8", "192.0.2.1", "fd00::/8"]);
    for (wrong, why) in [
        ("localhost", "it is neither an address nor a range"),
        ("10.0.0.0/33", "it is neither an address nor a range"),
        ("0.0.0.0/0", "it is every address"),
    ] {
        let what = format!(
            "config.toml:2:20: api.trusted_proxies: found \"{wrong}\" ({why}); allowed: an IP address or a range of \
             addresses such as \"10.0.0.0/8\" or \"fd00::/8\""
        );
        refused(&format!("[api]\ntrusted_proxies = ['{wrong}']"), &[&what]);
    }
}

#[test]
fn the_proxy_protocol_needs_proxies_that_are_not_this_machine() {
    refused(
        "[api]\nproxy_protocol = true",
        &[
            "config.toml:2:1: api.trusted_proxies and api.proxy_protocol: found true without proxies to expect it from; \
           allowed: true with api.trusted_proxies, or false",
        ],
    );
    for (bind, local) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")] {
        let text = format!(
            "output.bind_address = '{bind}'\n[api]\ntrusted_proxies = ['127.0.0.0/8', '::1']\nproxy_protocol = true"
        );
        let errors = parse(&text, &[]).unwrap_err().to_string();
        let told =
            format!("found a range that contains {local}, from which the commands of this machine connect");
        assert!(errors.contains(&told) && errors.contains("source 127.0.0.2"), "{errors}");
    }
    accepted("[api]\ntrusted_proxies = ['127.0.0.2']\nproxy_protocol = true", &[]);
}
