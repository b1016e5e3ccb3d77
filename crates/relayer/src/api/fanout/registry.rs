//! Those who follow bots: subscribed, listed, unsubscribed.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use wire::PublicKey;
use zeroize::Zeroizing;

use super::call::Call;
use super::{Refusal, ready};
use crate::api::body::Expected;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::query::{count, parameters};
use crate::fanout::directory::Listed;
use crate::fanout::registry::FollowKey;
use crate::fanout::shared_secret;
use crate::limits::FOLLOWERS_LISTED_MAX;
use crate::nip19;

/// Followers that are listed if no limit is given.
const LISTED_DEFAULT: usize = 1_000;

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

/// `POST /api/subscriptions`: a follower gets a bot's signals from now on, or has another secret.
pub(in crate::api) async fn subscribe(
    State(context): State<Context>,
    call: Call,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let fanout = ready(&context)?;
    let Subscription { bot_pubkey, follower_pubkey, shared_secret } = call.body()?;
    let bot = key("bot_pubkey", &bot_pubkey)?;
    let follower = key("follower_pubkey", &follower_pubkey)?;
    let shared_secret = shared_secret.map(Zeroizing::new);
    let secret = shared_secret.as_ref().map(|secret| secret.as_bytes());
    if let Some(secret) = secret {
        shared_secret::check(secret, &[bot, follower, *context.identity.pubkey()])
            .map_err(Refusal::BadSecret)?;
    }
    call.concerns(&follower)?;
    call.count(fanout)?;
    let follow = FollowKey { bot, follower };
    let created = fanout.registry.subscribe(follow, secret).await.map_err(Refusal::from)?;
    tracing::debug!(%bot, %follower, created, "a follower subscribed");
    let body = json!({
        "bot_pubkey": bot, "follower_pubkey": follower, "shared_secret": secret.is_some(), "created": created,
    });
    Ok((made(created), Json(body)))
}

/// `GET /api/subscriptions/{bot_pubkey}`: who follows a bot. It never tells a secret.
pub(in crate::api) async fn list(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = ready(&context)?;
    let Path(bot) = bot.map_err(|_| Refusal::NoSuchBot)?;
    let bot = key("bot_pubkey", &bot)?;
    call.concerns(&bot)?;
    let (after, limit) = page(&query.unwrap_or_default())?;
    let bot = fanout.registry.directory().bot(&bot).ok_or(Refusal::NoSuchBot)?;
    // One more tells whether there is more.
    let mut listed = bot.list(after, limit.saturating_add(1));
    let more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| more).map(|last| last.follower);
    let subscriptions: Vec<Value> = listed
        .into_iter()
        .map(|Listed { follower, since_ms, has_secret }| {
            json!({ "follower_pubkey": follower, "since": since_ms, "shared_secret": has_secret })
        })
        .collect();
    Ok(Json(json!({
        "bot_pubkey": bot.pubkey, "name": bot.name().as_str(), "total": bot.followers(),
        "subscriptions": subscriptions, "next": next,
    })))
}

/// `DELETE /api/subscriptions/{bot_pubkey}/{follower_pubkey}`: the follower gets nothing more of the bot.
pub(in crate::api) async fn unsubscribe(
    State(context): State<Context>,
    keys: Result<Path<(String, String)>, PathRejection>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = ready(&context)?;
    let Path((bot, follower)) = keys.map_err(|_| Refusal::NoSuchBot)?;
    let (bot, follower) = (key("bot_pubkey", &bot)?, key("follower_pubkey", &follower)?);
    call.concerns(&follower)?;
    call.count(fanout)?;
    let deleted = fanout.registry.unsubscribe(FollowKey { bot, follower }).await.map_err(Refusal::from)?;
    tracing::debug!(%bot, %follower, deleted, "a follower unsubscribed");
    Ok(Json(json!({ "bot_pubkey": bot, "follower_pubkey": follower, "deleted": deleted })))
}

/// What a page of followers or bots is asked for by.
pub(super) fn page(query: &str) -> Result<(Option<PublicKey>, usize), ApiError> {
    let (mut after, mut limit) = (None, LISTED_DEFAULT);
    for (name, value) in parameters(query, &["after", "limit"])? {
        match name {
            "after" => after = Some(key("after", &value)?),
            _ => limit = count("limit", "bad_limit", &value, 1..=FOLLOWERS_LISTED_MAX)?,
        }
    }
    Ok((after, limit))
}

pub(super) fn key(field: &'static str, text: &str) -> Result<PublicKey, Refusal> {
    nip19::public_key(text).map_err(|why| Refusal::BadPublicKey { field, why })
}

pub(super) const fn made(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
