//! What we ask a relay and what its answers mean: requests, subscriptions, refusals and authentication.

mod authentication;
mod desk;
mod refusal;
mod same_second;
mod subscription;

pub(crate) use authentication::Standing;
pub(crate) use desk::{Desk, Ended, Live, Reply, Wanted, is_past, is_reconciliation};
pub(crate) use refusal::{Refusal, RefusalKind};
pub(crate) use subscription::{Form, LIVE, LiveForm, Subscription, by_ids, request};
