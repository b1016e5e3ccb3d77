//! Connections that we open: to relays, to sinks, and for NIP-11 documents.
//!
//! A [dialer](dial) asks the [resolver] for the addresses of a name, keeps those that [may be
//! dialled](address), connects to the one that answers first, and secures the connection
//! ([tls], [handshake]). The result is a [Stream]. [Back-off](backoff) decides when a peer that
//! failed is tried again.

pub(crate) mod address;
pub(crate) mod backoff;
pub(crate) mod dial;
pub mod handshake;
pub mod resolver;
mod stream;
pub mod tls;

pub use dial::{ConnectError, Dialer};
pub use stream::Stream;
