//! One TCP connection to a sink: events out, acknowledgements in, and the cursor behind both.
//!
//! One loop does it all, so that acknowledgements are read while the socket takes nothing. What is held is
//! bounded: one chunk of the log, [the bytes for one write](super::outbox), and as many numbers as may be
//! unacknowledged.

use std::io;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::ack::Acks;
use super::flight::{BadAck, Flight};
use super::outbox::Outbox;
use super::stream::{Stream, not_ready};
use crate::clock::unix_ms;
use crate::config::TcpOptions;
use crate::event_log::StorageError;
use crate::limits::{SINK_CHATTER_BYTES_MAX, SINK_CLOSE_MAX, SINK_READ_BYTES};
use crate::receiver::Format;
use crate::receiver::ack::NotAnAck;
use crate::sink::feed::{Feed, Refilled};
use crate::sink::state::{Sink, SinkState};
use crate::sink::worker::{End, Worker, at};

/// How a TLS server begins that has got something else. No acknowledgement begins so, and no greeting.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Break {
    /// The sink closed it.
    #[error("it closed the connection")]
    Closed,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The sink does not acknowledge.
    #[error("it acknowledged nothing for {} s", .0.as_secs())]
    AckTimeout(Duration),
    /// The sink sent something else.
    #[error(transparent)]
    NotAnAck(#[from] NotAnAck),
    /// The sink acknowledged what it cannot have.
    #[error(transparent)]
    BadAck(#[from] BadAck),
    /// The sink should not say so much.
    #[error("it sent more than {SINK_CHATTER_BYTES_MAX} bytes, though it is not asked for acknowledgements")]
    Chatter,
    /// The sink does not understand us.
    #[error("it speaks TLS; set `tls = true`")]
    SpeaksTls,
}

impl Break {
    /// Whether the sink acknowledged something that cannot be, or did not acknowledge.
    pub const fn is_ack_error(&self) -> bool {
        matches!(self, Self::NotAnAck(_) | Self::BadAck(_) | Self::AckTimeout(_))
    }
}

/// Why delivery on a connection stopped.
#[derive(Debug)]
pub enum Stop {
    /// The connection is of no use any more.
    Break(Break),
    /// It is to stop.
    End(End),
}

impl From<Break> for Stop {
    fn from(broken: Break) -> Self {
        Self::Break(broken)
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection<'o> {
    stream: Stream,
    sink: Arc<Sink>,
    options: &'o TcpOptions,
    feed: Feed,
    outbox: Outbox,
    flight: Flight,
    acks: Acks,
    last_ack_at: Instant,
    chatter_bytes: u64,
    /// Whether the sink has said anything.
    has_answered: bool,
    /// Events that the sink has by this connection.
    had: u64,
}

impl<'o> Connection<'o> {
    /// Goes on after what the sink has.
    pub fn new(stream: Stream, worker: &Worker, options: &'o TcpOptions) -> Self {
        let format = if options.ack { Format::Envelope } else { Format::Event };
        let cursor = worker.sink.cursor();
        worker.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        Self {
            stream,
            sink: Arc::clone(&worker.sink),
            options,
            feed: Feed::after(cursor, &worker.log, &worker.sink),
            outbox: Outbox::new(options.framing, format),
            flight: Flight::after(cursor, options.ack),
            acks: Acks::new(options.framing),
            last_ack_at: Instant::now(),
            chatter_bytes: 0,
            has_answered: false,
            had: 0,
        }
    }

    /// Events that the sink has by this connection.
    pub const fn had(&self) -> u64 {
        self.had
    }

    /// Delivers until the connection ends, somebody interrupts, or everything is delivered and nothing more
    /// will come.
    pub async fn run(&mut self, worker: &mut Worker) -> Stop {
        loop {
            match self.turn(worker).await {
                Ok(()) => consume_budget().await,
                Err(stop) => {
                    worker.bookmark.advance(self.flight.delivered());
                    return stop;
                }
            }
        }
    }

    /// Does what can be done at once, then waits for something to happen.
    async fn turn(&mut self, worker: &mut Worker) -> Result<(), Stop> {
        self.fill(worker);
        self.write()?;
        worker.bookmark.advance(self.flight.delivered());
        self.sink.show_lag(self.feed.lag());
        if !self.feed.is_empty() && self.has_room() {
            return Ok(());
        }
        if self.feed.is_over() && self.flight.is_empty() {
            return Err(Stop::End(End::Stopping));
        }
        let wants_more = self.feed.is_empty() && !self.feed.is_over() && self.has_room();
        let has_bytes = !self.outbox.bytes().is_empty();
        let (save_due, ack_due) = (worker.bookmark.due(), self.ack_due());
        let (bookmark, stop, orders) = worker.parts();
        tokio::select! {
            ready = self.stream.writable(), if has_bytes => Ok(ready.map_err(Break::Broken)?),
            ready = self.stream.readable() => {
                ready.map_err(Break::Broken)?;
                Ok(self.receive()?)
            }
            refilled = self.feed.refill(), if wants_more => self.took(refilled),
            () = at(save_due), if save_due.is_some() => {
                bookmark.save().await.map_err(|error| Stop::End(error.into()))
            }
            () = at(ack_due), if ack_due.is_some() => Err(Break::AckTimeout(self.options.ack_timeout).into()),
            end = Worker::interrupted(stop, orders, true) => Err(Stop::End(end)),
        }
    }

    /// Whether another event may be on its way.
    fn has_room(&self) -> bool {
        self.outbox.has_room() && (!self.options.ack || self.flight.len() < self.options.max_unacked.get())
    }

    /// Gathers what is at hand, as far as there is room.
    fn fill(&mut self, worker: &Worker) {
        while self.has_room()
            && let Some(entry) = self.feed.next_at_hand()
        {
            if worker.selection.wants(&entry.event) {
                let end = self.outbox.push(entry);
                self.flight.queue(entry.seq, end);
            } else {
                self.flight.pass(entry.seq);
            }
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self) -> Result<(), Break> {
        if self.outbox.bytes().is_empty() {
            return Ok(());
        }
        match self.stream.try_write(self.outbox.bytes()) {
            Ok(count) => {
                let written = self.outbox.took(count);
                let had = self.flight.wrote(written, Instant::now());
                self.count(had);
                Ok(())
            }
            Err(error) => not_ready(error).map_err(Break::Broken),
        }
    }

    fn count(&mut self, had: u64) {
        self.had += had;
        self.sink.count_delivered(had);
    }

    /// Reads what the sink sent.
    fn receive(&mut self) -> Result<(), Break> {
        let mut bytes = [0; SINK_READ_BYTES];
        let count = match self.stream.try_read(&mut bytes) {
            Ok(0) => return Err(Break::Closed),
            Ok(count) => count,
            Err(error) => return not_ready(error).map_err(Break::Broken),
        };
        let bytes = bytes.get(..count).unwrap_or_default();
        let is_first = !replace(&mut self.has_answered, true);
        if is_first && !self.stream.is_tls() && bytes.starts_with(TLS_ALERT) {
            return Err(Break::SpeaksTls);
        }
        if !self.options.ack {
            self.chatter_bytes += count as u64;
            return if self.chatter_bytes > SINK_CHATTER_BYTES_MAX { Err(Break::Chatter) } else { Ok(()) };
        }
        let (acks, flight, mut had) = (&mut self.acks, &mut self.flight, 0);
        let read = acks.read(bytes, |number| {
            had += flight.acked(number)?;
            Ok::<_, Break>(())
        });
        if had > 0 {
            self.last_ack_at = Instant::now();
        }
        self.count(had);
        read
    }

    /// When the next acknowledgement must have come: so long after the last one, or after the event that it
    /// is about if that was sent later. So a slow sink is left alone as long as it goes on.
    fn ack_due(&self) -> Option<Instant> {
        let oldest = self.flight.oldest_unacked()?;
        Some(oldest.max(self.last_ack_at) + self.options.ack_timeout)
    }

    /// What was read of the log is at hand; what is lost is not waited for.
    fn took(&mut self, refilled: Result<Refilled, StorageError>) -> Result<(), Stop> {
        match refilled {
            Ok(Refilled::Lost(up_to)) => self.flight.skip(up_to),
            Ok(Refilled::More | Refilled::Over) => {}
            Err(error) => return Err(Stop::End(error.into())),
        }
        Ok(())
    }

    /// Ends what we send, and waits a little for the sink to end what it sends: a socket that is closed with
    /// something unread takes back what the other side has not read.
    pub async fn close(mut self, deadline: Option<Instant>) {
        let by = Instant::now() + SINK_CLOSE_MAX;
        let by = deadline.map_or(by, |deadline| by.min(deadline + SINK_CLOSE_MAX));
        let closing = async {
            self.stream.shutdown().await?;
            let mut bytes = [0; SINK_READ_BYTES];
            loop {
                // One that goes on sending must not keep the time from being looked at.
                consume_budget().await;
                self.stream.readable().await?;
                match self.stream.try_read(&mut bytes) {
                    Ok(0) => return Ok::<_, io::Error>(()),
                    Ok(_) => {}
                    Err(error) => not_ready(error)?,
                }
            }
        };
        drop(timeout_at(by, closing).await);
    }
}
