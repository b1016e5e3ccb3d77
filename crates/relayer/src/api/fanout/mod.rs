//! The HTTP API of the fan-out: bots register, followers subscribe and connect to `/fanout`.
//!
//! [`call`] authenticates a caller; a [`Refusal`] is the error response.

pub(super) mod bots;
mod call;
mod page;
mod refusal;
pub(super) mod subscriptions;
pub(super) mod upgrade;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;
use wire::PublicKey;

use refusal::Refusal;

use super::context::Context;
use super::description::{About, Tag};
use super::parameter::{Form, HEX_32, PUBLIC_KEY, PathParameter};
use crate::fanout::Fanout;
use crate::nip19::{npub, public_key};

/// A public key in hex, in answers.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(inline)]
struct HexKey(#[schemars(with = "String", regex(pattern = HEX_32))] PublicKey);

/// A public key in hex or as `npub1…`, in bodies.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it is only described")]
struct AnyKey(#[schemars(regex(pattern = PUBLIC_KEY))] String);

const BOT: PathParameter =
    PathParameter { name: "bot", form: Form::PublicKey, about: "The public key of the bot." };

/// The public key of the gateway, which its encryption uses.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Identity {
    pubkey: HexKey,
    npub: String,
}

pub(super) const IDENTITY: About = About::new(Tag::Fanout, "The gateway's public key");

/// `GET /api/identity`: the public key of the gateway.
pub(super) async fn identity(State(context): State<Context>) -> Json<Identity> {
    let pubkey = *context.identity.pubkey();
    Json(Identity { pubkey: HexKey(pubkey), npub: npub(&pubkey) })
}

/// Returns the fan-out, if it is enabled and its registry has been read.
fn loaded_fanout(context: &Context) -> Result<&Arc<Fanout>, Refusal> {
    let fanout = context.fanout().ok_or(Refusal::Disabled)?;
    if fanout.registry.is_loaded() { Ok(fanout) } else { Err(Refusal::RegistryUnavailable) }
}

/// Parses the public key in a field or a path.
fn key(field: &'static str, text: &str) -> Result<PublicKey, Refusal> {
    public_key(text).map_err(|why| Refusal::BadPublicKey { field, why })
}

/// Parses the bot's key in a path. A path that is not UTF-8 names no bot.
fn bot_in(path: Result<Path<String>, PathRejection>) -> Result<PublicKey, Refusal> {
    let Path(bot) = path.map_err(|_| Refusal::NoSuchBot)?;
    key("bot_pubkey", &bot)
}
