//! An API call that is authenticated with a NIP-98 token or with the admin token.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use serde::de::DeserializeOwned;
use wire::PublicKey;

use super::{Refusal, loaded_fanout};
use crate::api::auth::is_json;
use crate::api::body::{Expected, json_expected, parse, whole};
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::serve::Peer;
use crate::fanout::Fanout;
use crate::fanout::proof::BadProofReason;
use crate::fanout::proof::nip98::Request as Signed;
use crate::fanout::rate_limit::LimitReached;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The caller sent the admin token.
    Admin,
    /// The caller proved that it holds this key.
    Key(PublicKey),
}

/// An authenticated call with its whole body.
pub(in crate::api) struct Call {
    caller: Caller,
    address: IpAddr,
    is_json: bool,
    body: Bytes,
}

impl Call {
    /// Parses the body.
    pub fn body<T: DeserializeOwned + Expected>(&self) -> Result<T, ApiError> {
        if self.is_json { parse(&self.body) } else { Err(json_expected()) }
    }

    /// Accepts only the holder of this key or the admin.
    pub(crate) fn require_key(&self, key: &PublicKey) -> Result<(), Refusal> {
        match self.caller {
            Caller::Key(signer) if signer != *key => Err(Refusal::NotYours { signer }),
            Caller::Key(_) | Caller::Admin => Ok(()),
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.caller == Caller::Admin
    }

    pub(crate) fn require_admin(&self) -> Result<(), Refusal> {
        if self.is_admin() { Ok(()) } else { Err(Refusal::AdminOnly) }
    }

    /// Counts a new bot against the limit of the caller's address.
    pub(crate) fn count_new_bot(&self, fanout: &Fanout) -> Result<(), Refusal> {
        if self.is_admin() {
            return Ok(());
        }
        let counted = fanout.new_bot_limit.count_address(self.address);
        counted.map_err(|LimitReached { daily_limit, retry_after }| Refusal::NewBotsRateLimited {
            daily_limit,
            retry_after,
        })
    }

    /// Counts a change against the limits of the caller's key and address.
    pub fn count(&self, fanout: &Fanout) -> Result<(), Refusal> {
        match self.caller {
            Caller::Key(key) => Ok(fanout.call_limit.count(key, self.address)?),
            Caller::Admin => Ok(()),
        }
    }
}

impl FromRequest<Context> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        // This check precedes reading the body, so that a client is refused early.
        loaded_fanout(context)?;
        let (parts, body) = request.into_parts();
        let address = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.address);
        let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        if !is_nostr(&parts.headers) {
            admin(context, &parts.headers)?;
        }
        let body = whole(body).await?;
        let caller = caller(context, &parts.headers, &parts.method, &parts.uri, &body)?;
        Ok(Self { caller, address, is_json: is_json(&parts.headers), body })
    }
}

fn caller(
    context: &Context,
    headers: &HeaderMap,
    method: &Method,
    uri: &Uri,
    body: &[u8],
) -> Result<Caller, Refusal> {
    match proved_key(context, headers, method, uri, body) {
        Some(proved) => Ok(Caller::Key(proved?)),
        None => admin(context, headers),
    }
}

fn admin(context: &Context, headers: &HeaderMap) -> Result<Caller, Refusal> {
    match context.access().is_admin(headers) {
        Some(true) => Ok(Caller::Admin),
        Some(false) => Err(Refusal::TokenWrong),
        None => Err(Refusal::ProofMissing),
    }
}

/// Whether the request has a NIP-98 token.
fn is_nostr(headers: &HeaderMap) -> bool {
    const SCHEME: &[u8] = b"Nostr";
    headers.get(header::AUTHORIZATION).is_some_and(|value| {
        let scheme = value.as_bytes().split(u8::is_ascii_whitespace).next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    })
}

/// Returns the key that a NIP-98 token proves; `None` without a token.
pub(super) fn proved_key(
    context: &Context,
    headers: &HeaderMap,
    method: &Method,
    uri: &Uri,
    body: &[u8],
) -> Option<Result<PublicKey, Refusal>> {
    if !is_nostr(headers) {
        return None;
    }
    let token = headers.get(header::AUTHORIZATION)?.as_bytes().get(b"Nostr".len()..).unwrap_or_default();
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Signed { method: method.as_str(), path_and_query, body };
    Some(loaded_fanout(context).and_then(|fanout| {
        fanout.proofs.verify_token(token.trim_ascii(), request).map_err(|bad| {
            let reason = BadProofReason::from(&bad);
            context.metrics.fanout.proofs_refused[reason].inc();
            // The path is not logged, because it may contain a secret key by mistake.
            tracing::debug!(method = method.as_str(), reason = <&str>::from(reason), "refused a proof");
            Refusal::BadProof(bad)
        })
    }))
}
