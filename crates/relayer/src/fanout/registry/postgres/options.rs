//! How a session is, wherever the DSN leads.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::super::store::RegistryError;
use super::schema::SCHEMA;
use crate::config::{Secret, postgres_options};
use crate::limits::{REGISTRY_LOCK_MAX, REGISTRY_ROWS_TIMEOUT};

/// How to connect.
pub fn options(dsn: &Secret) -> Result<PgConnectOptions, RegistryError> {
    let options = postgres_options(dsn)
        .map_err(|why| RegistryError::Refused(format!("the DSN cannot be used: {why}")))?;
    let milliseconds = |time: Duration| time.as_millis().to_string();
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

    #[test]
    fn our_settings_go_with_those_of_the_dsn() {
        let options = options(&Secret::new("postgres://me@db/x?options[work_mem]=8MB")).unwrap();
        assert_eq!(options.get_application_name(), Some("moltrade-relayer"));
        let settings = options.get_options().unwrap();
        assert!(settings.contains("search_path=moltrade_relayer,pg_temp"), "{settings}");
        assert!(settings.contains("work_mem=8MB"), "{settings}");
    }

    #[test]
    fn what_is_wrong_is_said_without_a_word_of_it() {
        let error = options(&Secret::new("postgres://me:x@db/x?passwort=hunter2")).unwrap_err().to_string();
        assert!(error.contains("an unknown parameter") && !error.contains("hunter2"), "{error}");
    }
}
