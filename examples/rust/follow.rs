//! Follows a bot: takes each of its trade signals from a gateway's `/fanout`, decrypts it, verifies it and prints it.
//!
//! `follow --gateway http://127.0.0.1:8080 --bot npub1... --key-file follower.key --state follow.json` prints a
//! line of JSON for each signal: `{"seq":42,"stale":false,"event":{...}}`. Begun with a new state, it takes first
//! what the gateway keeps of the bot's past. The key is in the file, as nsec1... or hex, or in the variable
//! `NOSTR_SECRET_KEY`; it is not an argument, because `ps` shows those to everybody. `--shared-secret-file` has the
//! signals encrypted with what is in the file, without the end of the line; without it, one that was set is taken
//! away.

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
/// The gateway pings every 30 seconds, so a connection that is silent for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Follows a bot and prints its trade signals.
#[derive(Parser)]
struct Args {
    /// Such as `http://127.0.0.1:8080`
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
    /// Where the cursor is kept
    #[arg(long, default_value = "follow.json")]
    state: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // reqwest is built here without a provider of its own; with its default features this is not needed.
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
        // Not all followers at once, when the gateway comes back.
        sleep(rest.max(pause.mul_f64(rand::random_range(0.5..1.0)))).await;
    }
}

/// Why we have to try again, and how long the gateway wants to be left alone before.
struct Later {
    reason: String,
    rest: Duration,
}

impl Later {
    fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), rest: Duration::ZERO }
    }
}

/// What came of something: an outer error does not pass by itself, an inner one does.
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
    /// Subscribes, connects and deals with what comes until the connection ends.
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

    /// NIP-42: the gateway sends a challenge, we sign it, and it says whether that will do.
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
        let envelope = match message.with_context(|| format!("a message is no envelope: {text}"))? {
            Incoming::Signal(envelope) => envelope,
            Incoming::Notice(notice) => return self.told(&notice),
        };
        let (seq, stale) = (envelope.seq, envelope.stale);
        if seq <= self.state.seq {
            return Ok(()); // a repeat
        }
        // All bots that this key follows come on one connection. The others are for other programs.
        if envelope.bot_pubkey == self.bot {
            let plaintext = self.decrypt(&envelope);
            let plaintext = plaintext.with_context(|| format!("message {seq} cannot be decrypted"))?;
            match self.check(&envelope, &plaintext) {
                // Your work here; never trade on a stale signal. If the program dies before the state is written,
                // it is done a second time for this event; so let that do no harm, as it does none to write a
                // row under the event's id.
                Ok(event) => println!("{}", serde_json::to_string(&Signal { seq, stale, event })?),
                // It would be no better the next time, so it must not stand in the way of what comes after it.
                Err(error) => eprintln!("NOT A SIGNAL, passed over: message {seq}: {error:#}"),
            }
        }
        // Only after the work: what is noted does not come again.
        self.state.advance(Some(envelope.log), seq)
    }

    /// The gateway says what has changed of a follow while we are connected.
    fn told(&self, notice: &Notice) -> Result<()> {
        if notice.bot_pubkey != Some(self.bot) {
            return Ok(());
        }
        match notice.kind.as_str() {
            "unsubscribed" => {
                bail!("the follow has ended: this program subscribes again when it is started again")
            }
            "secret_changed" => {
                let encryption = notice.encryption.as_deref().unwrap_or_default();
                eprintln!(
                    "signals are encrypted with {encryption} from now on, because somebody subscribed again"
                );
            }
            _ => {} // A later gateway may say more.
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
                    secret.context("another program has set a shared secret; give --shared-secret-file")?;
                // HKDF-SHA256-extract is an HMAC whose key is the salt.
                let salt = hmac::Key::new(hmac::HMAC_SHA256, b"moltrade-fanout-v1");
                ConversationKey::from_slice(hmac::sign(&salt, secret.as_bytes()).as_ref())?
            }
            other => bail!("{other} is not known to this program"),
        };
        let payload = BASE64_STANDARD.decode(&envelope.ciphertext)?;
        ensure!(payload.first() == Some(&2), "it is not version 2 of NIP-44");
        Ok(decrypt_to_bytes(&key, &payload)?)
    }

    /// The event, if it is what the bot has signed.
    fn check(&self, envelope: &Envelope, plaintext: &[u8]) -> Result<Event> {
        ensure!(envelope.target_pubkey == self.keys.public_key(), "it is for somebody else");
        let event = Event::from_json(plaintext).context("no event")?;
        event.verify().context("the id or the signature is wrong")?;
        ensure!(event.pubkey == self.bot, "another key has signed it");
        let said = (&envelope.original_event_id, envelope.kind, envelope.created_at);
        let is = (&event.id.to_hex(), event.kind.as_u16(), event.created_at.as_secs());
        ensure!(said == is, "the envelope says something else than the event");
        Ok(event)
    }

    /// The gateway refused the handshake. tokio-websockets does not show why, but a plain request does.
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
                // What comes next has been trimmed: say what is lost, and go on with what there is.
                let (first, last) = (self.state.seq + 1, oldest - 1);
                eprintln!("signals between {first} and {last} are lost: the gateway no longer keeps them");
                self.state.advance(self.state.log.clone(), last)?;
                Ok(Later::new("going on with what is kept"))
            }
            // Of the refusals with this status, the only one that we can meet here.
            StatusCode::CONFLICT => {
                // A backup of the gateway was restored, and its numbers mean other signals from some number on. All
                // that it has comes again, and what is old is marked as stale.
                let log = self.state.log.take().unwrap_or_default();
                self.state.advance(None, 0)?;
                Ok(Later::new(format!("the log is not {log} any more: a backup was restored; starting over")))
            }
            // It would have let us in now.
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

/// What comes on the WebSocket.
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

/// What is printed.
#[derive(Serialize)]
struct Signal {
    seq: u64,
    stale: bool,
    event: Event,
}

async fn next_text(socket: &mut Socket, patience: Duration) -> Result<String, Later> {
    loop {
        let message = match timeout(patience, socket.next()).await {
            Err(_) => return Err(Later::new("nothing was heard, not even a ping")),
            Ok(None) => return Err(Later::new("the connection broke")),
            Ok(Some(message)) => message.map_err(Later::new)?,
        };
        if let Some((code, reason)) = message.as_close() {
            return Err(Later::new(format!("the gateway closed with {}: {reason}", u16::from(code))));
        }
        // Else it is a ping, which the library has answered.
        if let Some(text) = message.as_text() {
            return Ok(text.to_owned());
        }
    }
}

/// The body of the answer to a request.
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
    // A wrong key, parameter or clock, no such bot, a cursor of another gateway: trying again would not help.
    bail!(reason)
}

/// The call, signed as NIP-98 has it.
fn token(keys: &Keys, url: &str, method: &str, body: &str) -> Result<String> {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The gateway takes each token once. Two for the same call in the same second would be the same but for this.
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
            (text.context("no key: give --key-file, or set NOSTR_SECRET_KEY")?, "NOSTR_SECRET_KEY")
        }
    };
    Keys::parse(text.trim()).with_context(|| format!("cannot read the key from {from}"))
}

/// The last message that was dealt with, and the gateway that it is of, in a file.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(skip)]
    file: String,
    gateway: String,
    pubkey: Option<PublicKey>,
    /// An earlier version of this program did not note it.
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
            "{file} belongs to {}, and a cursor is of use to one gateway only: take another file",
            state.gateway
        );
        Ok(Self { file, ..state })
    }

    /// The first key is believed and kept. If the gateway has another one later, somebody has to look.
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

    /// With the log before it, it is refused by another log, in which the number means another signal.
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

    /// At any moment the file holds the old state or the new one, and never a part.
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
