//! The errors that several routes share: status and code.

use axum::http::StatusCode;

/// Errors by status and code.
pub(in crate::api) type Errors = &'static [(StatusCode, &'static str)];

/// The errors that any request can meet.
pub(super) const ANY: Errors = &[
    (StatusCode::TOO_MANY_REQUESTS, "too_many_connections_from_address"),
    (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
    (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
    (StatusCode::LOOP_DETECTED, "loop_detected"),
];

/// The errors of calls for the operator.
pub(super) const ADMIN: Errors = &[
    (StatusCode::UNAUTHORIZED, "unauthorized"),
    (StatusCode::FORBIDDEN, "admin_token_required"),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_expected"),
];

/// The errors of reading events.
pub(super) const EVENTS_READER: Errors = &[
    (StatusCode::UNAUTHORIZED, "unauthorized"),
    (StatusCode::UNAUTHORIZED, "ticket_invalid"),
    (StatusCode::TOO_MANY_REQUESTS, "too_many_requests_of_reader"),
];

/// The errors of reading state.
pub(super) const STATE_READER: Errors = &[
    (StatusCode::UNAUTHORIZED, "unauthorized"),
    (StatusCode::UNAUTHORIZED, "ticket_invalid"),
    (StatusCode::TOO_MANY_REQUESTS, "too_many_requests_of_reader"),
    (StatusCode::FORBIDDEN, "reader_of_events_only"),
];

/// The errors of every query string.
pub(super) const QUERY: Errors = &[
    (StatusCode::BAD_REQUEST, "unknown_parameter"),
    (StatusCode::BAD_REQUEST, "repeated_parameter"),
    (StatusCode::BAD_REQUEST, "malformed_query"),
];

/// The error of a cursor in a query string.
pub(super) const CURSOR_OF_LOG: Errors = &[(StatusCode::CONFLICT, "cursor_of_another_log")];

/// The errors of reading a body.
pub(super) const WHOLE_BODY: Errors =
    &[(StatusCode::REQUEST_TIMEOUT, "body_too_slow"), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")];

/// The errors of parsing a body.
pub(super) const BODY: Errors =
    &[(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_expected"), (StatusCode::BAD_REQUEST, "bad_body")];

/// The errors of delivery after a cursor.
pub(in crate::api) const CURSOR: Errors =
    &[(StatusCode::GONE, "cursor_too_old"), (StatusCode::BAD_REQUEST, "cursor_ahead")];

/// The error of reading the database.
pub(in crate::api) const READ: Errors = &[(StatusCode::INTERNAL_SERVER_ERROR, "storage_failed")];

/// The errors of writing the database.
pub(in crate::api) const WRITE: Errors =
    &[(StatusCode::INTERNAL_SERVER_ERROR, "storage_failed"), (StatusCode::SERVICE_UNAVAILABLE, "disk_full")];

/// The error of a start time.
pub(in crate::api) const SINCE: Errors = &[(StatusCode::BAD_REQUEST, "since_ahead")];

/// The errors of a web page that opens a WebSocket, and of a request that opens none.
pub(in crate::api) const UPGRADE: Errors =
    &[(StatusCode::UPGRADE_REQUIRED, "upgrade_required"), (StatusCode::FORBIDDEN, "origin_not_allowed")];

/// The errors of a client of a stream.
pub(in crate::api) const CLIENT: Errors = &[
    (StatusCode::SERVICE_UNAVAILABLE, "too_many_clients"),
    (StatusCode::TOO_MANY_REQUESTS, "too_many_clients_from_address"),
];

/// The error of a reader's connection.
pub(in crate::api) const SESSION: Errors =
    &[(StatusCode::TOO_MANY_REQUESTS, "too_many_connections_of_reader")];

/// The errors of a client with a stored cursor.
pub(in crate::api) const CONSUMER: Errors = &[
    (StatusCode::SERVICE_UNAVAILABLE, "too_many_consumers"),
    (StatusCode::SERVICE_UNAVAILABLE, "consumer_busy"),
];
