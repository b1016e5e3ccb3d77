//! The API calls for follows: subscribe, list, unsubscribe.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::call::Call;
use super::page::Page;
use super::{Refusal, bot_in, created_status, key, loaded_fanout};
use crate::api::body::Expected;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::fanout::registry::FollowKey;
use crate::fanout::registry::directory::ListedFollower;
use crate::fanout::shared_secret;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscription {
    bot_pubkey: String,
    follower_pubkey: String,
    shared_secret: Option<String>,
}

impl Expected for Subscription {
    const EXPECTED: &'static str =
        r#"{"bot_pubkey":"npub1…","follower_pubkey":"npub1…"}, and "shared_secret" if there is one"#;
}

/// `POST /api/subscriptions`: adds a follow, or changes the secret of a follow.
pub(in crate::api) async fn subscribe(
    State(context): State<Context>,
    call: Call,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let fanout = loaded_fanout(&context)?;
    let Subscription { bot_pubkey, follower_pubkey, shared_secret } = call.body()?;
    let bot = key("bot_pubkey", &bot_pubkey)?;
    let follower = key("follower_pubkey", &follower_pubkey)?;
    let shared_secret = shared_secret.map(Zeroizing::new);
    let secret = shared_secret.as_ref().map(|secret| secret.as_bytes());
    if let Some(secret) = secret {
        shared_secret::check(secret, &[bot, follower, *context.identity.pubkey()])
            .map_err(Refusal::BadSecret)?;
    }
    call.require_key(&follower)?;
    call.count(fanout)?;
    let follow = FollowKey { bot, follower };
    let created = fanout.registry.subscribe(follow, secret).await.map_err(Refusal::from)?;
    tracing::debug!(%bot, %follower, created, "a follower subscribed");
    let body = json!({
        "bot_pubkey": bot, "follower_pubkey": follower, "shared_secret": secret.is_some(), "created": created,
    });
    Ok((created_status(created), Json(body)))
}

/// `GET /api/subscriptions/{bot_pubkey}`: lists the followers of a bot, never their secrets.
pub(in crate::api) async fn list(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let bot = bot_in(bot)?;
    call.require_key(&bot)?;
    let page = Page::parse(&query.unwrap_or_default())?;
    let bot = fanout.registry.directory().bot(&bot).ok_or(Refusal::NoSuchBot)?;
    let mut listed = bot.list(page.after, page.read_limit());
    let next = page.cut(&mut listed, |listed| listed.follower);
    let subscriptions: Vec<Value> = listed
        .into_iter()
        .map(|ListedFollower { follower, since_ms, has_secret }| {
            json!({ "follower_pubkey": follower, "since": since_ms, "shared_secret": has_secret })
        })
        .collect();
    Ok(Json(json!({
        "bot_pubkey": bot.pubkey, "name": bot.name().as_str(), "total": bot.followers(),
        "subscriptions": subscriptions, "next": next,
    })))
}

/// `DELETE /api/subscriptions/{bot_pubkey}/{follower_pubkey}`: removes a follow.
pub(in crate::api) async fn unsubscribe(
    State(context): State<Context>,
    keys: Result<Path<(String, String)>, PathRejection>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let Path((bot, follower)) = keys.map_err(|_| Refusal::NoSuchBot)?;
    let (bot, follower) = (key("bot_pubkey", &bot)?, key("follower_pubkey", &follower)?);
    call.require_key(&follower)?;
    call.count(fanout)?;
    let deleted = fanout.registry.unsubscribe(FollowKey { bot, follower }).await.map_err(Refusal::from)?;
    tracing::debug!(%bot, %follower, deleted, "a follower unsubscribed");
    Ok(Json(json!({ "bot_pubkey": bot, "follower_pubkey": follower, "deleted": deleted })))
}
