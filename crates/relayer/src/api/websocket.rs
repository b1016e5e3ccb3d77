//! `GET /ws`. Everything is checked before the upgrade, so that a refused client learns the reason.

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::context::Context;
use super::description::errors::{CLIENT, CONSUMER, CURSOR, SESSION, SINCE, UPGRADE, WRITE};
use super::description::signature::Upgraded;
use super::description::{About, OfEvents, Tag};
use super::error::ApiError;
use super::query::{Query, WS_PARAMETERS};
use super::reading::session;
use super::serve::Peer;
use crate::limits::{
    CLIENT_FLUSH_BYTES, CLIENT_MESSAGE_BYTES_MAX, CLIENT_READ_BYTES, CLIENT_WRITE_BYTES_MAX,
};
use crate::receiver::Format;
use crate::serve::{
    ClientRefusal, ClientTask, ConsumerName, EnterError, Grant, Lease, LogSource, Refused, Share,
    StartPosition,
};
use crate::telemetry::metrics::label_value;

pub(super) fn origin_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "origin_not_allowed",
        "pages of this origin may not connect; add the origin to [output] allowed_origins, written as browsers send \
         it (https://app.example)",
    )
}

pub(super) fn upgrade_required(rejection: &WebSocketUpgradeRejection) -> ApiError {
    let message = format!(
        "this path speaks WebSocket (RFC 6455, version 13); connect to it with a WebSocket client: {}",
        rejection.body_text()
    );
    ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .header(header::CONNECTION, HeaderValue::from_static("upgrade"))
        .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

pub(super) const WS: About = About::new(Tag::Events, "Streams events over a WebSocket")
    .details(
        "Each event is one text message, in the order of the log. A named `consumer` acknowledges what it has \
         processed. `docs/API.md` explains resuming, acknowledgements and close codes.",
    )
    .query(WS_PARAMETERS)
    .errors(&[
        CURSOR,
        SINCE,
        CONSUMER,
        UPGRADE,
        CLIENT,
        SESSION,
        WRITE,
        &[
            (StatusCode::NOT_FOUND, "websocket_disabled"),
            (StatusCode::CONFLICT, "consumer_without_reader"),
            (StatusCode::CONFLICT, "too_many_consumers_of_reader"),
        ],
    ]);

/// Checks the request and serves the connection. Offered subprotocols and extensions are ignored.
pub(super) async fn upgrade(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(grant): Extension<Grant>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Upgraded<OfEvents>, ApiError> {
    let options = context.websocket();
    if !options.is_enabled {
        return Err(ApiError::not_found(
            "websocket_disabled",
            "the WebSocket output is disabled; set websocket_enabled = true under [output]",
        ));
    }
    if !options.allows(&headers) {
        return Err(counted(&context, origin_not_allowed()));
    }
    let mut query = Query::parse(&query.unwrap_or_default(), WS_PARAMETERS, context.log.id())?;
    // Connecting as a consumer stores the cursor and closes the consumer's other connection.
    if query.consumer.is_some()
        && let Err(refusal) = options.allows_change(&headers)
    {
        if context.may_log_refused_page() {
            tracing::warn!(
                name: "web_page_refused",
                reason = %refusal, "a web page may not connect as a consumer of /ws"
            );
        }
        return Err(counted(&context, refusal));
    }
    query.cursor = query.start(&context.log).await?;
    let upgrade = upgrade.map_err(|rejection| upgrade_required(&rejection))?;
    let session = session(&context, &grant, &peer, "/ws")?;
    let client = context.clients.enter(peer.address).map_err(|refused| counted(&context, refused.into()))?;
    let head = context.log.head();
    let lease = lease(&context, &grant, &query).await.map_err(|refused| counted(&context, refused))?;
    let (cursor, default_format) = match (&lease, query.cursor) {
        (Some(lease), _) => (lease.cursor(), Format::Envelope),
        (None, Some(cursor)) => (cursor, Format::Envelope),
        (None, None) => (head, Format::Event),
    };
    let format = query.format.unwrap_or(default_format);
    let consumer = lease.as_ref().map(Lease::name);
    tracing::debug!(%cursor, ?format, consumer, origin = %client.origin(), "a client connects to /ws");
    let source = LogSource::new(context.log.reader(cursor), grant.narrow(query.selection), format);
    let counts = context.metrics.websocket.counts("/ws");
    let task = ClientTask::new(source, head, counts, options.patience, peer.taken)
        .with_session(session)
        .with_heartbeat(query.heartbeat);
    let task = match lease {
        Some(lease) => task.with_lease(lease),
        None => task,
    };
    Ok(Upgraded::new(bounded(upgrade).on_upgrade(|socket| task.run(socket, client))))
}

/// Limits the memory that a connection may use.
pub(super) fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(CLIENT_READ_BYTES)
        .write_buffer_size(CLIENT_FLUSH_BYTES)
        .max_write_buffer_size(CLIENT_WRITE_BYTES_MAX)
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX)
}

/// Waits until the consumer's previous connection has ended, and returns the consumer's lease.
///
/// Each reader has its own names, so that no reader can take over another's consumer. The operator
/// and clients without a token share a separate set of names.
async fn lease(context: &Context, grant: &Grant, query: &Query) -> Result<Option<Lease>, ApiError> {
    let Some(name) = query.consumer.as_ref().map(ConsumerName::as_str) else { return Ok(None) };
    let start = query.start_position(context.log.head());
    let (Some(reader), Some(max)) = (grant.reader_name(), grant.consumers_max()) else {
        return Ok(Some(context.consumers.acquire(name, start, None).await?));
    };
    let prefix = format!("{reader}/");
    let key = format!("{prefix}{name}");
    // Without this check, a consumer that gets a token would silently start at the head.
    if matches!(start, StartPosition::Now(_))
        && context.consumers.cursor(&key).is_none()
        && let Some(cursor) = context.consumers.cursor(name)
    {
        let head = context.log.head();
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "consumer_without_reader",
            match grant.may_read_state() {
                true => format!(
                    "a consumer {name} without a reader is at cursor {cursor}, and yours does not exist yet; connect \
                     once with cursor={cursor} to continue there, or with cursor={head} for new events"
                ),
                // Cursors are state, which readers with a selection may not see.
                false => format!(
                    "there is a consumer {name} without a reader, and yours does not exist yet; ask the operator for \
                     its cursor and connect once with it to continue there, or with cursor={head} for new events"
                ),
            },
        ));
    }
    let share = Share { prefix: &prefix, max };
    match context.consumers.acquire(&key, start, Some(share)).await {
        Ok(lease) => Ok(Some(lease)),
        Err(EnterError::TooManyShared(max)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "too_many_consumers_of_reader",
            format!(
                "the cursors of {max} consumers of yours are kept, and max_consumers of your reader allows no more; use \
                 one of their names, or ask the operator to delete some or to raise the limit"
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Counts a refusal of a valid request by its error code. Refusals while the gateway stops are not
/// counted.
pub(super) fn counted(context: &Context, refusal: ApiError) -> ApiError {
    if let Some(reason) = label_value::<ClientRefusal>(refusal.code()) {
        context.metrics.websocket.refused[reason].inc();
    }
    refusal
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stopping => Self::stopping(),
            Refused::TooMany(max) => Self::unavailable(
                "too_many_clients",
                format!(
                    "{max} clients are connected, and [output] max_clients (for /fanout: [fanout] max_clients) allows \
                     no more; try again later or raise it"
                ),
            ),
            Refused::TooManyFromAddress(max) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_clients_from_address",
                format!(
                    "{max} clients are connected from your address, and [output] max_clients_per_address allows no \
                     more; close some or raise it (or name the proxy between us in [api] trusted_proxies)"
                ),
            )
            .retry_after_secs(5),
        }
    }
}
