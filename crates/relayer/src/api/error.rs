//! What a request is answered that cannot be served: one type, `{"error":"<code>","message":"…"}`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::Denied;
use super::config::problems;
use super::fanout::Refusal;
use super::itself::INSTANCE_HEADER;
use super::query::QueryError;
use crate::config::{ConfigErrors, InvalidUrl};
use crate::control::ReloadError;
use crate::event_log::backup::BackupError;
use crate::event_log::free_space::NoRoom;
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, Seq, StorageError};
use crate::limits::{BODY_BYTES_MAX, REQUEST_BODY_MAX};
use crate::net::ConnectError;
use crate::relay::dial::DialError;
use crate::relay::pool::PoolError;
use crate::serve::{EnterError, Refused};
use crate::sink::CommandError;

/// Why a request cannot be served. The text is the message: what is wrong, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The query string is wrong.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// What the cursor asks for has been trimmed.
    #[error(
        "the events after cursor {cursor} are no longer kept; go on with cursor {resume}, without what was \
         trimmed, or with cursor=0 for all that is kept",
        resume = oldest.get().saturating_sub(1)
    )]
    CursorTooOld {
        /// What was asked for.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// The cursor names a sequence that was not given yet.
    #[error(
        "cursor {cursor} is beyond the newest sequence, which is {newest}; use the last sequence that you \
         handled (has the gateway lost its database?)"
    )]
    CursorAhead {
        /// What was asked for.
        cursor: Cursor,
        /// The newest sequence.
        newest: Cursor,
    },
    /// What comes after the cursor that is kept of a consumer has been trimmed.
    #[error(
        "the consumer {name} is at cursor {cursor}, and what comes after it is no longer kept; move it with \
         seek={resume} to go on without what was trimmed, or with seek=0 to all that is kept",
        resume = oldest.get().saturating_sub(1)
    )]
    ConsumerTooOld {
        /// The consumer.
        name: Arc<str>,
        /// Its cursor.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// No more cursors of consumers are kept.
    #[error(
        "the cursors of {max} consumers are kept, and [output] max_consumers (of /fanout: [fanout] max_consumers) \
         allows no more; raise it, or forget some of /ws with DELETE /api/consumers/{{name}}"
    )]
    TooManyConsumers {
        /// The most.
        max: NonZeroUsize,
    },
    /// No more cursors of a follower's consumers are kept.
    #[error(
        "the cursors of {max} consumers of yours are kept, and a follower has no more; connect with one of their \
         names, or wait until those that you do not use are forgotten ([output] keep_unused_hours)"
    )]
    TooManyConsumersOfFollower {
        /// The most.
        max: usize,
    },
    /// Another connection has the consumer's name.
    #[error(
        "another connection with this consumer's name has not ended yet, or came after yours; try again later"
    )]
    ConsumerBusy,
    /// No such consumer.
    #[error("no cursor is kept of a consumer of this name; /api/consumers lists those that there are")]
    NoSuchConsumer,
    /// Only a consumer that is away can be forgotten.
    #[error("somebody is connected as this consumer; close the connection first, or it would go on unkept")]
    ConsumerConnected,
    /// `/ws` is switched off.
    #[error("the WebSocket output is switched off; set websocket_enabled = true under [output]")]
    WebSocketDisabled,
    /// `/ws` without a WebSocket handshake.
    #[error("this path speaks WebSocket (RFC 6455, version 13); connect to it with a WebSocket client: {0}")]
    UpgradeRequired(String),
    /// A page of a site that may not read.
    #[error(
        "pages of this origin may not read here; [output] allowed_origins names those that may, written as \
         browsers send them (https://app.example)"
    )]
    OriginNotAllowed,
    /// A page that would move a consumer's cursor, though no origins are named that may.
    #[error(
        "a page of {0} connects with `consumer`, which moves a cursor that the gateway keeps, and no pages may do \
         that while [output] allowed_origins is empty; name the origin there, written as browsers send it \
         (https://app.example), or connect without `consumer`"
    )]
    OriginMayNotChange(String),
    /// No more clients of `/ws` are let in.
    #[error(
        "{max} clients are connected, and [output] max_clients (of /fanout: [fanout] max_clients) allows no \
         more; try again later or raise it"
    )]
    TooManyClients {
        /// The most.
        max: NonZeroUsize,
    },
    /// No more clients of `/ws` are let in from where this one comes from.
    #[error(
        "{max} clients are connected from your address, and [output] max_clients_per_address allows no more; \
         close some or raise it (behind a proxy, all clients have its address)"
    )]
    TooManyClientsFromAddress {
        /// The most.
        max: NonZeroUsize,
    },
    /// No more connections are taken.
    #[error(
        "{max} connections are open that are no clients of /ws or /fanout, and [api] max_connections allows no more; \
         try again later or raise it"
    )]
    TooManyConnections {
        /// The most.
        max: NonZeroUsize,
    },
    /// No more connections are taken from where this one comes from.
    #[error(
        "{max} connections are open from your address that are no clients of /ws or /fanout, and [api] \
         max_connections_per_address allows no more; close some or raise it (behind a proxy, all have its address)"
    )]
    TooManyConnectionsFromAddress {
        /// The most.
        max: NonZeroUsize,
    },
    /// The gateway does not take new clients any more.
    #[error("the gateway is stopping; connect again in a moment")]
    Stopping,
    /// The gateway does not do its work.
    #[error("{0}")]
    NotReady(&'static str),
    /// An id is no id.
    #[error("an event id has 64 lower-case hex digits (note1… and nevent1… must be decoded before)")]
    BadEventId,
    /// No such event.
    #[error("no event of this id is in the log; it may not have come yet, or be no longer kept")]
    NoSuchEvent,
    /// No such path.
    #[error("there is nothing here; docs/API.md lists the paths")]
    NoSuchPath,
    /// The path does not take this method.
    #[error("this path does not take this method; the Allow header says which it takes")]
    MethodNotAllowed,
    /// Who asks may not change anything.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A body that is not said to be JSON.
    #[error("the body must be JSON: send `Content-Type: application/json`")]
    JsonExpected,
    /// A body that is too long, or does not come to its end.
    #[error("the body does not end within {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// A body that takes too long to come.
    #[error("the body has not come within {secs} s", secs = REQUEST_BODY_MAX.as_secs())]
    BodyTooSlow,
    /// A body that says something else.
    #[error("the body must be {expected}: {why}")]
    BadBody {
        /// What it is to look like.
        expected: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What is given as a relay's URL is none.
    #[error("`url` must be a relay's URL (ws:// or wss://, and a host): {0}")]
    BadRelayUrl(&'static str),
    /// No such relay.
    #[error("this relay is not wanted; /api/relays lists those that are, and POST /api/relays/add adds one")]
    NoSuchRelay,
    /// No such sink.
    #[error("no sink of this name is configured; /api/downstreams lists those that are")]
    NoSuchSink,
    /// No such dead letter.
    #[error("the sink has no dead letter of this sequence; it may have been sent again or dropped")]
    NoSuchLetter,
    /// No more relays are wanted.
    #[error("{max} relays are wanted, and [relay] max_connections allows no more; remove one or raise it")]
    PoolFull {
        /// The most.
        max: usize,
    },
    /// A relay that must not be added.
    #[error("{why}")]
    RelayRefused {
        /// For programs.
        code: &'static str,
        /// For people.
        why: String,
    },
    /// The configuration is wrong.
    #[error(
        "the configuration is wrong, and the old one stays in effect; mend it and reload \
         ({count} in all; the first: {first})",
        count = .0.problems().len(),
        first = .0.problems().first().map(ToString::to_string).unwrap_or_default()
    )]
    BadConfig(ConfigErrors),
    /// The request was made by this process.
    #[error(
        "the request comes from this gateway itself: one of its relays' URLs leads back to it; remove it"
    )]
    Loop(HeaderValue),
    /// Of the fan-out.
    #[error(transparent)]
    Fanout(#[from] Refusal),
    /// The disk has no room for what is asked for.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// A backup cannot be made.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The request met a fault of ours.
    #[error(
        "the gateway failed at this request, by a fault of its own; its log says where (panics_total counts them)"
    )]
    Panicked,
    /// The database fails.
    #[error("{}", storage_message(.0))]
    Storage(#[from] StorageError),
}

impl From<InvalidUrl> for ApiError {
    fn from(error: InvalidUrl) -> Self {
        Self::BadRelayUrl(error.reason())
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stopping => Self::Stopping,
            Refused::TooMany(max) => Self::TooManyClients { max },
            Refused::TooManyFromAddress(max) => Self::TooManyClientsFromAddress { max },
        }
    }
}

impl From<CursorError> for ApiError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::TooOld { cursor, oldest, newest } => Self::CursorTooOld { cursor, oldest, newest },
            CursorError::Ahead { cursor, newest } => Self::CursorAhead { cursor, newest },
        }
    }
}

/// What may be told of a failure: of a full disk, what to do.
const fn storage_message(error: &StorageError) -> &'static str {
    if error.is_full() {
        "the disk is full: nothing can be written until there is room ([storage] min_free_bytes); make room, and try again"
    } else {
        "the database cannot be read or written; the gateway's log says why"
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Stopping => Self::Stopping,
            CommandError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<EnterError> for ApiError {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Cursor(error) => error.into(),
            EnterError::Trimmed { name, cursor, oldest, newest } => {
                Self::ConsumerTooOld { name, cursor, oldest, newest }
            }
            EnterError::TooMany(max) => Self::TooManyConsumers { max },
            EnterError::TooManyShared(max) => Self::TooManyConsumersOfFollower { max },
            EnterError::Busy => Self::ConsumerBusy,
            EnterError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        let refused = |code, why| Self::RelayRefused { code, why };
        match error {
            PoolError::Full { max } => Self::PoolFull { max },
            PoolError::Dial(error) => {
                let code = match error {
                    DialError::Connect(ConnectError::NotPublic { .. }) => "address_not_public",
                    DialError::Ourselves => "relay_is_this_gateway",
                    _ => "unresolvable_host",
                };
                refused(code, error.to_string())
            }
            PoolError::Storage(error) => Self::Storage(error),
            PoolError::Stopping => Self::Stopping,
        }
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Config(errors) => Self::BadConfig(errors),
            ReloadError::Pool(error) => error.into(),
        }
    }
}

impl ApiError {
    /// The status and the code, for programs.
    pub const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Query(error @ QueryError::OtherLog { .. }) => (StatusCode::CONFLICT, error.code()),
            Self::Query(error) => (StatusCode::BAD_REQUEST, error.code()),
            Self::CursorTooOld { .. } | Self::ConsumerTooOld { .. } => (StatusCode::GONE, "cursor_too_old"),
            Self::TooManyConsumers { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_consumers"),
            Self::TooManyConsumersOfFollower { .. } => {
                (StatusCode::CONFLICT, "too_many_consumers_of_follower")
            }
            Self::ConsumerBusy => (StatusCode::SERVICE_UNAVAILABLE, "consumer_busy"),
            Self::NoSuchConsumer => (StatusCode::NOT_FOUND, "consumer_not_found"),
            Self::ConsumerConnected => (StatusCode::CONFLICT, "consumer_connected"),
            Self::CursorAhead { .. } => (StatusCode::BAD_REQUEST, "cursor_ahead"),
            Self::WebSocketDisabled => (StatusCode::NOT_FOUND, "websocket_disabled"),
            Self::UpgradeRequired(_) => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
            Self::OriginNotAllowed | Self::OriginMayNotChange(_) => {
                (StatusCode::FORBIDDEN, "origin_not_allowed")
            }
            Self::TooManyClients { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_clients"),
            Self::TooManyClientsFromAddress { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_clients_from_address")
            }
            Self::TooManyConnections { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
            Self::TooManyConnectionsFromAddress { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_connections_from_address")
            }
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::BadEventId => (StatusCode::BAD_REQUEST, "bad_event_id"),
            Self::NoSuchEvent => (StatusCode::NOT_FOUND, "event_not_found"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Denied(Denied::TokenMissing | Denied::TokenWrong) => {
                (StatusCode::UNAUTHORIZED, "unauthorized")
            }
            Self::Denied(Denied::NotJson) | Self::JsonExpected => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_expected")
            }
            Self::Denied(_) => (StatusCode::FORBIDDEN, "admin_token_required"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Self::BadBody { .. } => (StatusCode::BAD_REQUEST, "bad_body"),
            Self::BadRelayUrl(_) => (StatusCode::BAD_REQUEST, "bad_relay_url"),
            Self::NoSuchRelay => (StatusCode::NOT_FOUND, "relay_not_found"),
            Self::NoSuchSink => (StatusCode::NOT_FOUND, "downstream_not_found"),
            Self::NoSuchLetter => (StatusCode::NOT_FOUND, "dead_letter_not_found"),
            Self::PoolFull { .. } => (StatusCode::CONFLICT, "pool_full"),
            Self::RelayRefused { code, .. } => (StatusCode::BAD_REQUEST, code),
            Self::BadConfig(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_config"),
            Self::Fanout(refusal) => refusal.status(),
            Self::Loop(_) => (StatusCode::LOOP_DETECTED, "loop_detected"),
            Self::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            Self::Backup(BackupError::Busy) => (StatusCode::CONFLICT, "backup_in_progress"),
            Self::Backup(_) => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            Self::Storage(error) if error.is_full() => (StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
            Self::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage_failed"),
        }
    }

    /// What programs may want to know beside the code.
    fn more(&self) -> Map<String, Value> {
        let more = match self {
            Self::CursorTooOld { oldest, newest, .. } | Self::ConsumerTooOld { oldest, newest, .. } => {
                json!({ "oldest": oldest, "newest": newest })
            }
            Self::Query(QueryError::OtherLog { log, .. }) => json!({ "log": log }),
            Self::BadConfig(errors) => json!({ "problems": problems(errors) }),
            _ => Value::Null,
        };
        if let Value::Object(more) = more { more } else { Map::new() }
    }

    /// Headers that belong to the status.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::UpgradeRequired(_) => vec![
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
                (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            ],
            Self::Denied(Denied::TokenMissing | Denied::TokenWrong) => {
                vec![(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"moltrade-relayer\""),
                )]
            }
            Self::Fanout(refusal) => refusal.headers(),
            Self::Loop(instance) => vec![(INSTANCE_HEADER, instance.clone())],
            Self::Stopping
            | Self::NotReady(_)
            | Self::TooManyClients { .. }
            | Self::TooManyClientsFromAddress { .. }
            | Self::TooManyConnections { .. }
            | Self::TooManyConnectionsFromAddress { .. }
            | Self::TooManyConsumers { .. }
            | Self::ConsumerBusy => {
                vec![(header::RETRY_AFTER, HeaderValue::from_static("5"))]
            }
            Self::Storage(error) if error.is_full() => {
                vec![(header::RETRY_AFTER, HeaderValue::from_static("5"))]
            }
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Storage(error) = &self
            && !error.is_full()
        {
            tracing::error!(%error, "a request could not be answered");
        }
        let (status, code) = self.status();
        let mut body = self.more();
        body.insert("error".to_owned(), code.into());
        body.insert("message".to_owned(), self.to_string().into());
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().extend(self.headers());
        response
    }
}
