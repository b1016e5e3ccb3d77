//! The API calls for bots: register, list, approve, remove.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::page::Page;
use super::{Refusal, bot_in, created_status, key, loaded_fanout};
use crate::api::body::Expected;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::config::Registration;
use crate::fanout::registry::{BotName, NewBots, Registered};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBot {
    bot_pubkey: String,
    name: String,
}

impl Expected for NewBot {
    const EXPECTED: &'static str = r#"{"bot_pubkey":"npub1…","name":"…"}"#;
}

/// `POST /api/bots/register`: registers or renames a bot.
pub(in crate::api) async fn register(
    State(context): State<Context>,
    call: Call,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let fanout = loaded_fanout(&context)?;
    let NewBot { bot_pubkey, name } = call.body()?;
    let bot = key("bot_pubkey", &bot_pubkey)?;
    let name = BotName::new(&name).ok_or(Refusal::BadName)?;
    call.require_key(&bot)?;
    call.count(fanout)?;
    let new_bots = match fanout.registration {
        _ if call.is_admin() => NewBots::Approved,
        Registration::Open => NewBots::Approved,
        Registration::Approve => NewBots::Pending,
        Registration::Closed => NewBots::Refused,
    };
    if fanout.registry.directory().bot(&bot).is_none() && new_bots != NewBots::Refused {
        call.count_new_bot(fanout)?;
    }
    let registered = fanout.registry.register(bot, name.clone(), new_bots).await.map_err(Refusal::from)?;
    let Registered { is_new, is_approved } = registered;
    if is_new {
        tracing::info!(
            name: "bot_registered",
            %bot, name = name.as_str(), is_approved, "a bot was registered"
        );
    }
    let body = json!({
        "bot_pubkey": bot, "name": name.as_str(), "created": is_new, "state": state(is_approved),
    });
    Ok((created_status(is_new), Json(body)))
}

/// `GET /api/bots`: lists all bots for the operator.
pub(in crate::api) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    call.require_admin()?;
    let page = Page::parse(&query.unwrap_or_default())?;
    let directory = fanout.registry.directory();
    let mut bots = directory.bots(page.after, page.read_limit());
    let next = page.cut(&mut bots, |bot| bot.pubkey);
    let bots: Vec<Value> = bots
        .iter()
        .map(|bot| {
            json!({
                "bot_pubkey": bot.pubkey, "name": bot.name().as_str(), "state": state(bot.is_approved()),
                "registered_at": bot.registered_at_ms(), "followers": bot.followers(),
                "published": bot.has_published(),
            })
        })
        .collect();
    Ok(Json(json!({ "total": directory.len().0, "bots": bots, "next": next })))
}

/// `POST /api/bots/{bot_pubkey}/approve`: the operator approves a bot.
pub(in crate::api) async fn approve(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    call.require_admin()?;
    let bot = bot_in(bot)?;
    let approved = fanout.registry.approve(bot).await.map_err(Refusal::from)?;
    if approved {
        tracing::info!(name: "bot_approved", %bot, "a bot was approved");
    }
    Ok(Json(json!({ "bot_pubkey": bot, "state": state(true), "approved": approved })))
}

/// `DELETE /api/bots/{bot_pubkey}`: removes a bot and its follows.
pub(in crate::api) async fn remove(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let bot = bot_in(bot)?;
    call.require_key(&bot)?;
    call.count(fanout)?;
    let deleted = fanout.registry.remove_bot(bot).await.map_err(Refusal::from)?;
    if deleted {
        tracing::info!(name: "bot_removed", %bot, "a bot was removed, and its follows with it");
    }
    Ok(Json(json!({ "bot_pubkey": bot, "deleted": deleted })))
}

const fn state(is_approved: bool) -> &'static str {
    if is_approved { "registered" } else { "pending" }
}
