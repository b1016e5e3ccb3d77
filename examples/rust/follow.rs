//! Follows a bot: receives its trade signals from a gateway's `/fanout`, and decrypts, verifies and
//! prints them.
//!
//! `follow --gateway http://127.0.0.1:8080 --bot npub1... --key-file follower.key --state
//! follow.json` prints a line of JSON for each signal: `{"seq":42,"stale":false,"event":{...}}`.
//! With a new state file, it starts with the bot's oldest stored signal. The key is in the file, as
//! nsec1... or hex, or in `NOSTR_SECRET_KEY`: `ps` shows arguments. `--shared-secret-file` requests
//! encryption with the file's content; without it, an earlier shared secret is removed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use nostr::event::{Event, EventBuilder, FinalizeEvent, Kind, Tag};
use nostr::key::{Keys, PublicKey};
use nostr::nips::nip44::v2::{ConversationKey, decrypt_to_bytes};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_websockets::{ClientBuilder, Error, Limits, MaybeTlsStream, Message, WebSocketStream, upgrade};

const MESSAGE_BYTES_MAX: usize = 32 << 20;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The gateway pings every 30 seconds, so a connection that sends nothing for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Follows a bot and prints its trade signals.
#[derive(Parser)]
struct Args {
    /// For example `http://127.0.0.1:8080`
    #[arg(long)]
    gateway: String,
    /// The bot's key, npub1... or hex
    #[arg(long, value_parser = PublicKey::parse)]
    bot: PublicKey,
    /// Your secret key, nsec1... or hex; or set `NOSTR_SECRET_KEY`
    #[arg(long)]
    key_file: Option<String>,
    /// A secret of 16 to 256 bytes to encrypt with
    #[arg(long)]
    shared_secret_file: Option<String>,
    /// File for the cursor
    #[arg(long, default_value = "follow.json")]
    state: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // Only needed because reqwest is built here without its default features.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let shared_secret = args.shared_secret_file.as_ref().map(|file| -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    });
    let gateway = args.gateway.trim_end_matches('/').to_owned();
    ensure!(gateway.starts_with("http"), "--gateway {gateway} begins with neither http:// nor https://");
    let mut follower = Follower {
        bot: args.bot,
        keys: load_keys(args.key_file.as_deref())?,
        shared_secret: shared_secret.transpose()?,
        state: State::open(args.state, &gateway)?,
        gateway,
        http: reqwest::Client::builder().timeout(ANSWER_TIME_MAX).build()?,
        subscribed: false,
        was_connected: false,
    };
    let mut pause = PAUSE_MIN;
    loop {
        let Later { reason, rest } = follower.follow().await?;
        eprintln!("connecting again: {reason}");
        pause = if follower.was_connected { PAUSE_MIN } else { PAUSE_MAX.min(2 * pause) };
        // Spreads the followers' reconnects when the gateway returns.
        sleep(rest.max(pause.mul_f64(rand::random_range(0.5..1.0)))).await;
    }
}

/// Why we have to retry, and the pause that the gateway asks for.
struct Later {
    reason: String,
    rest: Duration,
}

impl Later {
    fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), rest: Duration::ZERO }
    }
}

/// A result: an outer error is permanent, an inner error is temporary.
type Attempt<T> = Result<Result<T, Later>>;

struct Follower {
    gateway: String,
    bot: PublicKey,
    keys: Keys,
    shared_secret: Option<String>,
    state: State,
    http: reqwest::Client,
    subscribed: bool,
    was_connected: bool,
}

impl Follower {
    /// Subscribes, connects and processes messages until the connection ends.
    async fn follow(&mut self) -> Result<Later> {
        self.was_connected = false;
        let mut socket = match self.connect().await? {
            Ok(socket) => socket,
            Err(later) => return Ok(later),
        };
        self.was_connected = true;
        eprintln!("connected; going on after {}", self.state.seq);
        loop {
            match next_text(&mut socket, SILENCE_MAX).await {
                Ok(text) => self.take(&text)?,
                Err(later) => return Ok(later),
            }
        }
    }

    async fn connect(&mut self) -> Attempt<Socket> {
        if !self.subscribed {
            match self.subscribe().await? {
                Ok(()) => self.subscribed = true,
                Err(later) => return Ok(Err(later)),
            }
        }
        match answer(self.http.get(format!("{}/api/identity", self.gateway))).await? {
            Ok(body) => {
                let Identity { pubkey } = serde_json::from_slice(&body).context("/api/identity")?;
                self.state.pin(pubkey)?;
            }
            Err(later) => return Ok(Err(later)),
        }
        let url = format!("{}/fanout", self.gateway.replacen("http", "ws", 1));
        let with_cursor = format!("{url}?cursor={}", self.state.cursor());
        let limits = Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX));
        let client = ClientBuilder::new().uri(&with_cursor).context(url.clone())?.limits(limits);
        let mut socket = match timeout(ANSWER_TIME_MAX, client.connect()).await {
            Err(_) => return Ok(Err(Later::new("no connection in time"))),
            Ok(Err(Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(_)))) => {
                return Ok(Err(self.refused().await?));
            }
            Ok(Err(error @ Error::UnsupportedScheme)) => return Err(error).context(url),
            Ok(Err(error)) => return Ok(Err(Later::new(error))),
            Ok(Ok((socket, _))) => socket,
        };
        Ok(self.authenticate(&mut socket, &url).await?.map(|()| socket))
    }

    async fn subscribe(&self) -> Attempt<()> {
        let url = format!("{}/api/subscriptions", self.gateway);
        let follower = self.keys.public_key();
        let body = json!({ "bot_pubkey": self.bot, "follower_pubkey": follower, "shared_secret": self.shared_secret });
        let body = body.to_string();
        let request = self.http.post(&url).header(header::CONTENT_TYPE, "application/json");
        let request = request.header(header::AUTHORIZATION, token(&self.keys, &url, "POST", &body)?);
        Ok(answer(request.body(body)).await?.map(|_| ()))
    }

    /// NIP-42: signs the gateway's challenge; the gateway accepts or refuses the proof.
    async fn authenticate(&self, socket: &mut Socket, url: &str) -> Attempt<()> {
        let text = match next_text(socket, ANSWER_TIME_MAX).await {
            Ok(text) => text,
            Err(later) => return Ok(Err(later)),
        };
        let (_, challenge): (String, String) = serde_json::from_str(&text).context("no challenge")?;
        let event = sign(&self.keys, 22242, [["relay", url], ["challenge", &challenge]])?;
        if let Err(error) = socket.send(Message::text(format!("[\"AUTH\",{}]", event.as_json()))).await {
            return Ok(Err(Later::new(error)));
        }
        let text = match next_text(socket, ANSWER_TIME_MAX).await {
            Ok(text) => text,
            Err(later) => return Ok(Err(later)),
        };
        let (_, _, accepted, reason): (String, String, bool, String) =
            serde_json::from_str(&text).context("no answer to AUTH")?;
        ensure!(accepted, "the gateway does not accept our key: {reason}");
        Ok(Ok(()))
    }

    fn take(&mut self, text: &str) -> Result<()> {
        let message = serde_json::from_str(text);
        let envelope = match message.with_context(|| format!("a message is not an envelope: {text}"))? {
            Incoming::Signal(envelope) => envelope,
            Incoming::Notice(notice) => return self.told(&notice),
        };
        let (seq, stale) = (envelope.seq, envelope.stale);
        if seq <= self.state.seq {
            return Ok(()); // a repeat
        }
        // The connection carries the signals of every bot that this key follows.
        if envelope.bot_pubkey == self.bot {
            let plaintext = self.decrypt(&envelope);
            let plaintext = plaintext.with_context(|| format!("message {seq} cannot be decrypted"))?;
            match self.check(&envelope, &plaintext) {
                // Your work here; never trade on a stale signal. If the program dies before the
                // state is written, the work is repeated for this event, so make it idempotent: for
                // example, write a row under the event's id.
                Ok(event) => println!("{}", serde_json::to_string(&Signal { seq, stale, event })?),
                // The message would fail every time, so it must not block later messages.
                Err(error) => eprintln!("NOT A SIGNAL, skipped: message {seq}: {error:#}"),
            }
        }
        // Advance only after the work: a stored message does not come again.
        self.state.advance(Some(envelope.log), seq)
    }

    /// Handles a notice about a changed follow.
    fn told(&self, notice: &Notice) -> Result<()> {
        if notice.bot_pubkey != Some(self.bot) {
            return Ok(());
        }
        match notice.kind.as_str() {
            "unsubscribed" => {
                bail!("the follow has ended: restart this program to subscribe again")
            }
            "secret_changed" => {
                let encryption = notice.encryption.as_deref().unwrap_or_default();
                eprintln!(
                    "signals are encrypted with {encryption} from now on, because the subscription was changed"
                );
            }
            _ => {} // A later gateway may send more types.
        }
        Ok(())
    }

    fn decrypt(&self, envelope: &Envelope) -> Result<Vec<u8>> {
        let key = match envelope.encryption.as_str() {
            "nip44-v2" => ConversationKey::derive(
                self.keys.secret_key(),
                self.state.pubkey.as_ref().context("the gateway's key is not known")?,
            )?,
            "nip44-v2-shared-secret" => {
                let secret = self.shared_secret.as_ref();
                let secret =
                    secret.context("another program has set a shared secret; pass --shared-secret-file")?;
                // HKDF-SHA256-extract is an HMAC whose key is the salt.
                let salt = hmac::Key::new(hmac::HMAC_SHA256, b"moltrade-fanout-v1");
                ConversationKey::from_slice(hmac::sign(&salt, secret.as_bytes()).as_ref())?
            }
            other => bail!("this program does not support {other}"),
        };
        let payload = BASE64_STANDARD.decode(&envelope.ciphertext)?;
        ensure!(payload.first() == Some(&2), "it is not version 2 of NIP-44");
        Ok(decrypt_to_bytes(&key, &payload)?)
    }

    /// The event, if the bot has signed it.
    fn check(&self, envelope: &Envelope, plaintext: &[u8]) -> Result<Event> {
        ensure!(envelope.target_pubkey == self.keys.public_key(), "it is for another follower");
        let event = Event::from_json(plaintext).context("not an event")?;
        event.verify().context("the id or the signature is invalid")?;
        ensure!(event.pubkey == self.bot, "another key has signed it");
        let said = (&envelope.original_event_id, envelope.kind, envelope.created_at);
        let is = (&event.id.to_hex(), event.kind.as_u16(), event.created_at.as_secs());
        ensure!(said == is, "the envelope does not match the event");
        Ok(event)
    }

    /// Finds out why the gateway refused the handshake: tokio-websockets hides the reason, and a
    /// plain request shows it.
    async fn refused(&mut self) -> Result<Later> {
        let url = format!("{}/fanout?cursor={}", self.gateway, self.state.cursor());
        let response = match self.http.get(url).send().await {
            Ok(response) => response,
            Err(error) => return Ok(Later::new(error)),
        };
        match response.status() {
            StatusCode::GONE => {
                let Ok(body) = response.bytes().await else { return Ok(Later::new("the connection broke")) };
                let Trimmed { oldest } = serde_json::from_slice(&body).context("410 without `oldest`")?;
                // The next messages have been trimmed: report the loss and continue at the oldest
                // stored message.
                let (first, last) = (self.state.seq + 1, oldest - 1);
                eprintln!("signals between {first} and {last} are lost: the gateway no longer stores them");
                self.state.advance(self.state.log.clone(), last)?;
                Ok(Later::new("continuing at the oldest stored signal"))
            }
            // No other refusal with this status can occur here.
            StatusCode::CONFLICT => {
                // A backup of the gateway was restored, so numbers after the backup mean other
                // signals. All stored signals come again, and old signals are marked as stale.
                let log = self.state.log.take().unwrap_or_default();
                self.state.advance(None, 0)?;
                Ok(Later::new(format!("the log is not {log} any more: a backup was restored; starting over")))
            }
            // The gateway would accept us now.
            StatusCode::UPGRADE_REQUIRED => Ok(Later::new("the gateway refused the connection")),
            _ => refuse(response).await,
        }
    }
}

#[derive(Deserialize)]
struct Identity {
    pubkey: PublicKey,
}

#[derive(Deserialize)]
struct Trimmed {
    oldest: u64,
}

/// A message on the WebSocket.
#[derive(Deserialize)]
#[serde(untagged)]
enum Incoming {
    Signal(Envelope),
    Notice(Notice),
}

#[derive(Deserialize)]
struct Notice {
    #[serde(rename = "type")]
    kind: String,
    bot_pubkey: Option<PublicKey>,
    encryption: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    seq: u64,
    log: String,
    target_pubkey: PublicKey,
    bot_pubkey: PublicKey,
    kind: u16,
    original_event_id: String,
    created_at: u64,
    encryption: String,
    ciphertext: String,
    #[serde(default)]
    stale: bool,
}

/// The printed line.
#[derive(Serialize)]
struct Signal {
    seq: u64,
    stale: bool,
    event: Event,
}

async fn next_text(socket: &mut Socket, patience: Duration) -> Result<String, Later> {
    loop {
        let message = match timeout(patience, socket.next()).await {
            Err(_) => return Err(Later::new("the gateway sent nothing, not even a ping")),
            Ok(None) => return Err(Later::new("the connection broke")),
            Ok(Some(message)) => message.map_err(Later::new)?,
        };
        if let Some((code, reason)) = message.as_close() {
            return Err(Later::new(format!("the gateway closed with {}: {reason}", u16::from(code))));
        }
        // Any other message is a ping, which the library has answered.
        if let Some(text) = message.as_text() {
            return Ok(text.to_owned());
        }
    }
}

/// The body of the response.
async fn answer(request: RequestBuilder) -> Attempt<Vec<u8>> {
    let response = match request.send().await {
        Ok(response) if response.status().is_success() => response,
        Ok(response) => return Ok(Err(refuse(response).await?)),
        Err(error) => return Ok(Err(Later::new(format!("{:#}", anyhow::Error::from(error))))),
    };
    match response.bytes().await {
        Ok(body) => Ok(Ok(body.to_vec())),
        Err(error) => Ok(Err(Later::new(error))),
    }
}

async fn refuse(response: Response) -> Result<Later> {
    let status = response.status();
    let rest = response.headers().get(header::RETRY_AFTER);
    let rest: Option<u64> = rest.and_then(|rest| rest.to_str().ok()?.parse().ok());
    let rest = Duration::from_secs(rest.map_or(0, |rest| rest.min(3600)));
    let reason = format!("the gateway answered {status}: {}", response.text().await.unwrap_or_default());
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Ok(Later { reason, rest });
    }
    // Retrying would not help: the key, a parameter or the clock is wrong, the bot is unknown, or
    // the cursor is of another gateway.
    bail!(reason)
}

/// The value of the Authorization header: a NIP-98 token for this call.
fn token(keys: &Keys, url: &str, method: &str, body: &str) -> Result<String> {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The gateway accepts each token only once. Without `random`, two tokens for the same call in
    // one second would be equal.
    let salt = rand::random::<u64>().to_string();
    let tags = [["u", url], ["method", method], ["payload", &hash], ["random", &salt]];
    Ok(format!("Nostr {}", BASE64_STANDARD.encode(sign(keys, 27235, tags)?.as_json())))
}

fn sign<const N: usize>(keys: &Keys, kind: u16, tags: [[&str; 2]; N]) -> Result<Event> {
    let tags = tags.into_iter().map(Tag::parse).collect::<Result<Vec<_>, _>>()?;
    Ok(EventBuilder::new(Kind::from(kind), "").tags(tags).finalize(keys)?)
}

fn load_keys(file: Option<&str>) -> Result<Keys> {
    let (text, from) = match file {
        Some(file) => (fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?, file),
        None => {
            let text = std::env::var("NOSTR_SECRET_KEY");
            (text.context("no key: pass --key-file, or set NOSTR_SECRET_KEY")?, "NOSTR_SECRET_KEY")
        }
    };
    Keys::parse(text.trim()).with_context(|| format!("cannot read the key from {from}"))
}

/// The last processed message and its gateway, stored in a file.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(skip)]
    file: String,
    gateway: String,
    pubkey: Option<PublicKey>,
    /// `None` if an earlier version of this program wrote the state.
    #[serde(default)]
    log: Option<String>,
    seq: u64,
}

impl State {
    fn open(file: String, gateway: &str) -> Result<Self> {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { file, gateway: gateway.to_owned(), pubkey: None, log: None, seq: 0 });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
        };
        let state: Self =
            serde_json::from_str(&text).with_context(|| format!("{file} is not a state of this program"))?;
        ensure!(
            state.gateway == gateway,
            "{file} belongs to {}, and a cursor belongs to one gateway: use another file",
            state.gateway
        );
        Ok(Self { file, ..state })
    }

    /// Trusts and stores the first key. If the gateway's key changes later, a human has to decide.
    fn pin(&mut self, pubkey: PublicKey) -> Result<()> {
        match self.pubkey {
            Some(known) if known == pubkey => Ok(()),
            Some(known) => bail!(
                "the gateway's key was {known} and is now {pubkey}. If its operator says that this is right, \
                 write the new one into {}",
                self.file
            ),
            None => {
                self.pubkey = Some(pubkey);
                self.write()
            }
        }
    }

    /// Includes the log, because in a different log the number means a different signal.
    fn cursor(&self) -> String {
        match &self.log {
            Some(log) => format!("{log}:{}", self.seq),
            None => self.seq.to_string(),
        }
    }

    fn advance(&mut self, log: Option<String>, seq: u64) -> Result<()> {
        (self.log, self.seq) = (log, seq);
        self.write()
    }

    /// The file always contains a whole state, either the old or the new one.
    fn write(&self) -> Result<()> {
        let replace = || -> io::Result<()> {
            let temporary = format!("{}.new", self.file);
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(temporary, &self.file)
        };
        replace().with_context(|| format!("cannot write {}", self.file))
    }
}
