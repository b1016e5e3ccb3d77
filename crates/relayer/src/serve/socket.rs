//! The connection of a client, as [delivery](super::delivery) uses it: a
//! [WebSocket](super::websocket), or an [event stream](super::event_stream).

use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes};

use crate::event_log::Cursor;

/// What is sent to a client.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// An event, and the cursor after it.
    Event(Cursor, Utf8Bytes),
    /// A message that is not an event.
    Notice(Utf8Bytes),
    /// Everything up to the cursor was sent or skipped.
    Heartbeat(Cursor, Utf8Bytes),
    Ping,
}

/// The client disconnected, or the connection broke.
#[derive(Debug)]
pub(crate) struct Disconnected;

pub(crate) trait ClientSocket: Send {
    /// Whether a client answers pings, so that silence shows that it is gone.
    const ANSWERS_PINGS: bool;

    /// Waits until a message can be written.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>>;

    /// Writes a message to a buffer. The socket must be [ready](Self::poll_ready).
    fn start_send(&mut self, message: Outgoing) -> Result<(), Disconnected>;

    /// Waits until the buffer is written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>>;

    /// The next message of the client; `None` when the client has disconnected.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>>;

    /// Closes the connection. Sends a close code (RFC 6455) and a reason unless the client has
    /// left, and waits at most `patience` for each step.
    fn close(self, reason: Option<(u16, String)>, patience: Duration) -> impl Future<Output = ()> + Send;
}
