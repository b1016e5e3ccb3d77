//! One client of `/ws`: its socket is fed from the log as fast as it takes it.
//!
//! A client that stops reading blocks nothing but its own task, which holds one chunk of the log at most.
//! What it misses meanwhile is read from the log when it goes on. It is closed when it is [too slow](super::slow)
//! or no longer there, and when retention has trimmed what comes next, because then nothing could be
//! delivered without a gap.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::future::poll_immediate;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

use super::clients::Client;
use super::selection::{Format, Selection};
use super::slow::{Beat, Look, Patience, Pulse, Taken, Watch};
use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::limits::{CLIENT_CLOSE_MAX, CLIENT_FLUSH_BYTES, CLIENT_LAST_WORDS_MAX};
use crate::telemetry::Metrics;

/// What a client gets, and how.
#[derive(Debug)]
pub struct Session {
    reader: Reader,
    selection: Selection,
    format: Format,
    metrics: Arc<Metrics>,
    /// What is after this was committed while the client was there.
    live_after: Cursor,
    /// Up to here nothing waits for the client's socket.
    flushed: Cursor,
    patience: Patience,
    taken: Taken,
    pulse: Pulse,
}

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// The client closed the connection, or it broke.
    ClientGone,
    /// The gateway stops.
    Stopping,
    /// The client is far behind, and its socket takes nothing.
    Slow,
    /// The client does not answer pings.
    Silent,
    /// The log cannot be read on.
    Read(ReadError),
    /// An event is not UTF-8, which nobody can have verified.
    Damaged(Cursor),
}

impl End {
    /// The label in the metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::ClientGone => "left",
            Self::Stopping => "stopping",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Read(ReadError::Trimmed { .. }) => "trimmed",
            Self::Read(ReadError::Storage(_)) | Self::Damaged(_) => "failed",
        }
    }
}

/// What was handed to the socket since it was last flushed.
#[derive(Debug, Default)]
struct Unflushed {
    messages: u64,
    bytes: usize,
    /// When the first of them was received, of those that were not replayed.
    oldest: Option<Instant>,
}

impl Session {
    /// A session that goes on where the reader stands. `head` is the end of the log as the client found it,
    /// `taken` what the client's socket takes.
    pub fn new(
        reader: Reader,
        head: Cursor,
        selection: Selection,
        format: Format,
        metrics: Arc<Metrics>,
        patience: Patience,
        taken: Taken,
    ) -> Self {
        let flushed = reader.cursor();
        let pulse = Pulse::default();
        Self { reader, selection, format, metrics, live_after: head, flushed, patience, taken, pulse }
    }

    /// Serves the client until it goes, is given up, falls behind what is kept, or the gateway stops.
    pub async fn run(mut self, mut socket: WebSocket, mut client: Client) {
        let end = tokio::select! {
            end = self.deliver(&mut socket) => end,
            () = client.deadline() => End::Stopping,
        };
        self.metrics.client_closed(end.reason()).inc();
        self.close(&mut socket, end, client.origin()).await;
    }

    async fn deliver(&mut self, socket: &mut WebSocket) -> End {
        let mut pings = self.patience.ping_interval.map(|period| {
            let mut pings = interval_at(tokio::time::Instant::now() + period, period);
            // Whatever was late, there is a whole interval to answer in.
            pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pings
        });
        loop {
            let done = tokio::select! {
                next = self.reader.next() => match next {
                    Ok(Some(chunk)) => self.send(socket, chunk).await,
                    Ok(None) => Err(End::Stopping),
                    Err(error) => Err(End::Read(error)),
                },
                message = socket.next() => match message {
                    // Nothing that a client says means anything yet, but that it is there. Pings are
                    // answered by the socket.
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
                        self.pulse.heard();
                        Ok(())
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::ClientGone),
                },
                () = tick(&mut pings) => self.ping(socket).await,
            };
            if let Err(end) = done {
                return end;
            }
            // A client that wants next to nothing of a long log must let others have the thread, too.
            consume_budget().await;
        }
    }

    async fn ping(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        if self.pulse.beat() == Beat::Gone {
            // Its answer may be there, and not have been looked at while something waited for its socket.
            if !matches!(socket.next().now_or_never(), Some(Some(Ok(_)))) {
                return Err(End::Silent);
            }
            self.pulse.heard();
        }
        self.patiently(socket.send(Message::Ping(Bytes::new()))).await
    }

    /// Hands a chunk to the socket, and what follows it in memory, so that one write carries many events;
    /// but never waits for more.
    async fn send(&mut self, socket: &mut WebSocket, mut chunk: Chunk) -> Result<(), End> {
        let mut unflushed = Unflushed::default();
        let mut sent = 0;
        loop {
            for entry in chunk.entries() {
                if self.selection.wants(&entry.event) {
                    sent += self.feed(socket, entry, &mut unflushed).await?;
                }
                if unflushed.bytes >= CLIENT_FLUSH_BYTES {
                    self.flush(socket, &mut unflushed, Cursor::after(entry.seq)).await?;
                }
            }
            if sent >= CLIENT_FLUSH_BYTES {
                break;
            }
            match self.reader.next_in_memory() {
                Some(next) => chunk = next,
                None => break,
            }
            consume_budget().await;
        }
        let up_to = self.reader.cursor();
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
            self.patiently(socket.flush()).await?;
            self.metrics.websocket_messages.inc_by(messages);
        }
        if let Some(oldest) = oldest {
            self.metrics.delivery_latency.observe(oldest.elapsed().as_secs_f64());
        }
        self.flushed = up_to;
        Ok(())
    }

    /// Waits for the socket to take something, for as long as the client's slowness is to be borne.
    async fn patiently(&mut self, write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
        let mut write = pin!(write);
        // Almost always there is room, and then this costs no look at the clock.
        if let Some(written) = poll_immediate(write.as_mut()).await {
            return written.map_err(|_| End::ClientGone);
        }
        let (began, mut watch) = (Instant::now(), Watch::new(self.taken.get()));
        loop {
            if let Ok(written) = timeout(self.patience.look_every(), write.as_mut()).await {
                // The client has made room.
                self.pulse.heard();
                return written.map_err(|_| End::ClientGone);
            }
            let lag = self.reader.head().get().saturating_sub(self.flushed.get());
            let look = Look { waited: began.elapsed(), taken: self.taken.get(), lag };
            if watch.is_too_slow(&self.patience, look) {
                return Err(End::Slow);
            }
        }
    }

    /// Hands an event to the socket; returns its bytes.
    async fn feed(
        &mut self,
        socket: &mut WebSocket,
        entry: &Entry,
        unflushed: &mut Unflushed,
    ) -> Result<usize, End> {
        let text = self.format.of(entry);
        // Shares the bytes with all other clients.
        let Ok(message) = Utf8Bytes::try_from(text.clone()) else {
            return Err(End::Damaged(Cursor::after(entry.seq)));
        };
        self.patiently(socket.feed(Message::Text(message))).await?;
        unflushed.messages += 1;
        unflushed.bytes += text.len();
        if Cursor::after(entry.seq) > self.live_after {
            let both = [unflushed.oldest, entry.received];
            unflushed.oldest = both.into_iter().flatten().min();
        }
        Ok(text.len())
    }

    /// Says why, and waits a little for the client to have heard it.
    async fn close(&self, socket: &mut WebSocket, end: End, origin: IpAddr) {
        let cursor = self.reader.cursor();
        let patience = if matches!(end, End::Slow) { CLIENT_LAST_WORDS_MAX } else { CLIENT_CLOSE_MAX };
        let frame = match end {
            End::ClientGone => None,
            End::Stopping => Some((close_code::AWAY, "the gateway is stopping".to_owned())),
            End::Slow => {
                let cursor = self.flushed;
                tracing::warn!(%cursor, head = %self.reader.head(), %origin, "a /ws client was too slow and was closed");
                Some((close_code::POLICY, format!("slow: resume with cursor={cursor}")))
            }
            End::Silent => {
                tracing::debug!(%origin, "a /ws client gave no sign of life and was closed");
                Some((close_code::POLICY, "no answer to pings".to_owned()))
            }
            End::Read(ReadError::Trimmed { oldest }) => {
                tracing::warn!(%cursor, %oldest, "a /ws client fell behind what is kept and was closed");
                let reason = format!("cursor {cursor} is no longer kept; oldest is {oldest}");
                Some((close_code::POLICY, reason))
            }
            End::Read(ReadError::Storage(error)) => {
                tracing::error!(%error, %cursor, "a /ws client was closed");
                Some((close_code::ERROR, "the event log cannot be read".to_owned()))
            }
            End::Damaged(cursor) => {
                tracing::error!(%cursor, "a /ws client was closed: an event in the log is not UTF-8");
                Some((close_code::ERROR, "the event log cannot be read".to_owned()))
            }
        };
        if let Some((code, reason)) = frame {
            let message = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            if !matches!(timeout(patience, socket.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
        // Until the other side has answered, or our answer to its close is out.
        let answered = async { while let Some(Ok(_)) = socket.next().await {} };
        drop(timeout(patience, answered).await);
    }
}

/// Comes back when a ping is due.
async fn tick(pings: &mut Option<Interval>) {
    match pings {
        Some(pings) => drop(pings.tick().await),
        None => std::future::pending().await,
    }
}
