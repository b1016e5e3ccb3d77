//! A WebSocket as the [connection](super::socket) of a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::time::timeout;

use super::socket::{ClientSocket, Disconnected, Outgoing};

impl ClientSocket for WebSocket {
    const ANSWERS_PINGS: bool = true;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        Sink::poll_ready(Pin::new(self), cx).map_err(|_| Disconnected)
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), Disconnected> {
        let message = match message {
            Outgoing::Event(_, text) | Outgoing::Notice(text) | Outgoing::Heartbeat(_, text) => {
                Message::Text(text)
            }
            Outgoing::Ping => Message::Ping(Bytes::new()),
        };
        self.start_send_unpin(message).map_err(|_| Disconnected)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        Sink::poll_flush(Pin::new(self), cx).map_err(|_| Disconnected)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_next_unpin(cx).map(|message| message.and_then(Result::ok))
    }

    /// Sends the close frame, and waits briefly for the client's answer.
    async fn close(mut self, reason: Option<(u16, String)>, patience: Duration) {
        if let Some((code, reason)) = reason {
            let message = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            if !matches!(timeout(patience, self.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
        // Waits until the client has answered our close, or until our answer to the client's close
        // is sent.
        let answered = async { while let Some(Ok(_)) = self.next().await {} };
        drop(timeout(patience, answered).await);
    }
}
