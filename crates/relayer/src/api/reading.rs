//! Authorizes requests that read: with the token of a reader, with the admin token, or with a
//! ticket. While no readers are configured, anyone may read.

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::auth::bearer;
use super::context::Context;
use super::error::ApiError;
use super::serve::Peer;
use crate::serve::{Credential, Grant, ReadRefusal, ReadRefused, Session};

/// The parameter that a client sends if it cannot send headers.
const TICKET: &str = "ticket";

/// The kind of data that a route returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// Events. The handler returns only those that the [`Grant`] permits.
    Events,
    State,
}

/// Admits readers to a route that serves events. The handler gets the [`Grant`].
pub(super) async fn authorize_events(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    authorize(&context, Shows::Events, request, next).await
}

/// Admits readers of all events to a route that serves state.
pub(super) async fn authorize_state(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    authorize(&context, Shows::State, request, next).await
}

/// Like [`authorize_state`], for the port that serves only `/metrics`: programs on this machine
/// need no token there.
pub(super) async fn authorize_metrics(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if context.access().is_local(request.headers()) {
        return Ok(next.run(request).await);
    }
    authorize(&context, Shows::State, request, next).await
}

async fn authorize(
    context: &Context,
    shows: Shows,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Removed before anything else sees the URL.
    let ticket = if takes_ticket(request.method()) { take_ticket(request.uri_mut()) } else { None };
    let admitted = {
        let credential = match &ticket {
            Some(ticket) => Credential::Ticket(ticket),
            None => credential(context, request.headers()),
        };
        context.readers.admit(credential).and_then(|grant| match shows {
            Shows::State if !grant.may_read_state() => Err(ReadRefusal::EventsOnly.into()),
            _ => Ok(grant),
        })
    };
    let grant = match admitted {
        Ok(grant) => grant,
        Err(refused) => {
            let extensions = request.extensions();
            if let (Some(ConnectInfo(peer)), Some(path)) =
                (extensions.get::<ConnectInfo<Peer>>(), extensions.get::<MatchedPath>())
            {
                context.readers.refused(refused.reason, peer.address, path.as_str());
            }
            return Err(refused.into());
        }
    };
    request.extensions_mut().insert(grant);
    Ok(next.run(request).await)
}

/// Begins a connection that reads for long. `path` is the route's.
pub(super) fn session(
    context: &Context,
    grant: &Grant,
    peer: &Peer,
    path: &str,
) -> Result<Session, ApiError> {
    grant.connect().map_err(|refused| {
        context.readers.refused(refused.reason, peer.address, path);
        refused.into()
    })
}

fn credential<'a>(context: &Context, headers: &'a HeaderMap) -> Credential<'a> {
    match bearer(headers) {
        None => Credential::Nothing,
        Some(Some(token)) if context.access().is_admin_token(token) => Credential::Admin,
        // The scheme may be another one; the empty token is nobody's.
        Some(token) => Credential::Token(token.unwrap_or_default()),
    }
}

/// A ticket permits only plain reads. In particular, it cannot be used to get another ticket.
fn takes_ticket(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Removes the first ticket from the query.
fn take_ticket(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let is_ticket = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| name == TICKET);
    let found = query.split('&').find(is_ticket)?;
    let ticket = found.split_once('=').map(|(_, value)| value.to_owned());
    let mut is_removed = false;
    let rest = query.split('&').filter(|pair| {
        is_removed || !is_ticket(pair) || {
            is_removed = true;
            false
        }
    });
    let rest = rest.collect::<Vec<_>>().join("&");
    let target = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{rest}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    *uri = Uri::from_parts(parts).ok()?;
    ticket
}

impl From<ReadRefused> for ApiError {
    fn from(ReadRefused { reason, retry_after }: ReadRefused) -> Self {
        let too_many = |code, message| {
            let secs = retry_after.map_or(5, |wait| wait.as_secs() + 1);
            Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after_secs(secs)
        };
        match reason {
            ReadRefusal::NoToken => Self::unauthorized(
                "reading needs a token: send `Authorization: Bearer <token>`, with the token of one of [[api.readers]] \
                 or the admin_token of [api]; a web page sends a ticket of POST /api/tickets where it cannot send headers",
            ),
            ReadRefusal::WrongToken => Self::unauthorized(
                "the token in the Authorization header is neither that of one of [[api.readers]] nor the admin_token of \
                 [api]",
            ),
            ReadRefusal::WrongTicket => {
                let message = "the ticket was used before, has expired, or is not one of this gateway; get a new one \
                               with POST /api/tickets for each connection";
                Self::new(StatusCode::UNAUTHORIZED, "ticket_invalid", message)
            }
            ReadRefusal::EventsOnly => Self::new(
                StatusCode::FORBIDDEN,
                "reader_of_events_only",
                "this reader has `kinds` or `authors`, so it may read those events (/ws, /api/events, \
                 /api/events/stream), but no state; use the token of a reader without them",
            ),
            ReadRefusal::TooManyRequests => too_many(
                "too_many_requests_of_reader",
                "this reader has made max_requests_per_minute requests; try again when Retry-After says",
            ),
            ReadRefusal::TooManyConnections => too_many(
                "too_many_connections_of_reader",
                "this reader has max_connections connections to /ws and event streams; close one, or ask the operator \
                 to raise the limit",
            ),
            ReadRefusal::TooManyTickets => too_many(
                "too_many_tickets",
                "100 tickets of this reader are unused; use them, or wait until they expire",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_is_removed_from_the_url() {
        for (before, after, ticket) in [
            ("/ws?ticket=a", "/ws", Some("a")),
            ("/ws?cursor=1&ticket=a&kinds=1", "/ws?cursor=1&kinds=1", Some("a")),
            ("/ws?ticket=a&ticket=b", "/ws?ticket=b", Some("a")),
            ("/ws?ticket=", "/ws", Some("")),
            ("/ws?ticket", "/ws?ticket", None),
            ("/ws?tickets=a", "/ws?tickets=a", None),
            ("/ws?x=ticket=a", "/ws?x=ticket=a", None),
            ("/ws", "/ws", None),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            assert_eq!(take_ticket(&mut uri).as_deref(), ticket, "{before}");
            assert_eq!(uri.to_string(), after);
        }
    }
}
