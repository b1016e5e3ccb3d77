//! Delivers over one TCP connection: sends events, reads acknowledgements, and moves the cursor.
//!
//! A single loop does all three, so acknowledgements are read even while the socket accepts
//! nothing. Memory is bounded: one chunk of the log, [the bytes of one write](super::encode), and
//! the numbers of at most `max_unacked` events.

use std::io;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use super::acks::Acks;
use super::encode::Encoder;
use super::in_flight::{InFlight, InvalidAck};
use super::writer::{Records, Writer};
use crate::clock::unix_ms;
use crate::config::TcpOptions;
use crate::event_log::StorageError;
use crate::limits::{SINK_CHATTER_BYTES_MAX, SINK_CLOSE_MAX, SINK_READ_BYTES};
use crate::net::Stream;
use crate::receiver::Format;
use crate::receiver::Heartbeat;
use crate::receiver::ack::NotAnAck;
use crate::receiver::sleep_until_some;
use crate::sink::feed::{Feed, Refilled};
use crate::sink::state::{Sink, SinkState};
use crate::sink::transport::{Context, Interruption};

/// A TLS server that receives something other than TLS answers with an alert, which begins with
/// these bytes. No acknowledgement or greeting begins with them.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// Why a connection can no longer be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("it closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it acknowledged nothing for {} s", .0.as_secs())]
    AckTimeout(Duration),
    #[error(transparent)]
    NotAnAck(#[from] NotAnAck),
    #[error(transparent)]
    InvalidAck(#[from] InvalidAck),
    #[error("it sent more than {SINK_CHATTER_BYTES_MAX} bytes although acknowledgements are off")]
    Chatter,
    #[error("it speaks TLS; set `tls = true`")]
    SpeaksTls,
}

impl ConnectionError {
    /// Whether an acknowledgement was wrong or missing.
    pub(super) const fn is_ack_error(&self) -> bool {
        matches!(self, Self::NotAnAck(_) | Self::InvalidAck(_) | Self::AckTimeout(_))
    }
}

/// Why delivery over a connection stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(ConnectionError),
    Interrupted(Interruption),
}

impl From<ConnectionError> for Stop {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error)
    }
}

#[derive(Debug)]
pub(super) struct Delivery<'o> {
    reader: ReadHalf<Stream>,
    read_buffer: Box<[u8]>,
    writer: Writer,
    is_tls: bool,
    sink: Arc<Sink>,
    options: &'o TcpOptions,
    feed: Feed,
    encoder: Encoder,
    in_flight: InFlight,
    acks: Acks,
    heartbeat: Option<Heartbeat>,
    last_ack_at: Instant,
    chatter_bytes: u64,
    /// Whether the sink has sent anything.
    has_answered: bool,
    delivered_events: u64,
}

impl<'o> Delivery<'o> {
    /// Continues after the cursor of the sink.
    pub(super) fn new(stream: Stream, context: &Context, options: &'o TcpOptions) -> Self {
        let (is_tls, records) = (matches!(stream, Stream::Tls(_)), Records::of(&stream));
        let (reader, writer) = tokio::io::split(stream);
        let format = if options.ack { Format::Envelope } else { Format::Event };
        context.sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        Self {
            reader,
            read_buffer: vec![0; SINK_READ_BYTES].into(),
            writer: Writer::new(writer, records),
            is_tls,
            sink: Arc::clone(&context.sink),
            options,
            feed: context.feed(),
            encoder: Encoder::new(options.framing, format),
            in_flight: InFlight::after(context.sink.cursor(), options.ack),
            acks: Acks::new(options.framing),
            heartbeat: options.heartbeat.map(Heartbeat::every),
            last_ack_at: Instant::now(),
            chatter_bytes: 0,
            has_answered: false,
            delivered_events: 0,
        }
    }

    /// The number of events that this connection delivered.
    pub(super) const fn delivered_events(&self) -> u64 {
        self.delivered_events
    }

    /// Delivers until the connection fails, until an interruption, or until the log is closed and
    /// the sink has every event.
    pub(super) async fn run(&mut self, context: &mut Context) -> Stop {
        loop {
            match self.step(context).await {
                Ok(()) => consume_budget().await,
                Err(stop) => {
                    context.cursor_writer.advance(self.in_flight.delivered());
                    return stop;
                }
            }
        }
    }

    /// Does everything that is possible at once, then waits until something happens.
    async fn step(&mut self, context: &mut Context) -> Result<(), Stop> {
        self.fill();
        if self.has_output()
            && let Some(written) = poll_immediate(self.writer.write(&mut self.encoder)).await
        {
            written.map_err(ConnectionError::Broken)?;
        }
        self.update_sent();
        context.cursor_writer.advance(self.in_flight.delivered());
        self.sink.show_lag(self.feed.lag());
        if !self.feed.is_empty() && self.has_room() {
            return Ok(());
        }
        // A line must not be cut.
        if self.feed.is_over() && self.in_flight.is_empty() && !self.has_output() {
            return Err(Stop::Interrupted(Interruption::Stopping));
        }
        let wants_more = self.feed.is_empty() && !self.feed.is_over() && self.has_room();
        let has_output = self.has_output();
        let (save_due, ack_due) = (context.cursor_writer.due(), self.ack_due());
        // While something waits for the socket, it is not quiet.
        let heartbeat_due = self.heartbeat.as_ref().filter(|_| !has_output).map(Heartbeat::due);
        let Context { cursor_writer, interrupts, .. } = context;
        tokio::select! {
            written = self.writer.write(&mut self.encoder), if has_output => {
                Ok(written.map_err(ConnectionError::Broken)?)
            }
            read = self.reader.read(&mut self.read_buffer) => {
                // The sink may acknowledge bytes that were written in this very step.
                self.update_sent();
                Ok(self.received(read)?)
            }
            refilled = self.feed.refill(), if wants_more => self.refilled(refilled),
            () = sleep_until_some(save_due), if save_due.is_some() => {
                cursor_writer.save().await.map_err(|error| Stop::Interrupted(error.into()))
            }
            () = sleep_until_some(ack_due), if ack_due.is_some() => Err(ConnectionError::AckTimeout(self.options.ack_timeout).into()),
            () = sleep_until_some(heartbeat_due), if heartbeat_due.is_some() => {
                self.push_heartbeat();
                Ok(())
            }
            interruption = interrupts.next_draining(true) => Err(Stop::Interrupted(interruption)),
        }
    }

    /// Whether another event may be in flight.
    fn has_room(&self) -> bool {
        self.encoder.has_room()
            && (!self.options.ack || self.in_flight.len() < self.options.max_unacked.get())
    }

    /// Encodes events that are in memory until the buffer is full.
    fn fill(&mut self) {
        let mut has_queued = false;
        while self.has_room()
            && let Some(entry) = self.feed.next_in_memory()
        {
            if self.sink.selection.wants(&entry.event) {
                let end = self.encoder.push(entry);
                self.in_flight.queue(entry.seq, end);
                has_queued = true;
            } else {
                self.in_flight.skip(entry.seq);
            }
        }
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| has_queued) {
            heartbeat.sent();
        }
    }

    /// Encodes a heartbeat. The socket has every event that was encoded before.
    fn push_heartbeat(&mut self) {
        let end = self.encoder.push_line(&Heartbeat::json(self.in_flight.passed()));
        self.in_flight.queue_heartbeat(end);
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.sent();
        }
    }

    /// Whether there are bytes to write or to flush.
    fn has_output(&self) -> bool {
        !self.encoder.bytes().is_empty() || self.writer.is_flushing()
    }

    /// Records which events the sink may have: those that the socket accepted.
    fn update_sent(&mut self) {
        let delivered = self.in_flight.sent(self.writer.flushed(), Instant::now());
        self.count(delivered);
    }

    fn count(&mut self, delivered: u64) {
        self.delivered_events += delivered;
        self.sink.count_delivered(delivered);
    }

    fn received(&mut self, read: io::Result<usize>) -> Result<(), ConnectionError> {
        let count = match read {
            Ok(0) => return Err(ConnectionError::Closed),
            Ok(count) => count,
            // A program that is killed closes the connection without the `close_notify` of TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ConnectionError::Closed);
            }
            Err(error) => return Err(ConnectionError::Broken(error)),
        };
        let bytes = self.read_buffer.get(..count).unwrap_or_default();
        let is_first = !replace(&mut self.has_answered, true);
        if is_first && !self.is_tls && bytes.starts_with(TLS_ALERT) {
            return Err(ConnectionError::SpeaksTls);
        }
        if !self.options.ack {
            self.chatter_bytes += count as u64;
            return if self.chatter_bytes > SINK_CHATTER_BYTES_MAX {
                Err(ConnectionError::Chatter)
            } else {
                Ok(())
            };
        }
        let (acks, in_flight, mut delivered) = (&mut self.acks, &mut self.in_flight, 0);
        let read = acks.read(bytes, |number| {
            delivered += in_flight.acked(number)?;
            Ok::<_, ConnectionError>(())
        });
        if delivered > 0 {
            self.last_ack_at = Instant::now();
        }
        self.count(delivered);
        read
    }

    /// Returns the deadline for the next acknowledgement: `ack_timeout` after the last
    /// acknowledgement, or after the oldest event in flight was sent, whichever is later. A slow
    /// sink may take its time as long as it acknowledges something.
    fn ack_due(&self) -> Option<Instant> {
        let oldest = self.in_flight.oldest_unacked()?;
        Some(oldest.max(self.last_ack_at) + self.options.ack_timeout)
    }

    fn refilled(&mut self, refilled: Result<Refilled, StorageError>) -> Result<(), Stop> {
        match refilled {
            Ok(Refilled::Lost(up_to)) => self.in_flight.lose(up_to),
            Ok(Refilled::More | Refilled::Over) => {}
            Err(error) => return Err(Stop::Interrupted(error.into())),
        }
        Ok(())
    }

    /// Closes our side, and waits briefly for the sink to close its side. Closing a socket with
    /// unread bytes sends a reset, which discards data that the other side has not read yet.
    pub(super) async fn close(mut self, deadline: Option<Instant>) {
        let by = Instant::now() + SINK_CLOSE_MAX;
        let by = deadline.map_or(by, |deadline| by.min(deadline + SINK_CLOSE_MAX));
        let closing = async {
            self.writer.shutdown().await?;
            // Tokio's budget lets the timeout fire even if the sink never stops sending.
            while self.reader.read(&mut self.read_buffer).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        drop(timeout_at(by, closing).await);
    }
}
