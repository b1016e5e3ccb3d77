//! What every receiver of the log has in common, whether we push to it ([`sink`](crate::sink)) or
//! it pulls from us ([`serve`](crate::serve)): the [`selection`] of events that it gets, and the
//! JSON of an acknowledgement ([`ack`]).

pub(crate) mod ack;
mod selection;

pub use selection::{Format, Selection};
