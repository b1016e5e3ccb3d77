//! Publishes a trade signal of a bot: signs an event and sends it to a relay.
//!
//! `publish --relay ws://127.0.0.1:7777/r/0 --key-file bot.key --content "long BTC"` prints the
//! event when the relay has accepted it. The key is in the file, as nsec1... or hex, or in the
//! variable `NOSTR_SECRET_KEY`. The key does not leave this program.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use nostr::event::{Event, EventBuilder, FinalizeEvent, Kind, Tag};
use nostr::key::Keys;
use serde_json::Value;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Message};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Publishes a trade signal of a bot.
#[derive(Parser)]
struct Args {
    /// The relay's URL, such as `ws://127.0.0.1:7777/r/0`
    #[arg(long)]
    relay: String,
    /// The content of the signal
    #[arg(long)]
    content: String,
    /// The event's kind
    #[arg(long, default_value_t = 30931)]
    kind: u16,
    /// The event's d tag: a later event with the same tag is a newer version
    #[arg(long, default_value = "1")]
    name: String,
    /// The bot's secret key, nsec1... or hex; or set `NOSTR_SECRET_KEY`
    #[arg(long)]
    key_file: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let key = match &args.key_file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
        None => {
            std::env::var("NOSTR_SECRET_KEY").context("no key: pass --key-file, or set NOSTR_SECRET_KEY")?
        }
    };
    let keys = Keys::parse(key.trim()).context("the key is neither nsec1... nor 64 hex digits")?;
    let tag = Tag::parse(["d", &args.name])?;
    let event = EventBuilder::new(Kind::from(args.kind), &args.content).tags([tag]).finalize(&keys)?;
    let published = timeout(ANSWER_TIME_MAX, publish(&args.relay, &event)).await;
    published.with_context(|| format!("{} does not answer in time", args.relay))??;
    println!("{}", event.as_json());
    Ok(())
}

/// Returns when the relay has accepted the event.
async fn publish(relay: &str, event: &Event) -> Result<()> {
    let client = ClientBuilder::new().uri(relay).with_context(|| relay.to_owned())?;
    let (mut socket, _) = client.connect().await.with_context(|| format!("{relay} does not answer"))?;
    socket.send(Message::text(format!("[\"EVENT\",{}]", event.as_json()))).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        let Some(text) = message.as_text() else { continue };
        // Relays also send other messages, such as NOTICE and AUTH.
        let said: Vec<Value> = serde_json::from_str(text).context("the relay does not speak Nostr")?;
        if let [kind, id, accepted, reason] = said.as_slice()
            && kind == "OK"
            && *id == event.id.to_hex()
        {
            ensure!(accepted == true, "the relay refuses the event: {reason}");
            return Ok(());
        }
    }
    bail!("{relay} closed the connection")
}
