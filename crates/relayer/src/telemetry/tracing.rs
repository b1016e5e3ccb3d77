//! Sets up logging to standard error through [`log_buffer`] in the format of [`record`], at the
//! configured level unless `RUST_LOG` is set.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_buffer;
use super::record::{self, Lines};

/// Starts logging at this level for the gateway. A `RUST_LOG` that does not parse is reported in
/// the log itself.
pub fn start(level: &str) {
    let configured = || EnvFilter::new(format!("warn,moltrade_relayer={level}"));
    let (filter, problem) = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Err(_) => (configured(), None),
        Ok(directives) => match EnvFilter::try_new(&directives) {
            Ok(filter) => (filter, None),
            Err(error) => (configured(), Some(error)),
        },
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| log_buffer::Line)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && !record::is_json())
        .event_format(Lines::default())
        .finish()
        // RUST_LOG cannot override this filter.
        .with(filter_fn(|line| may_be_logged(line.target(), *line.level())))
        .init();
    if let Some(error) = problem {
        tracing::warn!(
            name: "rust_log_invalid",
            %error, "RUST_LOG is invalid and is ignored; [monitoring] log_level applies"
        );
    }
}

/// Whether a log line of a library is free of secrets.
fn may_be_logged(target: &str, level: Level) -> bool {
    // Debug lines of tungstenite contain whole messages of clients.
    let is_message = target.starts_with("tungstenite") && level > Level::INFO;
    // Warnings of `sqlx_postgres::options` contain values of the DSN and lines of .pgpass.
    let is_of_dsn = target.starts_with("sqlx_postgres::options");
    !is_message && !is_of_dsn
}
