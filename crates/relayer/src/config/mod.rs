//! The configuration: one struct a section, checked once at the start, valid from then on.
//!
//! `settings` declares every key with its help, default and rule; everything else follows from that
//! table. `raw` is a value before its check, `rule` the checks, `types` what passed them; `load`
//! puts defaults, file and environment together, `error` says what is wrong and where, `print`
//! writes the template and `check-config`'s answer. It reads no environment but what it is given.

mod settings;

mod types;

mod raw;

mod rule;

mod load;

mod error;

mod print;

pub use error::{ConfigErrors, Place, Problem};
pub use load::{DEFAULT_FILE, Loaded, environment};
pub use print::template;
pub use settings::{Config, Deduplication, Filters, Monitoring, Output, Postgres, Relay, Storage};
pub use types::{HostPort, HttpUrl, InvalidUrl, LogLevel, RelayUrl, Secret, URL_BYTES_MAX};
