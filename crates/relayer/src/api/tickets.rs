//! `POST /api/tickets`.

use std::fmt;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::{About, Answer, Operation, Schemas, Tag};
use super::error::ApiError;
use super::serve::Peer;
use crate::limits::TICKET_LIFETIME;
use crate::serve::Grant;

/// A secret that a client sends once as `?ticket=` in place of a token.
#[derive(Serialize, JsonSchema)]
struct Ticket {
    ticket: String,
    expires_in_seconds: u64,
}

/// An answer that is never stored.
pub(super) struct Issued(Ticket);

/// Without the secret.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(***)")
    }
}

impl IntoResponse for Issued {
    fn into_response(self) -> Response {
        const NEVER: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];
        (NEVER, Json(self.0)).into_response()
    }
}

impl Answer for Issued {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Json::<Ticket>::describe(operation, schemas);
    }
}

pub(super) const ISSUE: About = About::new(Tag::Events, "Issues a ticket for one connection")
    .details(
        "`EventSource` and the WebSockets of browsers cannot send headers. They send a ticket as `?ticket=` instead, \
         which any `GET` for readers accepts. A ticket is valid once, for 30 seconds, and for what its token may read.",
    )
    .errors(&[&[(StatusCode::TOO_MANY_REQUESTS, "too_many_tickets")]]);

/// Issues a ticket for the caller.
pub(super) async fn issue(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(grant): Extension<Grant>,
) -> Result<Issued, ApiError> {
    let issued = context.readers.issue_ticket(&grant).inspect_err(|refused| {
        context.readers.refused(refused.reason, peer.address, "/api/tickets");
    })?;
    Ok(Issued(Ticket { ticket: issued.reveal(), expires_in_seconds: TICKET_LIFETIME.as_secs() }))
}
