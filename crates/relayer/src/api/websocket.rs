//! `GET /ws`: everything is checked before the upgrade, so that whoever is refused learns why.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::context::Context;
use super::error::ApiError;
use super::query::{Query, WS_PARAMETERS, check_cursor};
use crate::downstream::Format;
use crate::downstream::websocket::Session;
use crate::limits::{
    CLIENT_FLUSH_BYTES, CLIENT_MESSAGE_BYTES_MAX, CLIENT_READ_BYTES, CLIENT_WRITE_BYTES_MAX,
};

/// Checks what is asked for, and makes the connection a client of the log.
pub(super) async fn upgrade(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if !context.websocket_enabled {
        return Err(ApiError::WebSocketDisabled);
    }
    let query = Query::parse(&query.unwrap_or_default(), WS_PARAMETERS)?;
    if let Some(cursor) = query.cursor {
        check_cursor(&context.log, cursor)?;
    }
    let upgrade = upgrade.map_err(|rejection| ApiError::UpgradeRequired(rejection.body_text()))?;
    let client = context.clients().enter().ok_or(ApiError::Stopping)?;
    let head = context.log.head();
    let (cursor, default_format) = match query.cursor {
        Some(cursor) => (cursor, Format::Envelope),
        None => (head, Format::Event),
    };
    let format = query.format.unwrap_or(default_format);
    tracing::debug!(%cursor, ?format, "a client connects to /ws");
    let session = Session::new(
        context.log.reader(cursor),
        head,
        query.selection,
        format,
        std::sync::Arc::clone(&context.metrics),
    );
    let upgrade = upgrade
        .read_buffer_size(CLIENT_READ_BYTES)
        .write_buffer_size(CLIENT_FLUSH_BYTES)
        .max_write_buffer_size(CLIENT_WRITE_BYTES_MAX)
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(|socket| session.run(socket, client)))
}
