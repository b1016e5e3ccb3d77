//! The TCP transport: connects, delivers, and reconnects after a back-off.
//!
//! [`client`] dials, [`encode`] frames events, and [`writer`] writes and flushes the frames, with
//! or without TLS. [`in_flight`] tracks the events that the cursor must not pass, [`acks`] reads
//! acknowledgements, and [`delivery`] is the loop.

mod acks;
mod client;
mod delivery;
mod encode;
mod in_flight;
mod writer;

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::client::remedy;
use self::delivery::{ConnectionError, Delivery, Stop};
use super::state::SinkState;
use super::transport::{Context, Interruption, Transport};
use crate::config::{HostPort, TcpOptions};
use crate::limits::SINK_BACKOFF_MAX;
use crate::net::backoff::Backoff;
use crate::net::{ConnectError, Dialer};

/// Delivers to one sink over TCP.
pub(super) struct TcpTransport {
    address: HostPort,
    options: TcpOptions,
    dialer: Dialer,
    backoff: Backoff,
    connections: u64,
    /// The failure that was logged last.
    logged: Option<String>,
}

/// Why the sink is not connected.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl Transport for TcpTransport {
    async fn run(&mut self, context: &mut Context) -> Interruption {
        loop {
            let failure = match self.connect_and_deliver(context).await {
                Ok(interruption) => return interruption,
                Err(failure) => failure,
            };
            if let Err(error) = context.cursor_writer.save().await {
                return error.into();
            }
            let rest = self.back_off(&failure, context);
            tokio::select! {
                () = sleep(rest) => {}
                interruption = context.interrupts.next() => return interruption,
            }
        }
    }
}

impl TcpTransport {
    pub(super) fn new(address: HostPort, options: TcpOptions, dialer: Dialer) -> Self {
        Self { address, options, dialer, backoff: Backoff::of_sink(), connections: 0, logged: None }
    }

    async fn connect_and_deliver(&mut self, context: &mut Context) -> Result<Interruption, Failure> {
        context.sink.set_state(SinkState::Connecting);
        let stream = tokio::select! {
            connected = client::connect(&self.address, &self.dialer, self.options.tls) => connected?,
            // Over the next connection, the sink gets the events that it misses now.
            interruption = context.interrupts.next() => return Ok(interruption),
        };
        self.connections += 1;
        if self.connections > 1 {
            context.sink.reconnects.inc();
        }
        let sink = &context.sink;
        tracing::info!(
            name: "sink_connected",
            sink = &*sink.name, address = &*sink.address, cursor = sink.cursor().get(), "sink connected"
        );
        let began = Instant::now();
        let mut delivery = Delivery::new(stream, context, &self.options);
        let stop = delivery.run(context).await;
        if delivery.delivered_events() > 0 || began.elapsed() > SINK_BACKOFF_MAX {
            self.backoff.reset();
            self.logged = None;
        }
        match stop {
            Stop::Failed(error) => Err(error.into()),
            Stop::Interrupted(interruption @ Interruption::Storage(_)) => Ok(interruption),
            Stop::Interrupted(interruption) => {
                delivery.close(context.interrupts.deadline()).await;
                Ok(interruption)
            }
        }
    }

    /// Records the failure, and returns the time until the next attempt.
    fn back_off(&mut self, failure: &Failure, context: &Context) -> Duration {
        if matches!(failure, Failure::Connection(error) if error.is_ack_error()) {
            context.sink.ack_errors.inc();
        }
        let (rest, reason) = (self.backoff.next_delay(), failure.to_string());
        let (sink, milliseconds) = (&*context.sink.name, rest.as_millis());
        // The same failure is logged once, so that a failing sink does not fill the log.
        if self.logged.as_deref() == Some(&reason) {
            tracing::debug!(sink, reason, milliseconds, "sink still not connected");
        } else {
            tracing::warn!(
                name: "sink_retrying",
                sink, reason, milliseconds, "sink not connected; Relayer tries again"
            );
            self.logged = Some(reason.clone());
        }
        context.sink.set_retrying(rest, reason);
        rest
    }
}

/// Omits the TLS configuration, which cannot be printed.
impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport").field("address", &self.address).finish_non_exhaustive()
    }
}
