//! Sinks by HTTP: events are posted, and what the sink answers decides.
//!
//! A [`delivery`] keeps the order and the cursor: it makes a [`post`] of one event or a batch, the
//! [`client`] sends it, and the [`answer`] says whether the sink has it, refuses it, is gone, or is
//! to be asked again. [`pending`] is what the sink does not have yet, [`refusals`] says when it
//! refuses whatever comes, [`secrets`] keeps our secrets out of what is shown of its words.

pub mod answer;
pub mod client;
pub mod delivery;
pub mod pending;
pub mod post;
pub mod refusals;
pub mod secrets;

use std::sync::Arc;

use self::client::Client;
use self::delivery::Delivery;
use super::worker::{End, Worker};
use crate::config::RestOptions;
use crate::net::backoff::Backoff;

/// What brings events to one sink by HTTP.
#[derive(Debug)]
pub struct Transport {
    client: Arc<Client>,
    options: RestOptions,
    backoff: Backoff,
}

impl Transport {
    /// For a sink that this client reaches.
    pub fn new(client: Client, options: RestOptions) -> Self {
        Self { client: Arc::new(client), options, backoff: Backoff::of_sink() }
    }

    /// Delivers for as long as nobody interrupts.
    pub async fn run(&mut self, worker: &mut Worker) -> End {
        let mut delivery = Delivery::new(&self.client, &self.options, &mut self.backoff, worker);
        let end = delivery.run(worker).await;
        if !matches!(end, End::Storage(_)) { delivery.finish(worker).await.unwrap_or(end) } else { end }
    }
}
