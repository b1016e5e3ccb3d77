//! What all receivers of the log have in common, whether we push to them ([`sink`](crate::sink)) or
//! they pull from us ([`serve`](crate::serve)): the [`selection`] of events, and the JSON of an
//! acknowledgement ([`ack`]).

pub(crate) mod ack;
mod selection;

pub use selection::{Format, Selection};

/// Waits until `time`, or forever if there is none.
pub(crate) async fn sleep_until_some(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
