//! The API calls for follows: subscribe, list, unsubscribe.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, CallWith};
use super::page::{PARAMETERS, Page};
use super::refusal::{self, Refusal};
use super::{AnyKey, BOT, HexKey, bot_in, key, loaded_fanout};
use crate::api::body::Expected;
use crate::api::context::Context;
use crate::api::description::signature::Created;
use crate::api::description::{About, Tag};
use crate::api::error::ApiError;
use crate::api::parameter::{Form, PathParameter};
use crate::fanout::registry::FollowKey;
use crate::fanout::registry::directory::ListedFollower;
use crate::fanout::shared_secret;

/// A follower that follows a bot.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewSubscription")]
pub(in crate::api) struct Subscription {
    #[schemars(with = "AnyKey")]
    bot_pubkey: String,
    #[schemars(with = "AnyKey")]
    follower_pubkey: String,
    /// 32 random bytes in base64, if the signals of this bot are encrypted with a secret.
    shared_secret: Option<String>,
}

impl Expected for Subscription {
    const EXPECTED: &'static str =
        r#"{"bot_pubkey":"npub1…","follower_pubkey":"npub1…"}, and "shared_secret" if there is one"#;
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Subscription")]
pub(in crate::api) struct Subscribed {
    bot_pubkey: HexKey,
    follower_pubkey: HexKey,
    /// Whether signals are encrypted with a secret.
    shared_secret: bool,
    /// Whether the follow is new.
    created: bool,
}

pub(in crate::api) const SUBSCRIBE: About = About::new(Tag::Fanout, "Adds a follow, or changes its secret")
    .details("Needs the follower's proof. The call replaces the whole follow.")
    .errors(&[refusal::WRITE, refusal::OWNER, refusal::NO_SUCH_BOT, refusal::NEW_FOLLOW]);

/// `POST /api/subscriptions`: adds a follow, or changes the secret of a follow.
pub(in crate::api) async fn subscribe(
    State(context): State<Context>,
    CallWith(call, subscription): CallWith<Subscription>,
) -> Result<Created<Subscribed>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let Subscription { bot_pubkey, follower_pubkey, shared_secret } = subscription;
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
    let body = Subscribed {
        bot_pubkey: HexKey(bot),
        follower_pubkey: HexKey(follower),
        shared_secret: secret.is_some(),
        created,
    };
    Ok(Created { is_new: created, body })
}

/// A page of the followers of a bot, by key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Subscriptions")]
pub(in crate::api) struct List {
    bot_pubkey: HexKey,
    name: String,
    total: usize,
    subscriptions: Vec<ShownFollower>,
    /// The `after` of the next page; null on the last.
    next: Option<HexKey>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Follower")]
struct ShownFollower {
    follower_pubkey: HexKey,
    /// Unix milliseconds.
    since: u64,
    /// Whether signals are encrypted with a secret.
    shared_secret: bool,
}

pub(in crate::api) const LIST: About = About::new(Tag::Fanout, "The followers of a bot")
    .details("Needs the bot's proof. Secrets are never returned.")
    .path(&[BOT])
    .query(PARAMETERS)
    .errors(&[refusal::READ, refusal::OWNER, refusal::NO_SUCH_BOT]);

/// `GET /api/subscriptions/{bot_pubkey}`: lists the followers of a bot, never their secrets.
pub(in crate::api) async fn list(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Result<Json<List>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let bot = bot_in(bot)?;
    call.require_key(&bot)?;
    let page = Page::parse(&query.unwrap_or_default())?;
    let bot = fanout.registry.directory().bot(&bot).ok_or(Refusal::NoSuchBot)?;
    let mut listed = bot.list(page.after, page.read_limit());
    let next = page.cut(&mut listed, |listed| listed.follower);
    let shown = listed.into_iter().map(|ListedFollower { follower, since_ms, has_secret }| ShownFollower {
        follower_pubkey: HexKey(follower),
        since: since_ms,
        shared_secret: has_secret,
    });
    Ok(Json(List {
        bot_pubkey: HexKey(bot.pubkey),
        name: bot.name().as_str().to_owned(),
        total: bot.followers(),
        subscriptions: shown.collect(),
        next: next.map(HexKey),
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct DeletedSubscription {
    bot_pubkey: HexKey,
    follower_pubkey: HexKey,
    /// Whether the follow existed.
    deleted: bool,
}

pub(in crate::api) const UNSUBSCRIBE: About = About::new(Tag::Fanout, "Removes a follow")
    .details("Needs the follower's proof.")
    .path(&[
        BOT,
        PathParameter { name: "follower", form: Form::PublicKey, about: "The public key of the follower." },
    ])
    .errors(&[refusal::WRITE, refusal::OWNER, refusal::NO_SUCH_BOT]);

/// `DELETE /api/subscriptions/{bot_pubkey}/{follower_pubkey}`: removes a follow.
pub(in crate::api) async fn unsubscribe(
    State(context): State<Context>,
    keys: Result<Path<(String, String)>, PathRejection>,
    call: Call,
) -> Result<Json<DeletedSubscription>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let Path((bot, follower)) = keys.map_err(|_| Refusal::NoSuchBot)?;
    let (bot, follower) = (key("bot_pubkey", &bot)?, key("follower_pubkey", &follower)?);
    call.require_key(&follower)?;
    call.count(fanout)?;
    let deleted = fanout.registry.unsubscribe(FollowKey { bot, follower }).await.map_err(Refusal::from)?;
    tracing::debug!(%bot, %follower, deleted, "a follower unsubscribed");
    Ok(Json(DeletedSubscription { bot_pubkey: HexKey(bot), follower_pubkey: HexKey(follower), deleted }))
}
