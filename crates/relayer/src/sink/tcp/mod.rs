//! Sinks by TCP: connect, deliver, and after a rest again.
//!
//! [`connect`] makes the connection, a [`stream`] plain or in TLS. On it, a [`connection`] puts events into the [`outbox`], they stay in
//! [`flight`] until the sink has them, and [`ack`] says that it does.

pub mod ack;
pub mod connect;
pub mod connection;
pub mod flight;
pub mod outbox;
pub mod stream;

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::connect::remedy;
use self::connection::{Break, Connection, Stop};
use super::state::SinkState;
use super::worker::{End, Worker};
use crate::config::{HostPort, TcpOptions};
use crate::limits::SINK_BACKOFF_MAX;
use crate::net::backoff::Backoff;
use crate::net::{ConnectError, Dialer};

/// What brings events to one sink by TCP.
pub struct Transport {
    address: HostPort,
    options: TcpOptions,
    dialer: Dialer,
    backoff: Backoff,
    connections: u64,
    /// Why the sink was not connected, as it was last logged.
    trouble: Option<String>,
}

/// Why the sink is not connected.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Break(#[from] Break),
}

impl Transport {
    /// For a sink at an address, which `dialer` connects to.
    pub fn new(address: HostPort, options: TcpOptions, dialer: Dialer) -> Self {
        Self { address, options, dialer, backoff: Backoff::of_sink(), connections: 0, trouble: None }
    }

    /// Delivers for as long as nobody interrupts.
    pub async fn run(&mut self, worker: &mut Worker) -> End {
        loop {
            let trouble = match self.once(worker).await {
                Ok(end) => return end,
                Err(trouble) => trouble,
            };
            if let Err(error) = worker.bookmark.save().await {
                return error.into();
            }
            let rest = self.rest(&trouble, worker);
            tokio::select! {
                () = sleep(rest) => {}
                end = worker.interruption() => return end,
            }
        }
    }

    /// One connection from dialling to its end.
    async fn once(&mut self, worker: &mut Worker) -> Result<End, Trouble> {
        worker.sink.set_state(SinkState::Connecting);
        let stream = tokio::select! {
            connected = connect::connect(&self.address, &self.dialer, self.options.tls) => connected?,
            // What it has not got it gets when it is connected to again.
            end = worker.interruption() => return Ok(end),
        };
        self.connections += 1;
        if self.connections > 1 {
            worker.sink.reconnects.inc();
        }
        let sink = &worker.sink;
        tracing::info!(sink = &*sink.name, address = &*sink.address, cursor = %sink.cursor(), "sink connected");
        let began = Instant::now();
        let mut connection = Connection::new(stream, worker, &self.options);
        let stop = connection.run(worker).await;
        if connection.had() > 0 || began.elapsed() > SINK_BACKOFF_MAX {
            self.backoff.reset();
            self.trouble = None;
        }
        match stop {
            Stop::Break(broken) => Err(broken.into()),
            Stop::End(end @ End::Storage(_)) => Ok(end),
            Stop::End(end) => {
                connection.close(worker.deadline()).await;
                Ok(end)
            }
        }
    }

    /// How long the sink is left alone after this.
    fn rest(&mut self, trouble: &Trouble, worker: &Worker) -> Duration {
        if matches!(trouble, Trouble::Break(broken) if broken.is_ack_error()) {
            worker.sink.ack_errors.inc();
        }
        let (rest, reason) = (self.backoff.next_delay(), trouble.to_string());
        let (sink, milliseconds) = (&*worker.sink.name, rest.as_millis());
        // A sink that stays away does not fill the log.
        if self.trouble.as_deref() == Some(&reason) {
            tracing::debug!(sink, reason, milliseconds, "still not connected");
        } else {
            tracing::warn!(sink, reason, milliseconds, "sink not connected; it is tried again");
            self.trouble = Some(reason.clone());
        }
        worker.sink.rests(rest, reason);
        rest
    }
}

/// Without TLS, which has nothing to show.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("address", &self.address).finish_non_exhaustive()
    }
}
