//! The configuration: one struct a section, checked once at the start, valid from then on.
//!
//! `settings` declares every key with its help, default and rule; everything else follows from that
//! table. `raw` is a value before its check, `rule` the checks, `types`, `secret`, `sink` and
//! `webhook` what passed them, `dsn` what a DSN says; `environment` says which variables are ours,
//! `load` puts defaults, file and environment together, `reload` does so again and says what
//! differs, `error` says what is wrong and where, `print` writes the template and `check-config`'s
//! answer. It reads no environment but what it is given.

mod settings;

mod types;

mod secret;

mod dsn;

mod sink;

mod webhook;

mod raw;

mod rule;

mod environment;

mod load;

mod reload;

mod error;

mod print;

pub use dsn::postgres_options;
pub use environment::environment;
pub use error::{ConfigErrors, Place, Problem};
pub use load::{DEFAULT_FILE, Loaded};
pub use print::template;
pub use reload::{Source, needs_restart};
pub use secret::{Secret, SecretFile, SecretKey};
pub use settings::{
    Api, Config, Deduplication, Fanout, Filters, Monitoring, Nostr, Output, Postgres, Relay, Storage,
};
pub use sink::{
    CommonOptions, Compression, Framing, RestOptions, RestSink, SinkConfig, SinkName, SinkOptions, Start,
    TcpOptions, TcpSink,
};
pub use types::{
    HostPort, HttpUrl, InvalidUrl, LogLevel, PublicUrl, Registration, RelayUrl, URL_BYTES_MAX, UserAgent,
    WebOrigin,
};
pub use webhook::{Headers, InvalidSecret, SigningKeys};
