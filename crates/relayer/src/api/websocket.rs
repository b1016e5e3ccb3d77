//! `GET /ws`: everything is checked before the upgrade, so that whoever is refused learns why.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::auth::foreign_origin;
use super::context::Context;
use super::error::ApiError;
use super::query::{Query, WS_PARAMETERS, check_cursor};
use super::serve::Peer;
use crate::config::{Output, WebOrigin};
use crate::limits::{
    CLIENT_FLUSH_BYTES, CLIENT_MESSAGE_BYTES_MAX, CLIENT_READ_BYTES, CLIENT_WRITE_BYTES_MAX,
};
use crate::receiver::Format;
use crate::serve::seat::Seat;
use crate::serve::websocket::Session;
use crate::serve::{ClientLimits, LogSource, Patience};
use crate::telemetry::metrics::REFUSED;

/// How `/ws` is served.
#[derive(Debug, Clone)]
pub struct WebSocketOptions {
    /// Whether it is at all.
    pub is_enabled: bool,
    /// How many clients there may be.
    pub limits: ClientLimits,
    /// When a client is given up.
    pub patience: Patience,
    /// Whose pages may connect. If there are none, any page may read, and none may change a
    /// consumer's cursor.
    pub allowed_origins: Vec<WebOrigin>,
}

impl From<&Output> for WebSocketOptions {
    fn from(output: &Output) -> Self {
        Self {
            is_enabled: output.websocket_enabled,
            limits: ClientLimits { in_all: output.max_clients, from_address: output.max_clients_per_address },
            patience: Patience::from(output),
            allowed_origins: output.allowed_origins.clone(),
        }
    }
}

impl WebSocketOptions {
    /// Whether the page that makes a request may read. Browsers say whose page it is; whatever does not say
    /// it is no browser, and could say anything.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let allowed =
            |origin: &[u8]| self.allowed_origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin);
        self.allowed_origins.is_empty()
            || headers.get_all(header::ORIGIN).iter().all(|origin| allowed(origin.as_bytes()))
    }

    /// Whether whoever makes a request that was [allowed](Self::allows) may also change something.
    /// Without a list, the rule is that of calls that change something: no page may, but the
    /// server's own.
    fn allows_change(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match foreign_origin(headers) {
            Some(origin) if self.allowed_origins.is_empty() => Err(ApiError::OriginMayNotChange(origin)),
            _ => Ok(()),
        }
    }
}

/// Checks what is asked for, and makes the connection a client of the log. Of subprotocols and extensions
/// that are offered none is taken.
pub(super) async fn upgrade(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let options = &context.websocket;
    if !options.is_enabled {
        return Err(ApiError::WebSocketDisabled);
    }
    if !options.allows(&headers) {
        return Err(counted(&context, ApiError::OriginNotAllowed));
    }
    let query = Query::parse(&query.unwrap_or_default(), WS_PARAMETERS, context.log.id())?;
    // A consumer's cursor is written down, and its other connection is closed.
    if query.consumer.is_some()
        && let Err(refusal) = options.allows_change(&headers)
    {
        if context.may_log_refused_page() {
            tracing::warn!(reason = %refusal, "a web page may not connect as a consumer of /ws");
        }
        return Err(counted(&context, refusal));
    }
    // Of a consumer that is known, the cursor of the URL means nothing.
    if let Some(cursor) = query.cursor.filter(|_| query.consumer.is_none()) {
        check_cursor(&context.log, cursor)?;
    }
    let upgrade = upgrade.map_err(|rejection| ApiError::UpgradeRequired(rejection.body_text()))?;
    let client =
        context.clients().enter(peer.address).map_err(|refused| counted(&context, refused.into()))?;
    let head = context.log.head();
    let seat = seat(&context, &query).await.map_err(|refused| counted(&context, refused))?;
    let (cursor, default_format) = match (&seat, query.cursor) {
        (Some(seat), _) => (seat.cursor(), Format::Envelope),
        (None, Some(cursor)) => (cursor, Format::Envelope),
        (None, None) => (head, Format::Event),
    };
    let format = query.format.unwrap_or(default_format);
    let consumer = seat.as_ref().map(Seat::name);
    tracing::debug!(%cursor, ?format, consumer, origin = %client.origin(), "a client connects to /ws");
    let source = LogSource::new(context.log.reader(cursor), query.selection, format);
    let counts = context.metrics.websocket_counts();
    let session = Session::new(source, head, counts, options.patience, peer.taken);
    let session = match seat {
        Some(seat) => session.of(seat),
        None => session,
    };
    Ok(bounded(upgrade).on_upgrade(|socket| session.run(socket, client)))
}

/// A connection with bounds on what it holds.
pub(super) fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(CLIENT_READ_BYTES)
        .write_buffer_size(CLIENT_FLUSH_BYTES)
        .max_write_buffer_size(CLIENT_WRITE_BYTES_MAX)
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX)
}

/// The seat of a consumer whose cursor we keep, once whoever had it is gone.
async fn seat(context: &Context, query: &Query) -> Result<Option<Seat>, ApiError> {
    let Some(name) = &query.consumer else { return Ok(None) };
    Ok(Some(context.consumers.enter(name.as_str(), query.begin(context.log.head()), None).await?))
}

/// Counts a client that is not let in though it asked for nothing wrong, by the code that it is told. At the end
/// nobody is let in, which is no news.
fn counted(context: &Context, refusal: ApiError) -> ApiError {
    let (_, code) = refusal.status();
    if REFUSED.contains(&code) {
        context.metrics.client_refused(code).inc();
    }
    refusal
}
