//! The client side of the Nostr protocol: requests and their answers, subscriptions, refusals,
//! authentication.

mod answer;
mod authentication;
mod exchange;
mod refusal;
mod requests;
mod same_second;
mod subscription;

pub(crate) use answer::{Answer, Span, Window};
pub(crate) use authentication::Standing;
pub(crate) use exchange::{AfterRefusal, ConversationError, Exchange};
pub(crate) use refusal::{Refusal, RefusalKind};
pub(crate) use requests::{
    ClosedTarget, Expected, LiveState, Reply, Requests, is_backfill, is_reconciliation,
};
pub(crate) use subscription::{LIVE, Subscription, by_ids, request};
