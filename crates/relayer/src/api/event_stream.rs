//! `GET /api/events/stream`: the log as Server-Sent Events, for web pages and other HTTP clients.

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::context::Context;
use super::description::errors::{CLIENT, CURSOR, READ, SESSION, SINCE};
use super::description::{About, Tag};
use super::error::ApiError;
use super::query::{self, EVENT_STREAM_PARAMETERS, Query};
use super::reading::session;
use super::serve::Peer;
use super::start::{LAST_EVENT_ID, last_event_id};
use super::websocket::counted;
use crate::receiver::Format;
use crate::serve::{ClientTask, EventBody, Grant, LogSource};

/// The headers of the response. A proxy must neither store nor buffer it. The connection ends with
/// the response, because it has no slot among the connections of the port.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    (header::CONNECTION, HeaderValue::from_static("close")),
];

pub(super) const STREAM: About = About::new(Tag::Events, "Streams events as Server-Sent Events")
    .details(
        "The `id` of an event is its sequence. A browser that reconnects sends the last one and misses nothing. \
         `docs/API.md` explains heartbeats and how the stream ends.",
    )
    .query(EVENT_STREAM_PARAMETERS)
    .header(&query::LAST_EVENT_ID)
    .content(&["text/event-stream"])
    .errors(&[CURSOR, SINCE, CLIENT, SESSION, READ]);

/// Checks the request and streams events until the client disconnects.
pub(super) async fn stream(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(grant): Extension<Grant>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(&query.unwrap_or_default(), EVENT_STREAM_PARAMETERS, context.log.id())?;
    // A browser that reconnects sends the URL of its first request, with an old cursor or time.
    if let Some(cursor) = last_event_id(headers.get_all(LAST_EVENT_ID).iter(), context.log.id())? {
        (query.cursor, query.since) = (Some(cursor), None);
    }
    let start = query.start(&context.log).await?;
    let session = session(&context, &grant, &peer, "/api/events/stream")?;
    let client = context.clients.enter(peer.address).map_err(|refused| counted(&context, refused.into()))?;
    let head = context.log.head();
    let cursor = start.unwrap_or(head);
    // Envelopes are the default also without a cursor, so that a reconnection changes nothing.
    let format = query.format.unwrap_or(Format::Envelope);
    tracing::debug!(%cursor, ?format, origin = %client.origin(), "a client connects to an event stream");
    let source = LogSource::new(context.log.reader(cursor), grant.narrow(query.selection), format);
    let metrics = &context.metrics.websocket;
    let counts = metrics.counts("/api/events/stream");
    let task = ClientTask::new(source, head, counts, context.websocket().patience, peer.taken.clone())
        .with_session(session)
        .with_heartbeat(query.heartbeat);
    let streaming = peer.start_stream();
    let body = EventBody::of_log(cursor, peer.taken, metrics, |stream| async move {
        task.run(stream, client).await;
        drop(streaming);
    });
    Ok((HEADERS, Body::new(body)).into_response())
}
