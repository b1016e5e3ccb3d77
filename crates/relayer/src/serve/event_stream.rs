//! An event stream (Server-Sent Events) as the [connection](super::socket) of a client.
//!
//! The HTTP server asks the body of a response for data, whereas delivery writes to a socket. The
//! body therefore runs the client's task, which writes to a buffer, and passes the buffer on in
//! pieces. A piece is passed on only when the client's socket has accepted the one before, so a
//! slow client costs one message and two pieces.
//!
//! The id of an event or heartbeat is its cursor. A browser that reconnects sends the last id, even
//! if it has received no event: the stream begins with the id of the client's own cursor.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, close_code};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::timeout;

use super::close::{CloseReason, revoked, stopping};
use super::metrics::WebSocketMetrics;
use super::slow::Taken;
use super::socket::{ClientSocket, Disconnected, Outgoing};
use crate::event_log::Cursor;
use crate::limits::{
    CLIENT_CLOSE_MAX, CLIENT_FLUSH_BYTES, EVENT_STREAM_PIECE_BYTES, EVENT_STREAM_RETRY,
    EVENT_STREAM_STOP_RETRY,
};

/// The side that the client's task writes to.
#[derive(Debug)]
pub(crate) struct EventStream {
    buffer: Arc<Mutex<Buffer>>,
    taken: Taken,
}

/// What was written and not yet passed on.
#[derive(Debug)]
struct Buffer {
    /// Allocated at once for a whole burst, so that it need not grow with each event.
    bytes: BytesMut,
    /// How often the socket had been flushed when the last piece was passed on.
    passed_at: Option<u64>,
    is_aborted: bool,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(CLIENT_FLUSH_BYTES), passed_at: None, is_aborted: false }
    }

    /// Whether the socket has accepted every piece. If not, the task is woken when it has.
    fn is_accepted(&self, taken: &Taken, cx: &Context<'_>) -> bool {
        let is_accepted = || self.passed_at.is_none_or(|passed_at| taken.flushes() > passed_at);
        is_accepted() || {
            taken.wake_at_flush(cx.waker());
            is_accepted()
        }
    }

    fn take_piece(&mut self, taken: &Taken) -> Bytes {
        let piece = self.bytes.split_to(self.bytes.len().min(EVENT_STREAM_PIECE_BYTES)).freeze();
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * EVENT_STREAM_PIECE_BYTES {
            // Frees the memory that one very large event took.
            self.bytes = BytesMut::with_capacity(CLIENT_FLUSH_BYTES);
        }
        self.passed_at = Some(taken.flushes());
        piece
    }

    /// Writes one event of the stream. JSON has no line breaks: strings escape them.
    fn write(&mut self, name: Option<&str>, id: Option<Cursor>, data: &str) {
        if let Some(name) = name {
            self.write_field("event: ", name);
        }
        if let Some(id) = id {
            self.write_number("id: ", id.get());
        }
        self.write_field("data: ", data);
        self.bytes.extend_from_slice(b"\n");
    }

    fn write_field(&mut self, field: &str, value: &str) {
        self.bytes.reserve(field.len() + value.len() + 2);
        self.bytes.extend_from_slice(field.as_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.extend_from_slice(b"\n");
    }

    fn write_number(&mut self, field: &str, value: u64) {
        // Writing to a buffer that grows cannot fail.
        let _ = writeln!(self.bytes, "{field}{value}");
    }

    fn write_retry(&mut self, time: Duration) {
        self.write_number("retry: ", u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
}

impl EventStream {
    /// Waits until everything that was written has been passed on.
    pub(crate) async fn passed_on(&mut self) {
        // A stream whose client has disconnected is dropped.
        let _ = poll_fn(|cx| self.poll_flush(cx)).await;
    }

    /// Writes an event that is not of the log. Call [`passed_on`](Self::passed_on) first.
    pub(crate) fn send(&mut self, name: &str, data: &str) {
        self.buffer.lock().write(Some(name), None, data);
    }

    /// Ends the stream because the gateway stops.
    pub(crate) async fn stop(self) {
        self.close(Some(stopping()), CLIENT_CLOSE_MAX).await;
    }

    /// Ends the stream because its token is no longer valid.
    pub(crate) async fn revoke(self) {
        self.close(Some(revoked()), CLIENT_CLOSE_MAX).await;
    }
}

impl ClientSocket for EventStream {
    const ANSWERS_PINGS: bool = false;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        // The body runs the task again when it has passed on the buffer.
        if self.buffer.lock().bytes.len() < CLIENT_FLUSH_BYTES { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), Disconnected> {
        let mut buffer = self.buffer.lock();
        match message {
            Outgoing::Event(cursor, text) => buffer.write(None, Some(cursor), &text),
            Outgoing::Notice(text) => buffer.write(None, None, &text),
            Outgoing::Heartbeat(cursor, text) => buffer.write(Some("heartbeat"), Some(cursor), &text),
            Outgoing::Ping => buffer.bytes.extend_from_slice(b":\n\n"),
        }
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        if self.buffer.lock().bytes.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// A client cannot send anything. If it disconnects, the server drops the body with the task.
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<Option<Message>> {
        Poll::Pending
    }

    /// Sends the reason as an event, and then ends the body. If the client does not read it, the
    /// connection is aborted.
    async fn close(self, reason: Option<(u16, String)>, patience: Duration) {
        if let Some((code, reason)) = reason {
            let mut buffer = self.buffer.lock();
            if code == close_code::AWAY {
                buffer.write_retry(EVENT_STREAM_STOP_RETRY);
            }
            let data = serde_json::json!({ "close": { "code": code, "reason": reason } });
            buffer.write(Some("close"), None, &data.to_string());
        }
        let accepted = poll_fn(|cx| {
            let buffer = self.buffer.lock();
            let is_accepted = buffer.bytes.is_empty() && buffer.is_accepted(&self.taken, cx);
            if is_accepted { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(patience, accepted).await.is_err() {
            self.buffer.lock().is_aborted = true;
        }
    }
}

/// The body of the response. It runs the client's task.
pub(crate) struct EventBody {
    /// `None` when it has ended.
    task: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    buffer: Arc<Mutex<Buffer>>,
    taken: Taken,
    /// Counts the client of the log.
    client: Option<Counted>,
}

/// Counts connected clients, and closed connections by reason.
struct Counted {
    streams: Gauge,
    left: Counter,
}

impl EventBody {
    /// Runs a task that writes to the stream. `taken` counts the bytes that the client's socket
    /// accepts.
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        taken: Taken,
        task: impl FnOnce(EventStream) -> F,
    ) -> Self {
        let mut buffer = Buffer::new();
        buffer.write_retry(EVENT_STREAM_RETRY);
        buffer.bytes.extend_from_slice(b"\n");
        Self::begin(buffer, taken, None, task)
    }

    /// Like [`new`](Self::new), for a client of the log, whose stream begins with the id of this
    /// cursor.
    pub(crate) fn of_log<F: Future<Output = ()> + Send + 'static>(
        cursor: Cursor,
        taken: Taken,
        metrics: &WebSocketMetrics,
        task: impl FnOnce(EventStream) -> F,
    ) -> Self {
        let mut buffer = Buffer::new();
        buffer.write_retry(EVENT_STREAM_RETRY);
        buffer.write_number("id: ", cursor.get());
        buffer.bytes.extend_from_slice(b"\n");
        let (streams, left) = (metrics.streams.clone(), metrics.closed[CloseReason::Left].clone());
        streams.inc();
        Self::begin(buffer, taken, Some(Counted { streams, left }), task)
    }

    fn begin<F: Future<Output = ()> + Send + 'static>(
        buffer: Buffer,
        taken: Taken,
        client: Option<Counted>,
        task: impl FnOnce(EventStream) -> F,
    ) -> Self {
        let buffer = Arc::new(Mutex::new(buffer));
        let stream = EventStream { buffer: Arc::clone(&buffer), taken: taken.clone() };
        Self { task: Some(Box::pin(task(stream))), buffer, taken, client }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let is_empty = this.buffer.lock().bytes.is_empty();
        // The task also runs while the socket is full, because it notices that the client is slow.
        if (is_empty || !this.buffer.lock().is_accepted(&this.taken, cx))
            && let Some(task) = &mut this.task
            && task.as_mut().poll(cx).is_ready()
        {
            this.task = None;
        }
        let mut buffer = this.buffer.lock();
        if buffer.is_aborted {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        if buffer.bytes.is_empty() {
            return if this.task.is_none() { Poll::Ready(None) } else { Poll::Pending };
        }
        if !buffer.is_accepted(&this.taken, cx) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(buffer.take_piece(&this.taken)))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        let Some(Counted { streams, left }) = &self.client else { return };
        streams.dec();
        // The server drops the body when the client disconnects.
        if self.task.is_some() {
            left.inc();
        }
    }
}
