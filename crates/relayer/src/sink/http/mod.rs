//! The HTTP transport: [`encode`] puts one event or a batch into a request, [`client`] posts it,
//! and [`delivery`] acts on the status of the [`response`]. [`in_flight`] tracks the batches that
//! the cursor must not pass.
//!
//! [`secrets`] removes the secrets of our requests from a sink's texts before we show them.

mod client;
mod delivery;
mod encode;
mod in_flight;
mod response;
mod secrets;

use std::sync::Arc;

pub(super) use self::client::Client;
use self::delivery::Delivery;
use super::transport::{Context, Interruption, Transport};
use crate::config::RestOptions;
use crate::net::backoff::Backoff;

/// Delivers to one sink over HTTP.
#[derive(Debug)]
pub(super) struct HttpTransport {
    client: Arc<Client>,
    options: RestOptions,
    backoff: Backoff,
}

impl HttpTransport {
    pub(super) fn new(client: Client, options: RestOptions) -> Self {
        Self { client: Arc::new(client), options, backoff: Backoff::of_sink() }
    }
}

impl Transport for HttpTransport {
    async fn run(&mut self, context: &mut Context) -> Interruption {
        let mut delivery = Delivery::new(&self.client, &self.options, &mut self.backoff, context);
        match delivery.run(context).await {
            failed @ Interruption::Storage(_) => failed,
            interruption => delivery.finish(context).await.map_or_else(Into::into, |()| interruption),
        }
    }
}
