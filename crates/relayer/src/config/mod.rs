//! The configuration: one struct per section, checked at startup and valid from then on.
//!
//! - `settings` declares every key of the file with its help, default and rule; `sinks` and
//!   `readers` declare the keys of a table in a list. Everything else follows from these tables;
//!   `key` defines their entries.
//! - `rules` check a `value` as it was written. The types of valid values are in `address`,
//!   `choices`, `network`, `secret`, `user_agent` and `webhook`; `dsn` reads the URL of PostgreSQL.
//! - `load` merges defaults, `file` and `environment`, and `reload` does so again. `names` suggests
//!   what an unknown name should have been, `check` compares keys with each other, and `error`
//!   holds the problems with their places.
//! - `print` writes the template and the output of `check-config`.

mod address;
mod check;
mod choices;
mod dsn;
mod environment;
mod error;
mod file;
mod key;
mod load;
mod names;
mod network;
mod print;
mod readers;
mod reload;
mod rules;
mod secret;
mod settings;
mod sinks;
mod user_agent;
mod value;
mod webhook;

pub use address::{HostPort, HttpUrl, InvalidUrl, PublicUrl, RelayUrl, WebOrigin};
pub use choices::{Compression, Framing, LogFormat, LogLevel, NotAllowed, Registration, Start};
pub(crate) use dsn::postgres_options;
pub use environment::environment;
pub use error::{ConfigErrors, Place, Problem};
pub use load::{DEFAULT_FILE, Loaded};
pub use network::Network;
pub use print::template;
pub use readers::{ReaderConfig, ReaderOptions};
pub use reload::{Source, restart_reason};
pub use secret::{Secret, SecretFile, SecretKey, Token};
pub use settings::{
    Api, Config, Deduplication, Fanout, Filters, Monitoring, Nostr, Output, Postgres, Relay, Storage,
};
pub(crate) use sinks::RestSink;
pub use sinks::{CommonOptions, RestOptions, SinkConfig, SinkName, SinkOptions, TcpOptions, TcpSink};
pub use user_agent::UserAgent;
pub use webhook::{Headers, InvalidSecret, SigningKeys};
