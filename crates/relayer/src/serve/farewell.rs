//! Why a client is no longer served, and what it is told.

use std::net::IpAddr;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::said::BadAck;
use crate::event_log::reader::ReadError;
use crate::event_log::{Cursor, StorageError};
use crate::limits::{CLIENT_CLOSE_MAX, CLIENT_LAST_WORDS_MAX};

/// Why a session is over.
#[derive(Debug)]
pub enum End {
    /// The client closed the connection, or it broke.
    ClientGone,
    /// The gateway stops.
    Stopping,
    /// The client is far behind, and its socket takes nothing.
    Slow,
    /// The client does not answer pings.
    Silent,
    /// Another connection has the consumer's name.
    Replaced,
    /// The consumer said something that it may not.
    BadAck(BadAck),
    /// The log cannot be read on.
    Read(ReadError),
    /// The consumer's cursor cannot be written.
    Unwritten(StorageError),
    /// An event is not UTF-8, which nobody can have verified.
    Damaged(Cursor),
}

impl End {
    /// The label in the metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ClientGone => "left",
            Self::Stopping => "stopping",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::BadAck(_) => "bad_ack",
            Self::Read(ReadError::Trimmed { .. }) => "trimmed",
            Self::Read(ReadError::Storage(_)) | Self::Unwritten(_) | Self::Damaged(_) => "failed",
        }
    }
}

/// What is known of a client that is no longer served.
#[derive(Debug)]
pub struct Farewell {
    /// Why.
    pub end: End,
    /// The path that it came by, as the log names it.
    pub path: &'static str,
    /// Where it comes from.
    pub origin: IpAddr,
    /// The name that its cursor is kept under.
    pub consumer: Option<String>,
    /// Up to here the log was read for it.
    pub cursor: Cursor,
    /// Up to here its socket took everything.
    pub flushed: Cursor,
    /// The newest sequence.
    pub head: Cursor,
}

impl Farewell {
    /// Says why, and waits a little for the client to have heard it.
    pub async fn say(self, mut socket: WebSocket) {
        let patience = if matches!(self.end, End::Slow) { CLIENT_LAST_WORDS_MAX } else { CLIENT_CLOSE_MAX };
        self.log();
        if let Some((code, reason)) = self.frame() {
            let message = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            if !matches!(timeout(patience, socket.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
        // Until the other side has answered, or our answer to its close is out.
        let answered = async { while let Some(Ok(_)) = socket.next().await {} };
        drop(timeout(patience, answered).await);
    }

    fn frame(&self) -> Option<(u16, String)> {
        let cursor = self.cursor;
        Some(match &self.end {
            End::ClientGone => return None,
            End::Stopping => (close_code::AWAY, "the gateway is stopping".to_owned()),
            End::Slow => (
                close_code::POLICY,
                match &self.consumer {
                    Some(name) => format!("slow: resume with consumer={name}"),
                    None => format!("slow: resume with cursor={}", self.flushed),
                },
            ),
            End::Silent => (close_code::POLICY, "no answer to pings".to_owned()),
            End::Replaced => (close_code::POLICY, "another connection took over this consumer".to_owned()),
            End::BadAck(bad) => (close_code::POLICY, bad.to_string()),
            End::Read(ReadError::Trimmed { oldest }) => {
                (close_code::POLICY, format!("cursor {cursor} is no longer kept; oldest is {oldest}"))
            }
            End::Read(ReadError::Storage(_)) | End::Damaged(_) => {
                (close_code::ERROR, "the event log cannot be read".to_owned())
            }
            End::Unwritten(_) => (close_code::ERROR, "the cursor cannot be written".to_owned()),
        })
    }

    fn log(&self) {
        let Self { path, origin, cursor, flushed, head, .. } = self;
        let consumer = self.consumer.as_deref();
        match &self.end {
            End::ClientGone | End::Stopping => {}
            End::Slow => {
                tracing::warn!(cursor = %flushed, %head, %origin, consumer, "a {path} client was too slow and was closed");
            }
            End::Silent => {
                tracing::debug!(%origin, consumer, "a {path} client gave no sign of life and was closed");
            }
            End::Replaced => tracing::debug!(%origin, consumer, "another connection took over a consumer"),
            End::BadAck(bad) => tracing::debug!(%origin, consumer, "a consumer was closed: {bad}"),
            End::Read(ReadError::Trimmed { oldest }) => {
                tracing::warn!(%cursor, %oldest, consumer, "a {path} client fell behind what is kept and was closed");
            }
            End::Read(ReadError::Storage(error)) | End::Unwritten(error) => {
                tracing::error!(%error, %cursor, consumer, "a {path} client was closed");
            }
            End::Damaged(cursor) => {
                tracing::error!(%cursor, "a {path} client was closed: an event in the log is not UTF-8");
            }
        }
    }
}
