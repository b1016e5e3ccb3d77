//! Sets up logging to standard error through [`log_buffer`] in the format of [`record`], at the
//! configured level unless `RUST_LOG` is set.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_buffer;
use super::record::{self, Lines};

type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Sets the level, unless `RUST_LOG` is set.
static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Starts logging at this level for the gateway. A `RUST_LOG` that does not parse is reported in
/// the log itself.
pub fn start(level: &str) {
    let (filter, problem) = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Err(_) => (None, None),
        Ok(directives) => match EnvFilter::try_new(&directives) {
            Ok(filter) => (Some(filter), None),
            Err(error) => (None, Some(error)),
        },
    };
    let is_fixed = filter.is_some();
    let logging = tracing_subscriber::fmt()
        .with_writer(|| log_buffer::Line)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && !record::is_json())
        .event_format(Lines::default())
        .with_env_filter(filter.unwrap_or_else(|| filter_at(level)))
        .with_filter_reloading();
    let filter = logging.reload_handle();
    logging
        .finish()
        // RUST_LOG cannot override this filter.
        .with(filter_fn(|line| may_be_logged(line.target(), *line.level())))
        .init();
    if !is_fixed {
        let set = Box::new(move |level: &str| {
            // Reloading fails only if the subscriber no longer exists.
            let _ = filter.reload(filter_at(level));
        });
        // Logging starts only once.
        drop(SET_LEVEL.set(set));
    }
    if let Some(error) = problem {
        tracing::warn!(
            name: "rust_log_invalid",
            %error, "RUST_LOG is invalid and is ignored; [monitoring] log_level applies"
        );
    }
}

/// Logs at this level from now on. Has no effect if `RUST_LOG` is set.
pub(crate) fn set_level(level: &str) {
    if let Some(set) = SET_LEVEL.get() {
        set(level);
    }
}

fn filter_at(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,moltrade_relayer={level}"))
}

/// Whether a log line of a library is free of secrets.
fn may_be_logged(target: &str, level: Level) -> bool {
    // Debug lines of tungstenite contain whole messages of clients.
    let is_message = target.starts_with("tungstenite") && level > Level::INFO;
    // Warnings of `sqlx_postgres::options` contain values of the DSN and lines of .pgpass.
    let is_of_dsn = target.starts_with("sqlx_postgres::options");
    !is_message && !is_of_dsn
}
