//! `GET /fanout`: checks as much as possible before the upgrade, so that a refused client gets an
//! HTTP error.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;

use super::call::proved_key;
use super::{Refusal, loaded_fanout};
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::query::{FANOUT_PARAMETERS, Query, check_cursor};
use crate::api::serve::Peer;
use crate::api::websocket::{bounded, origin_not_allowed, upgrade_required};
use crate::fanout::metrics::FollowerRefusal;
use crate::fanout::proof::BadProof;
use crate::fanout::serve::{AdmitError, ClientAuth, StartOptions};
use crate::telemetry::metrics::label_value;

/// Admits a follower that proves its key with the request (NIP-98), or that will prove its key on
/// the socket (NIP-42).
pub(in crate::api) async fn upgrade(
    state: State<Context>,
    peer: ConnectInfo<Peer>,
    (method, uri): (Method, Uri),
    query: RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let context = state.0.clone();
    let upgraded = try_upgrade(state, peer, (method, uri), query, headers, upgrade).await;
    upgraded.inspect_err(|refusal| {
        if let Some(reason) = label_value::<FollowerRefusal>(refusal.code()) {
            context.metrics.fanout.refused[reason].inc();
        }
    })
}

async fn try_upgrade(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    (method, uri): (Method, Uri),
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let fanout = Arc::clone(loaded_fanout(&context)?);
    if !context.websocket().allows(&headers) {
        return Err(origin_not_allowed());
    }
    let query = Query::parse(&query.unwrap_or_default(), FANOUT_PARAMETERS, context.log.id())?;
    if let Some(cursor) = query.cursor.filter(|_| query.consumer.is_none()) {
        check_cursor(&context.log, cursor)?;
    }
    let upgrade = upgrade.map_err(|rejection| upgrade_required(&rejection))?;
    let client = fanout.clients.enter(peer.address)?;
    let head = context.log.head();
    let options = StartOptions {
        cursor: query.cursor.unwrap_or(head),
        consumer: query.consumer.clone().map(|name| (name, query.start_position(head))),
    };
    let auth = match proved_key(&context, &headers, &method, &uri, &[]) {
        Some(proved) => {
            let admitted = fanout.admit(proved?, options, head).await?;
            ClientAuth::Proved(Box::new(admitted))
        }
        // An `Authorization` header that was meant as a proof must not be ignored.
        None if headers.contains_key(header::AUTHORIZATION) => return Err(Refusal::ProofMissing.into()),
        None if !fanout.proofs.can_verify() => {
            return Err(Refusal::BadProof(BadProof::NoPublicUrl).into());
        }
        None => ClientAuth::Pending(options),
    };
    Ok(bounded(upgrade).on_upgrade(move |socket| fanout.serve(socket, client, peer.taken, auth)))
}

impl From<AdmitError> for ApiError {
    fn from(refused: AdmitError) -> Self {
        match refused {
            AdmitError::TooManyConnections => Refusal::TooManyConnections.into(),
            AdmitError::NotFollowing => Refusal::NotFollowing.into(),
            AdmitError::Consumer(error) => error.into(),
        }
    }
}
