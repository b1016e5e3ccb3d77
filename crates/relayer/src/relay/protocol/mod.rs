//! The client side of the Nostr protocol.
//!
//! An [`exchange`] sends [`requests`] and waits for each [`answer`]; [`same_second`] orders the
//! events of one second. [`subscription`] builds our filters, [`refusal`] parses what a relay says
//! instead of an answer, and [`authentication`] proves our key (NIP-42).

mod answer;
mod authentication;
mod exchange;
mod refusal;
mod requests;
mod same_second;
mod subscription;

pub(crate) use answer::{Answer, Span, Window};
pub(crate) use authentication::Standing;
pub(crate) use exchange::{AfterRefusal, Exchange, ExchangeError};
pub(crate) use refusal::{Refusal, RefusalKind};
pub(crate) use requests::{
    ClosedTarget, Expected, LiveState, Reply, Requests, is_backfill, is_reconciliation,
};
pub(crate) use subscription::{LIVE, Subscription, by_ids, request};
