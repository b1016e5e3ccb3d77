//! What a DSN says about the way to the database. Nothing here shows a part of it.

use std::fs::File;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::super::store::RegistryError;
use super::schema::SCHEMA;
use crate::config::Secret;
use crate::limits::{REGISTRY_LOCK_MAX, REGISTRY_ROWS_TIMEOUT};

/// Parameters that name a file.
const FILES: [&str; 7] =
    ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
/// The others that sqlx knows. One that it does not know, it would write into the log with its value.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "ssl-mode",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// How to connect.
pub fn options(dsn: &Secret) -> Result<PgConnectOptions, RegistryError> {
    let refused = |why: String| RegistryError::Refused(why);
    let url = Url::parse(dsn.reveal()).map_err(|_| refused("the DSN is no URL".to_owned()))?;
    for (name, value) in url.query_pairs() {
        let name = &*name;
        if let Some(name) = FILES.iter().find(|file| **file == name) {
            // A certificate or key may stand there itself.
            if !value.contains("-----BEGIN") {
                File::open(&*value)
                    .map_err(|error| refused(format!("the DSN's file {name} cannot be read: {error}")))?;
            }
        } else if !(PARAMETERS.contains(&name) || name.starts_with("options[") && name.ends_with(']')) {
            let known = "sslmode, sslrootcert, sslcert, sslkey, host, port, user, password, dbname, options";
            return Err(refused(format!("the DSN has a parameter that is not known; these are: {known}")));
        }
    }
    // What sqlx says of a wrong value holds the value.
    let options: PgConnectOptions = dsn.reveal().parse().map_err(|_| {
        refused("a value in the DSN is wrong; sslmode, for one, may be verify-full".to_owned())
    })?;
    let milliseconds = |time: std::time::Duration| time.as_millis().to_string();
    Ok(options
        .application_name("moltrade-relayer")
        .options([
            // Nothing of ours is ever looked for elsewhere. `pg_temp` would else come first.
            ("search_path", format!("{SCHEMA},pg_temp")),
            // How the detail of an error writes a key.
            ("bytea_output", "hex".to_owned()),
            ("lock_timeout", milliseconds(REGISTRY_LOCK_MAX)),
            // A gateway that was cut off in the middle of a change does not hold up the others for longer.
            ("idle_in_transaction_session_timeout", milliseconds(REGISTRY_ROWS_TIMEOUT)),
        ])
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dsn: &str) -> Result<PgConnectOptions, String> {
        options(&Secret::new(dsn)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_dsn_says_where_and_how() {
        let options = read("postgres://me:hunter2@db.example:5433/moltrade?sslmode=verify-full").unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("db.example", 5433));
        assert_eq!((options.get_username(), options.get_database()), ("me", Some("moltrade")));
        assert_eq!(options.get_application_name(), Some("moltrade-relayer"));
        let settings = options.get_options().unwrap();
        assert!(settings.contains("search_path=moltrade_relayer,pg_temp"), "{settings}");
        assert!(read("postgres://me@db/x?options[work_mem]=8MB&sslrootcert=/dev/null").is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_without_a_word_of_it() {
        for (dsn, why) in [
            ("hunter2", "the DSN is no URL"),
            ("postgres://me:x@db/x?sslmode=hunter2", "a value in the DSN is wrong"),
            ("postgres://me:x@db/x?port=hunter2", "a value in the DSN is wrong"),
            ("postgres://me:x@db/x?passwort=hunter2", "a parameter that is not known; these are: sslmode,"),
            ("postgres://me:x@db/x?hunter2=1", "a parameter that is not known"),
            ("postgres://me:x@db/x?sslkey=/hunter2", "the DSN's file sslkey cannot be read: No such file"),
        ] {
            let error = read(dsn).expect_err(dsn);
            assert!(error.contains(why) && !error.contains("hunter2"), "{dsn}: {error}");
        }
    }
}
