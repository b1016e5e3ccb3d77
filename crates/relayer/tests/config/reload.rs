//! Reloading the configuration, and the changed keys.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use moltrade_relayer::config::{Config, restart_reason};

use super::{accepted, parse};

#[test]
fn a_reload_reads_the_same_file_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relayer.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[output]\nbatch_size = 1\nmax_latency_ms = 1");
    let variable = ("RELAYER_OUTPUT__MAX_LATENCY_MS".to_owned(), "7".to_owned());
    let loaded = Config::load(Some(&file), [variable]).unwrap();
    write("[output]\nbatch_size = 2\nmax_latency_ms = 2");
    let again = loaded.source.load().unwrap();
    assert_eq!((again.config.output.batch_size.get(), again.config.output.max_latency.as_millis()), (2, 7));
    assert_eq!(again.sources(), loaded.sources());

    write("[output]\nbatch_size = 0");
    assert!(again.source.load().unwrap_err().to_string().contains(":2:14: output.batch_size: found 0"));
    // A missing file must not stand for the defaults, which are a very different configuration.
    std::fs::remove_file(&file).unwrap();
    assert!(again.source.load().unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn changed_keys_are_named() {
    let none: Vec<String> = Vec::new();
    let before = "
        relay.bootstrap_relays = ['wss://a.example', 'wss://b.example']
        output.max_latency_ms = 100
        postgres.dsn = 'postgres://me:one@localhost/db'
        nostr.secret_key = '67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa'";
    let config = accepted(before, &[]);
    let the_same = before.replace("wss://a.example", "wss://A.example:443/").replace(
        "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
    );
    assert_eq!(config.changed_keys(&accepted(&the_same, &[])), none);

    let after = before.replace("b.example", "c.example").replace("67dea", "77dea").replace(":one", ":two");
    let after = accepted(&format!("{after}\nfilters.allowed_kinds = [1]"), &[]);
    assert_eq!(
        config.changed_keys(&after),
        ["relay.bootstrap_relays", "filters.allowed_kinds", "nostr.secret_key", "postgres.dsn"]
    );
    assert_eq!(Config::default().changed_keys(&Config::default()), none);
}

#[test]
fn another_secret_in_the_same_file_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "01".repeat(32)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("nostr.secret_key_file = '{}'", file.display());
    let before = accepted(&text, &[]);
    std::fs::write(&file, "02".repeat(32)).unwrap();
    assert_eq!(before.changed_keys(&accepted(&text, &[])), ["nostr.secret_key_file"]);
}

#[test]
fn most_keys_take_effect_at_a_reload_and_the_others_say_why_not() {
    for at_once in ["relay.bootstrap_relays", "filters.max_age_hours", "output.tcp", "api.admin_token"] {
        assert_eq!(restart_reason(at_once), None, "{at_once}");
    }
    for later in ["filters.max_event_bytes", "output.websocket_port", "storage.fsync"] {
        assert!(restart_reason(later).is_some_and(|reason| reason.ends_with("at the start")), "{later}");
    }
    let template = moltrade_relayer::config::template();
    for (line, is_marked) in [("fsync = true", true), ("slow_client_lag = 10000", false)] {
        let before = template.split(&format!("\n{line}\n")).next().unwrap();
        assert_eq!(before.ends_with("# A change needs a restart."), is_marked, "{line}");
    }
}

#[test]
fn a_reload_takes_over_only_what_needs_no_restart() {
    let before = accepted("filters.allowed_kinds = [1]\nstorage.fsync = false\noutput.max_clients = 5", &[]);
    let new = accepted("filters.allowed_kinds = [2]\nstorage.fsync = true\noutput.batch_size = 7", &[]);
    let reloaded = before.reloaded(&new);
    assert_eq!(before.changed_keys(&reloaded), ["filters.allowed_kinds", "output.max_clients"]);
    assert_eq!(reloaded.changed_keys(&new), ["storage.fsync", "output.batch_size"]);
}

#[test]
fn without_a_file_the_defaults_are_reloaded() {
    let loaded = Config::parse(None, []).unwrap();
    assert_eq!(loaded.file, None);
    // The tests' working directory has no config.toml.
    assert!(!Path::new(moltrade_relayer::config::DEFAULT_FILE).exists());
    assert_eq!(loaded.source.load().unwrap().config, parse("", &[]).unwrap().config);
}
