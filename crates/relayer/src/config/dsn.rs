//! Reads the DSN of PostgreSQL. No error shows any part of the DSN.

use std::fs::File;

use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::secret::Secret;

/// The parameters that name a file.
const FILES: [&str; 7] =
    ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
/// The other parameters that sqlx knows. sqlx would log an unknown parameter with its value.
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

/// The options to connect with. Only this function gives a DSN to sqlx.
///
/// # Errors
/// When the DSN is not a URL of PostgreSQL, has an unknown parameter or a wrong value, or names a
/// file that cannot be read. The error calls the DSN "it" and does not quote any part of the DSN.
pub(crate) fn postgres_options(dsn: &Secret) -> Result<PgConnectOptions, String> {
    let url = Url::parse(dsn.reveal()).map_err(|_| "it is not a URL".to_owned())?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("its scheme is not postgres://".to_owned());
    }
    for (name, value) in url.query_pairs() {
        let name = &*name;
        if let Some(name) = FILES.iter().find(|file| **file == name) {
            // The value may be the certificate or key itself.
            if !value.contains("-----BEGIN") {
                File::open(&*value).map_err(|error| format!("its file {name} cannot be read: {error}"))?;
            }
        } else if !(PARAMETERS.contains(&name) || name.starts_with("options[") && name.ends_with(']')) {
            let known = "sslmode, sslrootcert, sslcert, sslkey, host, port, user, password, dbname, options";
            return Err(format!("it has an unknown parameter; known are: {known}"));
        }
    }
    // sqlx's error about a wrong value contains the value.
    let options = dsn.reveal().parse();
    options.map_err(|_| "a value in it is wrong; for example, sslmode may be verify-full".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dsn: &str) -> Result<PgConnectOptions, String> {
        postgres_options(&Secret::new(dsn))
    }

    #[test]
    fn a_dsn_becomes_options() {
        let options = read("postgres://me:hunter2@db.example:5433/moltrade?sslmode=verify-full").unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("db.example", 5433));
        assert_eq!((options.get_username(), options.get_database()), ("me", Some("moltrade")));
        assert!(read("postgresql://me@db/x?options[work_mem]=8MB&sslrootcert=/dev/null").is_ok());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_dsn() {
        for (dsn, why) in [
            ("hunter2", "it is not a URL"),
            ("hunter2://me:x@db/x", "its scheme is not postgres://"),
            ("postgres://me:x@db/x?sslmode=hunter2", "a value in it is wrong"),
            ("postgres://me:x@db/x?port=hunter2", "a value in it is wrong"),
            ("postgres://me:x@db/x?passwort=hunter2", "an unknown parameter; known are: sslmode,"),
            ("postgres://me:x@db/x?hunter2=1", "an unknown parameter"),
            ("postgres://me:x@db/x?sslkey=/hunter2", "its file sslkey cannot be read: No such file"),
        ] {
            let error = read(dsn).expect_err(dsn);
            assert!(error.contains(why) && !error.contains("hunter2"), "{dsn}: {error}");
        }
    }
}
