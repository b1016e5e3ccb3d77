//! The API calls for bots: register, list, approve, remove.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::EventId;

use super::call::{Call, CallWith};
use super::page::{PARAMETERS, Page};
use super::refusal::{self, Refusal};
use super::{AnyKey, BOT, HexKey, bot_in, key, loaded_fanout};
use crate::api::body::Expected;
use crate::api::context::Context;
use crate::api::description::signature::Created;
use crate::api::description::{About, Tag};
use crate::api::error::ApiError;
use crate::api::parameter::HEX_32;
use crate::config::Registration;
use crate::event_log::Seq;
use crate::fanout::registry::directory::LastSignal;
use crate::fanout::registry::{BotName, NewBots, Registered};

/// A bot that registers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewBot {
    #[schemars(with = "AnyKey")]
    bot_pubkey: String,
    #[schemars(length(min = 1, max = BotName::CHARACTERS_MAX))]
    name: String,
}

impl Expected for NewBot {
    const EXPECTED: &'static str = r#"{"bot_pubkey":"npub1…","name":"…"}"#;
}

/// Whether a bot can be followed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BotState {
    Registered,
    /// The bot waits for the operator's approval.
    Pending,
}

impl BotState {
    const fn of(is_approved: bool) -> Self {
        if is_approved { Self::Registered } else { Self::Pending }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct RegisteredBot {
    bot_pubkey: HexKey,
    name: String,
    /// Whether the bot is new.
    created: bool,
    state: BotState,
}

pub(in crate::api) const REGISTER: About = About::new(Tag::Fanout, "Registers a bot, or renames it")
    .details("Needs the bot's proof.")
    .errors(&[refusal::WRITE, refusal::NEW_BOT]);

/// `POST /api/bots/register`: registers or renames a bot.
pub(in crate::api) async fn register(
    State(context): State<Context>,
    CallWith(call, NewBot { bot_pubkey, name }): CallWith<NewBot>,
) -> Result<Created<RegisteredBot>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let bot = key("bot_pubkey", &bot_pubkey)?;
    let name = BotName::new(&name).ok_or(Refusal::BadName)?;
    call.require_key(&bot)?;
    call.count(fanout)?;
    let new_bots = match fanout.registration() {
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
    let body = RegisteredBot {
        bot_pubkey: HexKey(bot),
        name: name.as_str().to_owned(),
        created: is_new,
        state: BotState::of(is_approved),
    };
    Ok(Created { is_new, body })
}

/// A page of bots, by key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Bots")]
pub(in crate::api) struct List {
    total: usize,
    bots: Vec<ShownBot>,
    /// The `after` of the next page; null on the last.
    next: Option<HexKey>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Bot")]
struct ShownBot {
    bot_pubkey: HexKey,
    name: String,
    state: BotState,
    /// Unix milliseconds.
    registered_at: u64,
    followers: usize,
    /// Whether the gateway has seen a signal of the bot.
    published: bool,
    last_signal: Option<ShownSignal>,
}

/// The newest signal of a bot. It is null if the gateway has seen none since its start, nor among
/// the events that it read again at its start.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LastSignal")]
struct ShownSignal {
    seq: Seq,
    #[schemars(with = "String", regex(pattern = HEX_32))]
    id: EventId,
    /// Unix milliseconds.
    received_at: u64,
}

impl From<LastSignal> for ShownSignal {
    fn from(LastSignal { seq, id, received_at_ms }: LastSignal) -> Self {
        Self { seq, id, received_at: received_at_ms }
    }
}

pub(in crate::api) const LIST: About = About::new(Tag::Fanout, "All bots")
    .details("For the operator.")
    .query(PARAMETERS)
    .errors(&[refusal::READ, refusal::OPERATOR]);

/// `GET /api/bots`: lists all bots for the operator.
pub(in crate::api) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Result<Json<List>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    call.require_admin()?;
    let page = Page::parse(&query.unwrap_or_default())?;
    let directory = fanout.registry.directory();
    let mut bots = directory.bots(page.after, page.read_limit());
    let next = page.cut(&mut bots, |bot| bot.pubkey);
    let shown = bots.iter().map(|bot| {
        let last_signal = bot.last_signal();
        ShownBot {
            bot_pubkey: HexKey(bot.pubkey),
            name: bot.name().as_str().to_owned(),
            state: BotState::of(bot.is_approved()),
            registered_at: bot.registered_at_ms(),
            followers: bot.followers(),
            published: last_signal.is_some(),
            last_signal: last_signal.map(ShownSignal::from),
        }
    });
    Ok(Json(List { total: directory.len().0, bots: shown.collect(), next: next.map(HexKey) }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct ApprovedBot {
    bot_pubkey: HexKey,
    state: BotState,
    /// Whether the bot was pending until now.
    approved: bool,
}

pub(in crate::api) const APPROVE: About = About::new(Tag::Fanout, "Approves a bot")
    .details("For the operator.")
    .path(&[BOT])
    .errors(&[refusal::WRITE, refusal::OPERATOR, refusal::NO_SUCH_BOT]);

/// `POST /api/bots/{bot_pubkey}/approve`: the operator approves a bot.
pub(in crate::api) async fn approve(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    call: Call,
) -> Result<Json<ApprovedBot>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    call.require_admin()?;
    let bot = bot_in(bot)?;
    let approved = fanout.registry.approve(bot).await.map_err(Refusal::from)?;
    if approved {
        tracing::info!(name: "bot_approved", %bot, "a bot was approved");
    }
    Ok(Json(ApprovedBot { bot_pubkey: HexKey(bot), state: BotState::of(true), approved }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct DeletedBot {
    bot_pubkey: HexKey,
    /// Whether the bot was registered.
    deleted: bool,
}

pub(in crate::api) const REMOVE: About = About::new(Tag::Fanout, "Removes a bot and its follows")
    .details("Needs the bot's proof.")
    .path(&[BOT])
    .errors(&[refusal::WRITE, refusal::OWNER, refusal::NO_SUCH_BOT]);

/// `DELETE /api/bots/{bot_pubkey}`: removes a bot and its follows.
pub(in crate::api) async fn remove(
    State(context): State<Context>,
    bot: Result<Path<String>, PathRejection>,
    call: Call,
) -> Result<Json<DeletedBot>, ApiError> {
    let fanout = loaded_fanout(&context)?;
    let bot = bot_in(bot)?;
    call.require_key(&bot)?;
    call.count(fanout)?;
    let deleted = fanout.registry.remove_bot(bot).await.map_err(Refusal::from)?;
    if deleted {
        tracing::info!(name: "bot_removed", %bot, "a bot was removed, and its follows with it");
    }
    Ok(Json(DeletedBot { bot_pubkey: HexKey(bot), deleted }))
}
