//! The OpenAPI description of the API, made from the code.
//!
//! [`Routes`] registers a route together with its description. What a handler reads and answers
//! comes from its [`signature`], and the rest from an [`About`] beside the handler. [`errors`] has
//! the errors that several routes share, and [`messages`] describes what WebSockets carry.
//! [`mod@document`] makes the document, and [`pages`] serves it with a page for people.

mod document;
pub(super) mod errors;
mod messages;
mod operation;
pub(super) mod pages;
mod routes;
pub(super) mod signature;

pub(super) use document::document;
pub(super) use messages::{Envelope, EventPage, OfEvents, OfSignals};
pub(super) use operation::{About, Operation, Schemas, Tag};
pub(super) use routes::{Guard, Routes};
pub(super) use signature::Answer;
