//! Why a client's connection is closed, and the close code and reason that the client gets.

use std::net::IpAddr;

use axum::extract::ws::close_code;
use enum_map::Enum;
use strum::IntoStaticStr;

use super::client_message::BadAck;
use super::socket::{ClientSocket, Disconnected};
use crate::event_log::reader::ReadError;
use crate::event_log::{Cursor, StorageError};
use crate::limits::{CLIENT_CLOSE_MAX, CLIENT_LAST_WORDS_MAX};

/// The close reason of a consumer whose name another connection uses.
pub(crate) const REPLACED: &str = "another connection took over this consumer";

/// Why a client's connection was closed, as metrics label it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CloseReason {
    /// The client closed the connection, or the connection broke.
    Left,
    /// The gateway is stopping.
    Stopping,
    /// The client is far behind, and its socket accepts nothing.
    Slow,
    /// The client does not answer pings.
    Silent,
    /// Another connection took over the consumer.
    Replaced,
    /// The client's token is no longer valid, or the client connected without one and reading now
    /// requires one.
    Revoked,
    /// The consumer sent something other than a valid acknowledgement.
    BadAck,
    /// Retention trimmed the client's next events.
    Trimmed,
    /// The log cannot be read, or the cursor cannot be stored.
    Failed,
}

/// Why a client's connection must be closed, with details for the client and the log.
#[derive(Debug)]
pub(super) enum CloseCause {
    Left,
    Stopping,
    Slow,
    Silent,
    Replaced,
    Revoked,
    BadAck(BadAck),
    Read(ReadError),
    /// The consumer's cursor cannot be stored.
    Unwritten(StorageError),
    /// The event before this cursor is not UTF-8, so it is not the event that was verified.
    Damaged(Cursor),
}

impl CloseCause {
    pub(super) const fn reason(&self) -> CloseReason {
        match self {
            Self::Left => CloseReason::Left,
            Self::Stopping => CloseReason::Stopping,
            Self::Slow => CloseReason::Slow,
            Self::Silent => CloseReason::Silent,
            Self::Replaced => CloseReason::Replaced,
            Self::Revoked => CloseReason::Revoked,
            Self::BadAck(_) => CloseReason::BadAck,
            Self::Read(ReadError::Trimmed { .. }) => CloseReason::Trimmed,
            Self::Read(ReadError::Storage(_)) | Self::Unwritten(_) | Self::Damaged(_) => CloseReason::Failed,
        }
    }
}

impl From<Disconnected> for CloseCause {
    fn from(Disconnected: Disconnected) -> Self {
        Self::Left
    }
}

/// The close code and the reason while the gateway stops.
pub(super) fn stopping() -> (u16, String) {
    (close_code::AWAY, "the gateway is stopping".to_owned())
}

/// The close of a connection whose token is no longer valid.
pub(super) fn revoked() -> (u16, String) {
    (close_code::POLICY, "reading needs a token that is valid now".to_owned())
}

/// Closes the connection of a client.
#[derive(Debug)]
pub(super) struct Close {
    pub(super) cause: CloseCause,
    /// The path of the client, such as `/ws`, for the log.
    pub(super) path: &'static str,
    pub(super) origin: IpAddr,
    /// The name of the consumer, if the client is one.
    pub(super) consumer: Option<String>,
    /// The log was read for the client up to this cursor.
    pub(super) cursor: Cursor,
    /// The socket accepted everything up to this cursor.
    pub(super) flushed: Cursor,
    /// The newest sequence.
    pub(super) head: Cursor,
}

impl Close {
    /// Logs the cause, and closes the socket with it.
    pub(super) async fn run(self, socket: impl ClientSocket) {
        let patience =
            if matches!(self.cause, CloseCause::Slow) { CLIENT_LAST_WORDS_MAX } else { CLIENT_CLOSE_MAX };
        self.log();
        socket.close(self.reason(), patience).await;
    }

    /// The close code and the reason; `None` if the client has left.
    fn reason(&self) -> Option<(u16, String)> {
        let cursor = self.cursor;
        Some(match &self.cause {
            CloseCause::Left => return None,
            CloseCause::Stopping => stopping(),
            CloseCause::Slow => (
                close_code::POLICY,
                match &self.consumer {
                    Some(name) => format!("slow: resume with consumer={name}"),
                    None => format!("slow: resume with cursor={}", self.flushed),
                },
            ),
            CloseCause::Silent => (close_code::POLICY, "no answer to pings".to_owned()),
            CloseCause::Replaced => (close_code::POLICY, REPLACED.to_owned()),
            CloseCause::Revoked => revoked(),
            CloseCause::BadAck(bad) => (close_code::POLICY, bad.to_string()),
            CloseCause::Read(ReadError::Trimmed { oldest }) => {
                (close_code::POLICY, format!("cursor {cursor} is no longer kept; oldest is {oldest}"))
            }
            CloseCause::Read(ReadError::Storage(_)) | CloseCause::Damaged(_) => {
                (close_code::ERROR, "the event log cannot be read".to_owned())
            }
            CloseCause::Unwritten(_) => (close_code::ERROR, "the cursor cannot be written".to_owned()),
        })
    }

    fn log(&self) {
        let Self { path, origin, cursor, flushed, head, .. } = self;
        let consumer = self.consumer.as_deref();
        match &self.cause {
            CloseCause::Left | CloseCause::Stopping => {}
            CloseCause::Slow => {
                tracing::warn!(
                    name: "client_slow",
                    cursor = flushed.get(),
                    head = head.get(),
                    %origin,
                    consumer,
                    "a {path} client was too slow and was closed"
                );
            }
            CloseCause::Silent => {
                tracing::debug!(%origin, consumer, "a {path} client did not answer pings and was closed");
            }
            CloseCause::Replaced => {
                tracing::debug!(%origin, consumer, "another connection took over a consumer")
            }
            CloseCause::Revoked => {
                tracing::debug!(%origin, consumer, "a {path} client lost its right to read and was closed");
            }
            CloseCause::BadAck(bad) => tracing::debug!(%origin, consumer, "a consumer was closed: {bad}"),
            CloseCause::Read(ReadError::Trimmed { oldest }) => {
                tracing::warn!(
                    name: "client_trimmed",
                    cursor = cursor.get(),
                    oldest = oldest.get(),
                    consumer,
                    "a {path} client fell behind retention and was closed"
                );
            }
            CloseCause::Read(ReadError::Storage(error)) | CloseCause::Unwritten(error) => {
                tracing::error!(
                    name: "storage_failure",
                    %error, cursor = cursor.get(), consumer, "a {path} client was closed"
                );
            }
            CloseCause::Damaged(cursor) => {
                tracing::error!(
                    name: "storage_failure",
                    cursor = cursor.get(), "a {path} client was closed: an event in the log is not UTF-8"
                );
            }
        }
    }
}
