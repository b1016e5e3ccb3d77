//! What we ask a relay and what its answers mean: requests, subscriptions, refusals and authentication.

mod authentication;
mod refusal;
mod requests;
mod same_second;
mod subscription;

pub(crate) use authentication::Standing;
pub(crate) use refusal::{Refusal, RefusalKind};
pub(crate) use requests::{ClosedTarget, Expected, LiveState, Reply, Requests, is_past, is_reconciliation};
pub(crate) use subscription::{Form, LIVE, LiveForm, Subscription, by_ids, request};
