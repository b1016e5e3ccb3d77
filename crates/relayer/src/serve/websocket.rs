//! One client of a WebSocket: its socket is fed from a [source](super::source) as fast as it takes it.
//!
//! A client that stops reading blocks nothing but its own task, which holds one chunk of the log at most.
//! What it misses meanwhile is read from the log when it goes on. It is closed when it is [too slow](super::slow)
//! or no longer there, and when retention has trimmed what comes next, because then nothing could be
//! delivered without a gap.
//!
//! What it says is heard while it is waited for, too: a consumer may acknowledge what it has without taking
//! more.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::future::poll_immediate;
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::clients::Client;
use super::farewell::{End, Farewell};
use super::said::acknowledged;
use super::seat::{Replacement, Seat};
use super::slow::{Beat, Look, Patience, Pulse, Taken, Watch};
use super::source::{Damaged, Source};

use crate::event_log::reader::Chunk;
use crate::event_log::{Cursor, Entry};
use crate::limits::CLIENT_FLUSH_BYTES;
use crate::telemetry::metrics::ClientCounts;

/// What a client gets, and how.
#[derive(Debug)]
pub struct Session<S> {
    source: S,
    counts: ClientCounts,
    /// What is after this was committed while the client was there.
    live_after: Cursor,
    /// Up to here nothing waits for the client's socket.
    flushed: Cursor,
    /// The last event that its socket was handed, or where it began.
    sent: Cursor,
    /// Of a client whose cursor we keep.
    seat: Option<Seat>,
    patience: Patience,
    taken: Taken,
    pulse: Pulse,
}

/// What was handed to the socket since it was last flushed.
#[derive(Debug, Default)]
struct Unflushed {
    messages: u64,
    bytes: usize,
    /// When the first of them was received, of those that were not replayed.
    oldest: Option<Instant>,
}

impl<S: Source> Session<S> {
    /// A session that goes on where the source stands. `head` is the end of the log as the client found it,
    /// `taken` what the client's socket takes.
    pub fn new(source: S, head: Cursor, counts: ClientCounts, patience: Patience, taken: Taken) -> Self {
        let flushed = source.cursor();
        let pulse = Pulse::default();
        let (sent, seat) = (flushed, None);
        Self { source, counts, live_after: head, flushed, sent, seat, patience, taken, pulse }
    }

    /// The session of a consumer whose cursor we keep, which is where the source stands.
    pub fn of(self, seat: Seat) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Serves the client until it goes, is given up, falls behind what is kept, another one has its name, or the
    /// gateway stops.
    pub async fn run(mut self, mut socket: WebSocket, mut client: Client) {
        let replacement = self.seat.as_ref().map(Seat::replacement);
        let mut end = tokio::select! {
            end = self.deliver(&mut socket) => end,
            () = client.deadline() => End::Stopping,
            () = replaced(replacement) => End::Replaced,
        };
        let consumer = self.seat.as_ref().map(|seat| seat.name().to_owned());
        // Before the client has heard it: who waits for its seat need not wait for that.
        if let Some(seat) = self.seat.take()
            && let Err(error) = seat.leave().await
        {
            end = End::Unwritten(error);
        }
        self.counts.closed(end.reason()).inc();
        let (path, origin) = (self.counts.path, client.origin());
        let (cursor, flushed, head) = (self.source.cursor(), self.flushed, self.source.head());
        Farewell { end, path, origin, consumer, cursor, flushed, head }.say(socket).await;
    }

    async fn deliver(&mut self, socket: &mut WebSocket) -> End {
        // Whatever was late, there is a whole interval to answer in.
        let mut pings = self.patience.ping_interval.map(every);
        loop {
            if let Err(end) = self.tell(socket).await {
                return end;
            }
            let save_due = self.seat.as_ref().and_then(Seat::due);
            let done = tokio::select! {
                next = self.source.next() => match next {
                    Ok(Some(chunk)) => self.send(socket, chunk).await,
                    Ok(None) => Err(End::Stopping),
                    Err(error) => Err(End::Read(error)),
                },
                message = socket.next() => self.hear(message),
                () = tick(&mut pings) => self.ping(socket).await,
                () = at(save_due) => self.save().await,
            };
            if let Err(end) = done {
                return end;
            }
            // A client that wants next to nothing of a long log must let others have the thread, too.
            consume_budget().await;
        }
    }

    /// Sends what the client must know before any further event.
    async fn tell(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let Some(mut notice) = self.source.notice() else { return Ok(()) };
        loop {
            self.write(socket, Message::Text(notice)).await?;
            match self.source.notice() {
                Some(next) => notice = next,
                None => return self.patiently(socket, Sink::poll_flush).await,
            }
        }
    }

    /// What the client said: at least that it is there. Pings are answered by the socket.
    fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::ClientGone) };
        if let Message::Close(_) = message {
            return Err(End::ClientGone);
        }
        self.pulse.heard();
        if let Some(seat) = &mut self.seat
            && let Some(cursor) = acknowledged(&message, seat.cursor(), self.sent).map_err(End::BadAck)?
        {
            seat.acknowledge(cursor);
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), End> {
        match &mut self.seat {
            Some(seat) => seat.save().await.map_err(End::Unwritten),
            None => Ok(()),
        }
    }

    async fn ping(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        if self.pulse.beat() == Beat::Gone {
            // Its answer may be there, and not have been looked at while something else was done.
            match socket.next().now_or_never() {
                Some(message @ Some(Ok(_))) => self.hear(message)?,
                _ => return Err(End::Silent),
            }
        }
        // Nothing else waits, least of all what the source has passed without giving it.
        self.flushed = self.source.cursor();
        self.write(socket, Message::Ping(Bytes::new())).await?;
        self.patiently(socket, Sink::poll_flush).await
    }

    /// Hands a chunk to the socket, and what follows it in memory, so that one write carries many events;
    /// but never waits for more.
    async fn send(&mut self, socket: &mut WebSocket, mut chunk: Chunk) -> Result<(), End> {
        let mut unflushed = Unflushed::default();
        let mut sent = 0;
        // What the source has passed without giving it does not wait for the socket: it makes nobody slow.
        if let Some(first) = chunk.entries().first() {
            self.flushed = self.flushed.max(Cursor::before(first.seq));
        }
        loop {
            for entry in chunk.entries() {
                sent += self.feed(socket, entry, &mut unflushed).await?;
                if unflushed.bytes >= CLIENT_FLUSH_BYTES {
                    self.flush(socket, &mut unflushed, Cursor::after(entry.seq)).await?;
                }
            }
            if sent >= CLIENT_FLUSH_BYTES {
                break;
            }
            match self.source.next_in_memory() {
                Some(next) => chunk = next,
                None => break,
            }
            consume_budget().await;
        }
        let up_to = self.source.cursor();
        self.flush(socket, &mut unflushed, up_to).await
    }

    /// Waits until the socket has all that it was handed, which goes up to a cursor.
    async fn flush(
        &mut self,
        socket: &mut WebSocket,
        unflushed: &mut Unflushed,
        up_to: Cursor,
    ) -> Result<(), End> {
        let Unflushed { messages, oldest, .. } = std::mem::take(unflushed);
        if messages > 0 {
            self.patiently(socket, Sink::poll_flush).await?;
            self.counts.messages.inc_by(messages);
        }
        if let Some(oldest) = oldest {
            self.counts.latency.observe(oldest.elapsed().as_secs_f64());
        }
        self.flushed = up_to;
        Ok(())
    }

    /// Waits for the socket to take something, for as long as the client's slowness is to be borne, and hears
    /// what it says meanwhile.
    async fn patiently(&mut self, socket: &mut WebSocket, write: Write) -> Result<(), End> {
        // Almost always there is room, and then this costs no look at the clock.
        if let Some(written) = poll_immediate(poll_fn(|cx| write(Pin::new(&mut *socket), cx))).await {
            return written.map_err(|_| End::ClientGone);
        }
        let (began, mut watch) = (Instant::now(), Watch::new(self.taken.get()));
        // However much it says, it is looked at.
        let mut looks = every(self.patience.look_every());
        loop {
            let save_due = self.seat.as_ref().and_then(Seat::due);
            tokio::select! {
                step = poll_fn(|cx| step(socket, write, cx)) => match step {
                    Step::Written(written) => {
                        // The client has made room.
                        self.pulse.heard();
                        return written.map_err(|_| End::ClientGone);
                    }
                    Step::Heard(message) => self.hear(message)?,
                },
                _ = looks.tick() => {
                    let lag = self.source.head().get().saturating_sub(self.flushed.get());
                    let look = Look { waited: began.elapsed(), taken: self.taken.get(), lag };
                    if watch.is_too_slow(&self.patience, look) {
                        return Err(End::Slow);
                    }
                }
                () = at(save_due) => self.save().await?,
            }
            consume_budget().await;
        }
    }

    /// Hands a message to the socket, when that has room.
    async fn write(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), End> {
        self.patiently(socket, Sink::poll_ready).await?;
        socket.start_send_unpin(message).map_err(|_| End::ClientGone)
    }

    fn text(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, End> {
        self.source.message(entry).map_err(|Damaged| End::Damaged(Cursor::after(entry.seq)))
    }

    /// Hands an event to the socket, if the client wants it; returns its bytes.
    async fn feed(
        &mut self,
        socket: &mut WebSocket,
        entry: &Entry,
        unflushed: &mut Unflushed,
    ) -> Result<usize, End> {
        let cursor = Cursor::after(entry.seq);
        self.tell(socket).await?;
        let Some(mut text) = self.text(entry)? else { return Ok(0) };
        while poll_immediate(poll_fn(|cx| socket.poll_ready_unpin(cx))).await.is_none() {
            self.patiently(socket, Sink::poll_ready).await?;
            // Meanwhile it may have come to be for this client no more, or in other words.
            self.tell(socket).await?;
            match self.text(entry)? {
                Some(anew) => text = anew,
                None => return Ok(0),
            }
        }
        let bytes = text.len();
        socket.start_send_unpin(Message::Text(text)).map_err(|_| End::ClientGone)?;
        self.sent = cursor;
        unflushed.messages += 1;
        unflushed.bytes += bytes;
        if cursor > self.live_after {
            let both = [unflushed.oldest, entry.received];
            unflushed.oldest = both.into_iter().flatten().min();
        }
        Ok(bytes)
    }
}

/// What is waited for when a socket is full.
type Write = fn(Pin<&mut WebSocket>, &mut Context<'_>) -> Poll<Result<(), axum::Error>>;

/// What happens first on a socket that is full.
enum Step {
    /// It took what was to be written, or broke.
    Written(Result<(), axum::Error>),
    /// The client said something.
    Heard(Option<Result<Message, axum::Error>>),
}

fn step(socket: &mut WebSocket, write: Write, cx: &mut Context<'_>) -> Poll<Step> {
    match write(Pin::new(&mut *socket), cx) {
        Poll::Ready(written) => Poll::Ready(Step::Written(written)),
        Poll::Pending => socket.poll_next_unpin(cx).map(Step::Heard),
    }
}

/// Ticks for the first time when the period is over, and then at least so long after each time.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Comes back when another connection has the consumer's name.
async fn replaced(replacement: Option<Replacement>) {
    match replacement {
        Some(mut replacement) => replacement.wanted().await,
        None => std::future::pending().await,
    }
}

/// Waits until a time, or forever.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Comes back when a ping is due.
async fn tick(pings: &mut Option<Interval>) {
    match pings {
        Some(pings) => drop(pings.tick().await),
        None => std::future::pending().await,
    }
}
