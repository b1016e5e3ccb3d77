//! Converts errors of the database to [`RegistryError`]. The texts have one line and never contain
//! the DSN.

use std::error::Error as _;
use std::io::ErrorKind;

use sqlx::Error;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use wire::PublicKey;

use super::super::store::RegistryError;

/// The maximum length of the server's text in our errors.
const TEXT_CHARACTERS_MAX: usize = 300;

pub(crate) fn classify(error: Error) -> RegistryError {
    match error {
        Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => from_server(error),
            None => RegistryError::Refused(one_line(error.message())),
        },
        // TLS errors are reported as invalid data.
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => RegistryError::Refused(one_line(error)),
        Error::Io(error) => RegistryError::Unreachable(one_line(error)),
        Error::PoolTimedOut => RegistryError::Unreachable("no connection in time".to_owned()),
        Error::PoolClosed | Error::WorkerCrashed => {
            RegistryError::Unreachable("the connections are closed".to_owned())
        }
        Error::Tls(error) => RegistryError::Refused(one_line(format_args!("TLS: {error}"))),
        Error::Protocol(error) => RegistryError::Refused(one_line(format_args!("protocol error: {error}"))),
        // The text may hold parts of the DSN.
        Error::Configuration(_) => RegistryError::Refused("the DSN cannot be used".to_owned()),
        Error::Migrate(error) => classify_migration(*error, i64::MAX),
        // A value is missing or has a wrong type.
        other => RegistryError::Damaged(one_line(match other.source() {
            Some(source) => source.to_string(),
            None => other.to_string(),
        })),
    }
}

/// Converts a migration error. `newest` is the last migration that this version knows.
pub(crate) fn classify_migration(error: MigrateError, newest: i64) -> RegistryError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => classify(error),
        MigrateError::VersionMissing(version) if version > newest => RegistryError::Newer(version),
        other => RegistryError::Damaged(one_line(other)),
    }
}

/// Converts an error that the server sent, according to its SQLSTATE.
fn from_server(error: &PgDatabaseError) -> RegistryError {
    let code = error.code();
    let text = one_line(format_args!("{} (SQLSTATE {code})", error.message()));
    match code {
        // foreign_key_violation: there is only one foreign key.
        "23503" => match error.detail().and_then(key_in) {
            Some(bot) => RegistryError::NoSuchBot(bot),
            None => RegistryError::Refused(text),
        },
        // read_only_sql_transaction: the server is a standby or was demoted, or a setting forbids
        // writes.
        "25006" => RegistryError::ReadOnly(text),
        // query_canceled, lock_not_available: waiting for a lock took too long, or somebody
        // cancelled the statement.
        "57014" | "55P03" => RegistryError::Busy(text),
        // The server is shutting down or starting, ended our connection, or does not know whether
        // the commit succeeded.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "40003" => RegistryError::Unreachable(text),
        // PostgreSQL rolled back the transaction because of concurrent transactions.
        _ if code.starts_with("40") => RegistryError::Busy(text),
        // The connection failed, or the server lacks resources.
        _ if ["08", "53"].iter().any(|class| code.starts_with(class)) => RegistryError::Unreachable(text),
        _ => RegistryError::Refused(text),
    }
}

/// Finds the key in `Key (bot)=(\x…) is not present in table "bots".`, also in translations of this
/// text.
fn key_in(detail: &str) -> Option<PublicKey> {
    let (_, rest) = detail.split_once("(\\x")?;
    let (hex, _) = rest.split_once(')')?;
    PublicKey::from_hex(hex.as_bytes()).ok()
}

/// Returns the first line of a text, without control characters and cut to the maximum length.
fn one_line(text: impl ToString) -> String {
    let text = text.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.chars().filter(|letter| !letter.is_control()).take(TEXT_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_short_line() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc"), "a[2Jb");
        assert_eq!(one_line("é".repeat(1_000)).chars().count(), TEXT_CHARACTERS_MAX);
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn errors_are_transient_or_not() {
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof] {
            assert!(classify(Error::Io(kind.into())).is_transient(), "{kind}");
        }
        assert!(classify(Error::PoolTimedOut).is_transient() && classify(Error::PoolClosed).is_transient());
        let configuration = Error::Configuration("postgres://me:hunter2@db".into());
        assert!(!classify(configuration).to_string().contains("hunter2"));
        assert!(matches!(classify_migration(MigrateError::VersionMissing(9), 2), RegistryError::Newer(9)));
        assert!(matches!(classify_migration(MigrateError::VersionMissing(1), 2), RegistryError::Damaged(_)));
    }

    #[test]
    fn the_missing_bot_is_named() {
        let detail = format!("Schlüssel (bot)=(\\x{}) ist nicht vorhanden", "07".repeat(32));
        assert_eq!(key_in(&detail), Some(PublicKey::from_bytes([7; 32])));
        assert_eq!(key_in("Key (bot)=(\\x07) is not there"), None);
    }
}
