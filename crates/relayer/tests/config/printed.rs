//! Printing: the template and the effective values, without secrets.

use std::path::Path;

use moltrade_relayer::config::{self, Config};

use super::{accepted, parse, refused, refused_variable};

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
    for (dsn, fault) in [
        (
            "postgres://me@localhost/db?pasword=hunter2",
            "it has an unknown parameter; known are: sslmode, sslrootcert, sslcert, sslkey, host, port, user, \
             password, dbname, options",
        ),
        (
            "postgres://me@localhost/db?sslmode=hunter2",
            "a value in it is wrong; for example, sslmode may be verify-full",
        ),
        (
            "postgres://me@localhost/db?sslkey=/hunter2",
            "its file sslkey cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        refused(
            &format!("[postgres]\ndsn = '{dsn}'"),
            &[&format!("config.toml:2:7: {not_shown} ({fault}); {allowed}")],
        );
    }
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
fn check_config_prints_the_effective_values_and_their_sources() {
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
fn control_characters_never_reach_the_terminal() {
    let folder = "a\\u009B\\u007F\\u0007é";
    let loaded = parse(&format!("[deduplication]\nrocksdb_path = \"{folder}\""), &[]).unwrap();
    let printed = loaded.to_toml();
    assert!(printed.chars().all(|shown| shown == '\n' || !shown.is_control()), "{printed}");
    assert_eq!(accepted(&printed, &[]), loaded.config);
}

#[test]
fn the_template_is_the_defaults() {
    assert_eq!(accepted(&config::template(), &[]), Config::default());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.template.toml");
    let file = std::fs::read_to_string(path).unwrap();
    assert!(file == config::template(), "config.template.toml is out of date: run `make config-template`");
}
