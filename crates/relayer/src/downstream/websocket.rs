//! One client of `/ws`: its socket is fed from the log as fast as it takes it.
//!
//! A client that stops reading blocks nothing but its own task, which holds one chunk of the log at most.
//! What it misses meanwhile is read from the log when it goes on; it is closed only when retention has
//! trimmed what comes next, because then nothing could be delivered without a gap.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{SinkExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::clients::Client;
use super::selection::{Format, Selection};
use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::limits::{CLIENT_CLOSE_MAX, CLIENT_FLUSH_BYTES};
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
}

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// The client closed the connection, or it broke.
    ClientGone,
    /// The gateway stops.
    Stopping,
    /// The log cannot be read on.
    Read(ReadError),
    /// An event is not UTF-8, which nobody can have verified.
    Damaged(Cursor),
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
    /// A session that goes on where the reader stands. `head` is the end of the log as the client found it.
    pub fn new(
        reader: Reader,
        head: Cursor,
        selection: Selection,
        format: Format,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { reader, selection, format, metrics, live_after: head }
    }

    /// Serves the client until it goes, falls behind what is kept, or the gateway stops.
    pub async fn run(mut self, mut socket: WebSocket, mut client: Client) {
        let end = tokio::select! {
            end = self.deliver(&mut socket) => end,
            () = client.deadline() => End::Stopping,
        };
        self.close(&mut socket, end).await;
    }

    async fn deliver(&mut self, socket: &mut WebSocket) -> End {
        loop {
            tokio::select! {
                next = self.reader.next() => {
                    let sent = match next {
                        Ok(Some(chunk)) => self.send(socket, chunk).await,
                        Ok(None) => Err(End::Stopping),
                        Err(error) => Err(End::Read(error)),
                    };
                    if let Err(end) = sent {
                        return end;
                    }
                }
                message = socket.next() => match message {
                    // Nothing that a client says means anything yet. Pings are answered by the socket.
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::ClientGone,
                },
            }
            // A client that wants next to nothing of a long log must let others have the thread, too.
            consume_budget().await;
        }
    }

    /// Hands a chunk to the socket, and what follows it in memory, so that one write carries many events;
    /// but never waits for more.
    async fn send(&mut self, socket: &mut WebSocket, mut chunk: Chunk) -> Result<(), End> {
        let mut unflushed = Unflushed::default();
        loop {
            for entry in chunk.entries() {
                if self.selection.wants(&entry.event) {
                    self.feed(socket, entry, &mut unflushed).await?;
                }
            }
            if unflushed.bytes >= CLIENT_FLUSH_BYTES {
                break;
            }
            match self.reader.next_in_memory() {
                Some(next) => chunk = next,
                None => break,
            }
            consume_budget().await;
        }
        if unflushed.messages == 0 {
            return Ok(());
        }
        socket.flush().await.map_err(|_| End::ClientGone)?;
        self.metrics.websocket_messages.inc_by(unflushed.messages);
        if let Some(oldest) = unflushed.oldest {
            self.metrics.delivery_latency.observe(oldest.elapsed().as_secs_f64());
        }
        Ok(())
    }

    async fn feed(
        &self,
        socket: &mut WebSocket,
        entry: &Entry,
        unflushed: &mut Unflushed,
    ) -> Result<(), End> {
        let text = self.format.of(entry);
        // Shares the bytes with all other clients.
        let Ok(message) = Utf8Bytes::try_from(text.clone()) else {
            return Err(End::Damaged(Cursor::after(entry.seq)));
        };
        socket.feed(Message::Text(message)).await.map_err(|_| End::ClientGone)?;
        unflushed.messages += 1;
        unflushed.bytes += text.len();
        if Cursor::after(entry.seq) > self.live_after {
            let both = [unflushed.oldest, entry.received];
            unflushed.oldest = both.into_iter().flatten().min();
        }
        Ok(())
    }

    /// Says why, and waits a little for the client to have heard it.
    async fn close(&self, socket: &mut WebSocket, end: End) {
        let cursor = self.reader.cursor();
        let frame = match end {
            End::ClientGone => None,
            End::Stopping => Some((close_code::AWAY, "the gateway is stopping".to_owned())),
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
            if !matches!(timeout(CLIENT_CLOSE_MAX, socket.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
        // Until the other side has answered, or our answer to its close is out.
        let answered = async { while let Some(Ok(_)) = socket.next().await {} };
        drop(timeout(CLIENT_CLOSE_MAX, answered).await);
    }
}
