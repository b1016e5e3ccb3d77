//! Registers a bot at a gateway, so that clients can follow the bot there.
//!
//! `register-bot --gateway http://127.0.0.1:8080 --name Momentum --key-file bot.key` prints the
//! gateway's response. Registering again changes the name. The key is in the file, as nsec1... or
//! hex, or in the variable `NOSTR_SECRET_KEY`. The key does not leave this program.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Parser;
use nostr::event::{EventBuilder, FinalizeEvent, Kind, Tag};
use nostr::key::Keys;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use ring::digest;
use serde_json::json;

/// Registers a bot at a gateway.
#[derive(Parser)]
struct Args {
    /// For example `http://127.0.0.1:8080`
    #[arg(long)]
    gateway: String,
    /// The bot's name in the gateway's registry, 1 to 100 characters; registering again changes it
    #[arg(long)]
    name: String,
    /// The bot's secret key, nsec1... or hex; or set `NOSTR_SECRET_KEY`
    #[arg(long)]
    key_file: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // reqwest is built here without a TLS provider. With reqwest's default features, this line is
    // not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let key = match &args.key_file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
        None => {
            std::env::var("NOSTR_SECRET_KEY").context("no key: pass --key-file, or set NOSTR_SECRET_KEY")?
        }
    };
    let keys = Keys::parse(key.trim()).context("the key is neither nsec1... nor 64 hex digits")?;
    let url = format!("{}/api/bots/register", args.gateway.trim_end_matches('/'));
    let body = json!({ "bot_pubkey": keys.public_key(), "name": args.name }).to_string();
    let token = token(&keys, &url, "POST", &body)?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let request = client.post(&url).header(CONTENT_TYPE, "application/json").header(AUTHORIZATION, token);
    let answer = request.body(body).send().await.context("the gateway cannot be reached")?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("the gateway answered {status}: {text}");
    }
    println!("{text}");
    Ok(())
}

/// The value of the Authorization header: a NIP-98 token for this call.
fn token(keys: &Keys, url: &str, method: &str, body: &str) -> Result<String> {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The gateway accepts each token only once. Without `random`, two tokens for the same call in
    // one second would be equal.
    let salt = rand::random::<u64>().to_string();
    let tags = [["u", url], ["method", method], ["payload", &hash], ["random", &salt]];
    let tags = tags.into_iter().map(Tag::parse).collect::<Result<Vec<_>, _>>()?;
    let event = EventBuilder::new(Kind::from(27235_u16), "").tags(tags).finalize(keys)?;
    Ok(format!("Nostr {}", BASE64_STANDARD.encode(event.as_json())))
}
