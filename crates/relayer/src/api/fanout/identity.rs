//! Who the gateway is.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::api::context::Context;
use crate::nip19::npub;

/// `GET /api/identity`: the public key that followers know the gateway by.
pub(in crate::api) async fn identity(State(context): State<Context>) -> Json<Value> {
    let pubkey = *context.identity.pubkey();
    Json(json!({ "pubkey": pubkey, "npub": npub(&pubkey) }))
}
