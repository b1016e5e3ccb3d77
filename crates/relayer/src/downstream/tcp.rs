//! One TCP connection to a sink: events out, acknowledgements in, and the cursor behind both.
//!
//! One loop does it all, so that acknowledgements are read while the socket takes nothing. What is held is
//! bounded: one chunk of the log, [the bytes for one write](super::outbox), and as many numbers as may be
//! unacknowledged.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::ack::{Acks, NotAnAck};
use super::bookmark::Bookmark;
use super::flight::{BadAck, Flight};
use super::outbox::Outbox;
use super::selection::{Format, Selection};
use super::sink::{Sink, SinkState};
use crate::config::{HostPort, TcpOptions};
use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, EventLog, Seq, StorageError, keys};
use crate::ingest::candidate::unix_ms;
use crate::limits::{
    ADDRESSES_TRIED_MAX, DIAL_STEP_TIMEOUT, LIVE_LAG_MAX, SINK_CHATTER_BYTES_MAX, SINK_CLOSE_MAX,
    SINK_KEEPALIVE, SINK_KEEPALIVE_INTERVAL, SINK_KEEPALIVE_PROBES, SINK_READ_BYTES,
};
use crate::relay::resolver::{LookupError, Lookups};
use crate::relay::tcp;

/// When the gateway is stopping: by when sinks must be gone.
pub type Deadline = watch::Receiver<Option<Instant>>;

/// Why a connection ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// DNS.
    #[error("{0} has no address")]
    NoAddress(String),
    /// DNS.
    #[error("DNS does not answer")]
    NoAnswer,
    /// Nobody accepts.
    #[error("it cannot be connected to: {0}")]
    Refused(io::Error),
    /// Nobody accepts, and nobody refuses.
    #[error("it does not accept connections within {} s", DIAL_STEP_TIMEOUT.as_secs())]
    Timeout,
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
    /// The gateway is stopping, and the sink has everything or its time is over.
    #[error("the gateway is stopping")]
    Stopping,
    /// The log failed. The process must not go on.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl End {
    /// Whether the sink acknowledged something that cannot be.
    pub const fn is_ack_error(&self) -> bool {
        matches!(self, Self::NotAnAck(_) | Self::BadAck(_) | Self::AckTimeout(_))
    }
}

/// Connects to whichever address of the host answers first. The name is looked up each time.
///
/// # Errors
/// When there is none, or none accepts.
pub async fn connect(address: &HostPort, lookups: &Lookups) -> Result<TcpStream, End> {
    let (host, port) = (address.host(), address.port());
    let found = lookups.addresses(host).await.map_err(|error| match error {
        LookupError::NoSuchName => End::NoAddress(host.to_owned()),
        LookupError::Timeout => End::NoAnswer,
        LookupError::Failed(error) => End::Refused(error),
    })?;
    let addresses = found.into_iter().take(ADDRESSES_TRIED_MAX).map(|ip| SocketAddr::new(ip, port));
    let stream = timeout(DIAL_STEP_TIMEOUT, tcp::connect(addresses)).await;
    let stream = stream.map_err(|_| End::Timeout)?.map_err(End::Refused)?;
    let keepalive = TcpKeepalive::new()
        .with_time(SINK_KEEPALIVE)
        .with_interval(SINK_KEEPALIVE_INTERVAL)
        .with_retries(SINK_KEEPALIVE_PROBES);
    // Without it a host that vanished is only noticed with the next event.
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(End::Broken)?;
    Ok(stream)
}

/// An open connection.
#[derive(Debug)]
pub struct Connection<'w> {
    stream: TcpStream,
    log: &'w Arc<EventLog>,
    sink: &'w Sink,
    options: &'w TcpOptions,
    selection: &'w Selection,
    reader: Reader,
    /// What was read of the log, and how much of it is dealt with.
    chunk: Option<(Chunk, usize)>,
    log_is_over: bool,
    outbox: Outbox,
    flight: Flight,
    acks: Acks,
    last_ack_at: Instant,
    chatter_bytes: u64,
    is_live: bool,
    /// Events that the sink has by this connection.
    had: u64,
}

impl<'w> Connection<'w> {
    /// Goes on after what the sink has.
    pub fn new(
        stream: TcpStream,
        log: &'w Arc<EventLog>,
        sink: &'w Sink,
        options: &'w TcpOptions,
        selection: &'w Selection,
    ) -> Self {
        let format = if options.ack { Format::Envelope } else { Format::Event };
        let cursor = sink.cursor();
        sink.set_state(SinkState::CatchingUp { since_ms: unix_ms() });
        Self {
            stream,
            log,
            sink,
            options,
            selection,
            reader: log.reader(cursor),
            chunk: None,
            log_is_over: false,
            outbox: Outbox::new(options.framing, format),
            flight: Flight::after(cursor, options.ack),
            acks: Acks::new(options.framing),
            last_ack_at: Instant::now(),
            chatter_bytes: 0,
            is_live: false,
            had: 0,
        }
    }

    /// Events that the sink has by this connection.
    pub const fn had(&self) -> u64 {
        self.had
    }

    /// Delivers until the connection ends, or everything is delivered and nothing more will come.
    pub async fn run(&mut self, bookmark: &mut Bookmark, stop: &mut Deadline) -> End {
        loop {
            match self.turn(bookmark, stop).await {
                Ok(()) => consume_budget().await,
                Err(end) => {
                    bookmark.advance(self.flight.delivered());
                    return end;
                }
            }
        }
    }

    /// Does what can be done at once, then waits for something to happen.
    async fn turn(&mut self, bookmark: &mut Bookmark, stop: &mut Deadline) -> Result<(), End> {
        self.fill();
        self.write()?;
        bookmark.advance(self.flight.delivered());
        self.show_state();
        if self.chunk.is_some() && self.has_room() {
            return Ok(());
        }
        if self.log_is_over && self.chunk.is_none() && self.flight.is_empty() {
            return Err(End::Stopping);
        }
        let wants_more = self.chunk.is_none() && !self.log_is_over && self.has_room();
        let has_bytes = !self.outbox.bytes().is_empty();
        let (save_due, ack_due) = (bookmark.due(), self.ack_due());
        tokio::select! {
            ready = self.stream.writable(), if has_bytes => ready.map_err(End::Broken),
            ready = self.stream.readable() => ready.map_err(End::Broken).and_then(|()| self.receive()),
            next = self.reader.next(), if wants_more => self.took(next),
            () = at(save_due), if save_due.is_some() => Ok(bookmark.save().await?),
            () = at(ack_due), if ack_due.is_some() => Err(End::AckTimeout(self.options.ack_timeout)),
            () = passed(stop) => Err(End::Stopping),
        }
    }

    /// Whether another event may be on its way.
    fn has_room(&self) -> bool {
        self.outbox.has_room() && (!self.options.ack || self.flight.len() < self.options.max_unacked.get())
    }

    /// Gathers what was read, and what is in memory after it, as far as there is room.
    fn fill(&mut self) {
        while self.has_room() {
            if self.chunk.is_none() {
                let Some(next) = self.reader.next_in_memory() else { return };
                self.chunk = Some((next, 0));
            }
            let Some((chunk, done)) = &mut self.chunk else { return };
            match chunk.entries().get(*done) {
                Some(entry) => {
                    *done += 1;
                    if self.selection.wants(&entry.event) {
                        let end = self.outbox.push(entry);
                        self.flight.queue(entry.seq, end);
                    } else {
                        self.flight.pass(entry.seq);
                    }
                }
                None => {
                    self.chunk = None;
                    return; // To whoever wants next to nothing: others must have the thread, too.
                }
            }
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self) -> Result<(), End> {
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
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Broken(error)),
        }
    }

    fn count(&mut self, had: u64) {
        self.had += had;
        self.sink.delivered.inc_by(had);
    }

    /// Reads what the sink sent.
    fn receive(&mut self) -> Result<(), End> {
        let mut bytes = [0; SINK_READ_BYTES];
        let count = match self.stream.try_read(&mut bytes) {
            Ok(0) => return Err(End::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(End::Broken(error)),
        };
        if !self.options.ack {
            self.chatter_bytes += count as u64;
            return if self.chatter_bytes > SINK_CHATTER_BYTES_MAX { Err(End::Chatter) } else { Ok(()) };
        }
        let (acks, flight, mut had) = (&mut self.acks, &mut self.flight, 0);
        let read = acks.read(bytes.get(..count).unwrap_or_default(), |number| {
            had += flight.acked(number)?;
            Ok::<_, End>(())
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

    /// Takes what was read of the log.
    fn took(&mut self, next: Result<Option<Chunk>, ReadError>) -> Result<(), End> {
        match next {
            Ok(Some(chunk)) => {
                // A reader at the very beginning starts at the oldest event, whichever that is.
                if self.flight.is_at_start()
                    && let Some(first) = chunk.entries().first()
                {
                    self.skip_to(first.seq.min(self.log.floor()));
                }
                self.chunk = Some((chunk, 0));
            }
            Ok(None) => self.log_is_over = true,
            Err(ReadError::Trimmed { oldest }) => {
                self.skip_to(oldest);
                self.reader = self.log.reader(keys::before(oldest));
            }
            Err(ReadError::Storage(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says that everything before `oldest` that the sink was not sent is lost to it.
    fn skip_to(&mut self, oldest: Seq) {
        let (first, last) = (self.flight.passed().next(), keys::before(oldest));
        if Cursor::after(first) > last {
            return;
        }
        self.sink.lost.inc_by(oldest.get() - first.get());
        tracing::error!(
            sink = &*self.sink.name,
            %first,
            %last,
            "retention has trimmed events that the sink did not have yet: it does not get them"
        );
        self.flight.skip(last);
    }

    fn show_state(&mut self) {
        let lag = self.log.head().get().saturating_sub(self.flight.passed().get());
        let is_live = if self.is_live { lag <= LIVE_LAG_MAX } else { lag == 0 };
        if is_live == self.is_live {
            return;
        }
        self.is_live = is_live;
        let since_ms = unix_ms();
        let state = if is_live { SinkState::Live { since_ms } } else { SinkState::CatchingUp { since_ms } };
        self.sink.set_state(state);
    }

    /// Ends what we send, and waits a little for the sink to end what it sends: a socket that is closed with
    /// something unread takes back what the other side has not read.
    pub async fn close(mut self, stop: &Deadline) {
        let by = Instant::now() + SINK_CLOSE_MAX;
        let by = (*stop.borrow()).map_or(by, |deadline| by.min(deadline + SINK_CLOSE_MAX));
        let closing = async {
            tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await?;
            let mut bytes = [0; SINK_READ_BYTES];
            while tokio::io::AsyncReadExt::read(&mut self.stream, &mut bytes).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        drop(timeout_at(by, closing).await);
    }
}

/// Comes back at a time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Comes back when the gateway is stopping and time is over. A sender that is gone means the same.
async fn passed(stop: &mut Deadline) {
    let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    if let Some(deadline) = deadline {
        sleep_until(deadline).await;
    }
}
