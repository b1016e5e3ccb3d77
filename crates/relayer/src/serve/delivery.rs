//! The task of one client: sends the messages of its [source](super::source), as fast as its
//! [socket](super::socket) accepts them.
//!
//! A client that stops reading blocks only its own task, which holds at most one chunk of the log.
//! The client's connection is closed when the client is [too slow](super::slow) or unreachable, and
//! when retention has trimmed its next events, because delivery would have a gap.
//!
//! The client's messages are read even while a write is blocked: a consumer may acknowledge events
//! without reading more.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use tokio::task::coop::consume_budget;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::client_message::parse_ack;
use super::clients::Client;
use super::close::{Close, CloseCause};
use super::lease::{Lease, Replacement};
use super::metrics::ClientCounts;
use super::readers::Session;
use super::slow::{Beat, Patience, Progress, Pulse, Taken, Watch};
use super::socket::{ClientSocket, Disconnected, Outgoing};
use super::source::{Damaged, Source};

use crate::event_log::reader::Chunk;
use crate::event_log::{Cursor, Entry};
use crate::limits::CLIENT_FLUSH_BYTES;
use crate::receiver::{Heartbeat, sleep_until_some};

#[derive(Debug)]
pub(crate) struct ClientTask<S> {
    source: S,
    counts: ClientCounts,
    /// Events after this cursor were committed after the client connected.
    live_after: Cursor,
    /// The socket has accepted everything up to this cursor.
    flushed: Cursor,
    /// The last event or heartbeat that was written, or the cursor at the start.
    sent: Cursor,
    /// The lease, if the client is a consumer.
    lease: Option<Lease>,
    /// The right to read the log, if the path needs one.
    session: Option<Session>,
    /// The heartbeat, if the client asked for one.
    heartbeat: Option<Heartbeat>,
    patience: Patience,
    taken: Taken,
    pulse: Pulse,
}

/// What was written to the socket since the last flush.
#[derive(Debug, Default)]
struct Unflushed {
    messages: u64,
    bytes: usize,
    /// When the oldest unflushed live event was received.
    oldest: Option<Instant>,
}

impl<S: Source> ClientTask<S> {
    /// Continues at the position of the source. `head` is the head of the log when the client
    /// connected; `taken` counts the bytes that the client's socket accepts.
    pub fn new(source: S, head: Cursor, counts: ClientCounts, patience: Patience, taken: Taken) -> Self {
        let flushed = source.cursor();
        let pulse = Pulse::default();
        let (sent, lease, session, heartbeat) = (flushed, None, None, None);
        let live_after = head;
        Self { source, counts, live_after, flushed, sent, lease, session, heartbeat, patience, taken, pulse }
    }

    /// Makes the client a consumer, whose cursor is the position of the source.
    pub(crate) fn with_lease(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Ends the connection with the session.
    pub(crate) fn with_session(self, session: Session) -> Self {
        Self { session: Some(session), ..self }
    }

    /// Sends a heartbeat whenever nothing was sent for this time.
    pub(crate) fn with_heartbeat(self, interval: Option<Duration>) -> Self {
        Self { heartbeat: interval.map(Heartbeat::every), ..self }
    }

    /// Serves the client until there is a reason to close the connection, and then closes it.
    pub(crate) async fn run(mut self, mut socket: impl ClientSocket, mut client: Client) {
        let replacement = self.lease.as_ref().map(Lease::replacement);
        let mut session = self.session.take();
        let mut cause = tokio::select! {
            cause = self.deliver(&mut socket) => cause,
            () = client.deadline() => CloseCause::Stopping,
            () = replaced(replacement) => CloseCause::Replaced,
            () = revoked(session.as_mut()) => CloseCause::Revoked,
        };
        let consumer = self.lease.as_ref().map(|lease| lease.name().to_owned());
        // Released before the close, so that the consumer's next connection does not wait for the
        // close.
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release().await
        {
            cause = CloseCause::Unwritten(error);
        }
        self.counts.closed[cause.reason()].inc();
        let (path, origin) = (self.counts.path, client.origin());
        let (cursor, flushed, head) = (self.source.cursor(), self.flushed, self.source.head());
        Close { cause, path, origin, consumer, cursor, flushed, head }.run(socket).await;
    }

    async fn deliver(&mut self, socket: &mut impl ClientSocket) -> CloseCause {
        // Even if a ping is late, the client has a whole interval to answer the ping.
        let mut pings = self.patience.ping_interval.map(every);
        loop {
            if let Err(cause) = self.send_notices(socket).await {
                return cause;
            }
            let save_due = self.lease.as_ref().and_then(Lease::due);
            let heartbeat_due = self.heartbeat.as_ref().map(Heartbeat::due);
            let done = tokio::select! {
                next = self.source.next() => match next {
                    Ok(Some(chunk)) => self.send(socket, chunk).await,
                    Ok(None) => Err(CloseCause::Stopping),
                    Err(error) => Err(CloseCause::Read(error)),
                },
                message = poll_fn(|cx| socket.poll_receive(cx)) => self.received(message),
                () = tick(&mut pings) => self.ping(socket).await,
                () = sleep_until_some(save_due) => self.save().await,
                () = sleep_until_some(heartbeat_due) => self.send_heartbeat(socket).await,
            };
            if let Err(cause) = done {
                return cause;
            }
            // Yields the thread even if the client wants few events of a long log.
            consume_budget().await;
        }
    }

    /// Sends the notices that the client must get before any further event.
    async fn send_notices(&mut self, socket: &mut impl ClientSocket) -> Result<(), CloseCause> {
        let Some(mut notice) = self.source.notice() else { return Ok(()) };
        loop {
            self.write(socket, Outgoing::Notice(notice)).await?;
            match self.source.notice() {
                Some(next) => notice = next,
                None => return self.flush_all(socket).await,
            }
        }
    }

    /// Treats any message as a sign of life. The socket answers pings itself.
    fn received(&mut self, message: Option<Message>) -> Result<(), CloseCause> {
        let Some(message) = message else { return Err(CloseCause::Left) };
        if let Message::Close(_) = message {
            return Err(CloseCause::Left);
        }
        self.pulse.heard();
        if let Some(lease) = &mut self.lease
            && let Some(cursor) =
                parse_ack(&message, lease.cursor(), self.sent).map_err(CloseCause::BadAck)?
        {
            lease.acknowledge(cursor);
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), CloseCause> {
        match &mut self.lease {
            Some(lease) => lease.save().await.map_err(CloseCause::Unwritten),
            None => Ok(()),
        }
    }

    async fn ping<C: ClientSocket>(&mut self, socket: &mut C) -> Result<(), CloseCause> {
        if C::ANSWERS_PINGS && self.pulse.beat() == Beat::Gone {
            // The client's answer may have arrived but not been read yet.
            match poll_fn(|cx| socket.poll_receive(cx)).now_or_never() {
                Some(message @ Some(_)) => self.received(message)?,
                _ => return Err(CloseCause::Silent),
            }
        }
        // All messages are flushed, and the source's cursor is past the skipped entries.
        self.flushed = self.source.cursor();
        self.write(socket, Outgoing::Ping).await?;
        self.flush_all(socket).await
    }

    /// Tells the client up to where it has everything. All messages are flushed.
    async fn send_heartbeat(&mut self, socket: &mut impl ClientSocket) -> Result<(), CloseCause> {
        // A source that is not woken for every entry moves its cursor only when it is asked.
        if let Some(chunk) = self.source.next_in_memory() {
            return self.send(socket, chunk).await;
        }
        let cursor = self.source.cursor();
        self.flushed = cursor;
        self.write(socket, Outgoing::Heartbeat(cursor, Heartbeat::json(cursor).into())).await?;
        self.sent = self.sent.max(cursor);
        self.flush_all(socket).await
    }

    async fn flush_all(&mut self, socket: &mut impl ClientSocket) -> Result<(), CloseCause> {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.sent();
        }
        self.wait_for_socket(socket, ClientSocket::poll_flush).await
    }

    /// Writes a chunk and the entries after it that are in memory, so that one flush carries many
    /// events. Never waits for more events.
    async fn send(&mut self, socket: &mut impl ClientSocket, mut chunk: Chunk) -> Result<(), CloseCause> {
        let mut unflushed = Unflushed::default();
        let mut sent = 0;
        // Entries that the source skipped do not make the client slow.
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

    /// Waits until the socket has accepted everything up to a cursor.
    async fn flush(
        &mut self,
        socket: &mut impl ClientSocket,
        unflushed: &mut Unflushed,
        up_to: Cursor,
    ) -> Result<(), CloseCause> {
        let Unflushed { messages, oldest, .. } = std::mem::take(unflushed);
        if messages > 0 {
            self.flush_all(socket).await?;
            self.counts.messages.inc_by(messages);
        }
        if let Some(oldest) = oldest {
            self.counts.latency.observe(oldest.elapsed());
        }
        self.flushed = up_to;
        Ok(())
    }

    /// Waits for the socket until the client counts as slow, and reads the client's messages in the
    /// meantime.
    async fn wait_for_socket<C: ClientSocket>(
        &mut self,
        socket: &mut C,
        write: Write<C>,
    ) -> Result<(), CloseCause> {
        // Usually the socket has room. In that case, no clock is read.
        if let Some(written) = poll_immediate(poll_fn(|cx| write(socket, cx))).await {
            return Ok(written?);
        }
        let (began, mut watch) = (Instant::now(), Watch::new(self.taken.get()));
        // Messages of the client do not delay these checks.
        let mut checks = every(self.patience.check_every());
        loop {
            let save_due = self.lease.as_ref().and_then(Lease::due);
            tokio::select! {
                step = poll_fn(|cx| step(socket, write, cx)) => match step {
                    Step::Written(written) => {
                        // The socket accepted bytes, so the client is reading.
                        self.pulse.heard();
                        return Ok(written?);
                    }
                    Step::Received(message) => self.received(message)?,
                },
                _ = checks.tick() => {
                    let lag = self.source.head().get().saturating_sub(self.flushed.get());
                    let progress = Progress { waited: began.elapsed(), taken: self.taken.get(), lag };
                    if watch.is_too_slow(&self.patience, progress) {
                        return Err(CloseCause::Slow);
                    }
                }
                () = sleep_until_some(save_due) => self.save().await?,
            }
            consume_budget().await;
        }
    }

    /// Writes a message when the socket has room.
    async fn write(&mut self, socket: &mut impl ClientSocket, message: Outgoing) -> Result<(), CloseCause> {
        self.wait_for_socket(socket, ClientSocket::poll_ready).await?;
        Ok(socket.start_send(message)?)
    }

    fn text(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, CloseCause> {
        self.source.message(entry).map_err(|Damaged| CloseCause::Damaged(Cursor::after(entry.seq)))
    }

    /// Writes an event if the client wants it. Returns the length of the message.
    async fn feed(
        &mut self,
        socket: &mut impl ClientSocket,
        entry: &Entry,
        unflushed: &mut Unflushed,
    ) -> Result<usize, CloseCause> {
        let cursor = Cursor::after(entry.seq);
        self.send_notices(socket).await?;
        let Some(mut text) = self.text(entry)? else { return Ok(0) };
        while poll_immediate(poll_fn(|cx| socket.poll_ready(cx))).await.is_none() {
            self.wait_for_socket(socket, ClientSocket::poll_ready).await?;
            // The notices may have changed while the write was blocked.
            self.send_notices(socket).await?;
            match self.text(entry)? {
                Some(changed) => text = changed,
                None => return Ok(0),
            }
        }
        let bytes = text.len();
        socket.start_send(Outgoing::Event(cursor, text))?;
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

/// An operation that a full socket blocks.
type Write<C> = fn(&mut C, &mut Context<'_>) -> Poll<Result<(), Disconnected>>;

/// The event that ends a wait for the socket.
enum Step {
    /// The operation completed.
    Written(Result<(), Disconnected>),
    /// The client sent something.
    Received(Option<Message>),
}

fn step<C: ClientSocket>(socket: &mut C, write: Write<C>, cx: &mut Context<'_>) -> Poll<Step> {
    match write(socket, cx) {
        Poll::Ready(written) => Poll::Ready(Step::Written(written)),
        Poll::Pending => socket.poll_receive(cx).map(Step::Received),
    }
}

/// Ticks after one period, and then at least one period after the previous tick.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits until another connection wants the lease.
async fn replaced(replacement: Option<Replacement>) {
    match replacement {
        Some(mut replacement) => replacement.wanted().await,
        None => std::future::pending().await,
    }
}

/// Waits until the client loses its right to read.
async fn revoked(session: Option<&mut Session>) {
    match session {
        Some(session) => session.revoked().await,
        None => std::future::pending().await,
    }
}

/// Waits until a ping is due.
async fn tick(pings: &mut Option<Interval>) {
    match pings {
        Some(pings) => drop(pings.tick().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
