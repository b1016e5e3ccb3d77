//! Listens on HTTP and processes the batches of events that a gateway posts.
//!
//! `consume-http 127.0.0.1:9100 cursor.txt` prints the number and the id of each new event. With
//! `WEBHOOK_SECRET=whsec_…` in the environment, the program accepts only requests signed with this
//! secret (<https://www.standardwebhooks.com>). The secret is not an argument, because `ps` shows
//! arguments to everybody.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

const BODY_BYTES_MAX: usize = 64 << 20;
/// The maximum difference between a signature's time and our clock; an older signature may be a
/// replay.
const SECONDS_APART_MAX: u64 = 5 * 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(file), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: [WEBHOOK_SECRET=whsec_...] consume-http ADDRESS STATE_FILE");
    };
    // Without the variable, no request is verified. An unusable secret is an error, not a reason to
    // skip verification.
    let key = std::env::var_os("WEBHOOK_SECRET").map(|secret| key(&secret.to_string_lossy())).transpose()?;
    let consumer = Arc::new(Consumer { cursor: Mutex::new(Cursor::open(file)?), key });
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let router = Router::new().fallback(post(receive)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    axum::serve(listener, router.with_state(consumer)).await.context("cannot serve")
}

#[derive(Deserialize)]
struct Envelope {
    seq: u64,
    log: String,
    event: Event,
}

/// Add the fields that you need: `pubkey`, `created_at`, `kind`, `tags`, `content`, `sig`.
#[derive(Deserialize)]
struct Event {
    id: String,
}

struct Consumer {
    /// Locked during the work: if the gateway repeats a batch meanwhile, the repeat waits.
    cursor: Mutex<Cursor>,
    key: Option<hmac::Key>,
}

/// 2xx acknowledges the whole batch. After any other response, the gateway sends the batch again.
async fn receive(
    State(consumer): State<Arc<Consumer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> (StatusCode, String) {
    let refuse = |status, reason: String| {
        eprintln!("answered {status}: {reason}");
        (status, reason + "\n")
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return refuse(error.status(), error.body_text()),
    };
    if let Some(key) = &consumer.key
        && let Err(error) = verify(key, &headers, &body)
    {
        return refuse(StatusCode::UNAUTHORIZED, format!("{error:#}"));
    }
    let batch: Vec<Envelope> = match serde_json::from_slice(&body) {
        Ok(batch) => batch,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("not an array of envelopes: {error}")),
    };
    match deal_with(&batch, &mut *consumer.cursor.lock().await) {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
    }
}

fn deal_with(batch: &[Envelope], cursor: &mut Cursor) -> Result<()> {
    // A batch belongs to one log.
    if let Some(first) = batch.first() {
        cursor.enter(&first.log);
    }
    let mut last = cursor.seq;
    for Envelope { seq, event, .. } in batch {
        if *seq > last {
            // Your work here. If the program dies before the cursor is written, the work is
            // repeated for the batch, so make it idempotent: for example, write rows under the
            // events' ids.
            println!("{seq} {}", event.id);
            last = *seq;
        }
    }
    // Advance after the work and before the response, so that a repeat is recognised.
    if last > cursor.seq { cursor.advance(last) } else { Ok(()) }
}

fn key(secret: &str) -> Result<hmac::Key> {
    let encoded = secret.strip_prefix("whsec_").context("WEBHOOK_SECRET does not begin with whsec_")?;
    let bytes = BASE64_STANDARD.decode(encoded).context("WEBHOOK_SECRET is not base64 after whsec_")?;
    if bytes.is_empty() {
        bail!("WEBHOOK_SECRET is empty");
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Checks that the body was signed with our secret, and recently.
fn verify(key: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> Result<()> {
    let header = |name| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.with_context(|| format!("the header {name} is missing"))
    };
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let signed_at: u64 = timestamp.parse().context("webhook-timestamp is not a number of seconds")?;
    if SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().abs_diff(signed_at) > SECONDS_APART_MAX {
        bail!("webhook-timestamp is more than five minutes from our clock");
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    // During a change of secrets, there are several signatures. `verify` compares in constant time.
    let mut signatures = header("webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let fits = |tag: Vec<u8>| hmac::verify(key, &signed, &tag).is_ok();
    if !signatures.any(|signature| BASE64_STANDARD.decode(signature).is_ok_and(fits)) {
        bail!("no signature in webhook-signature is valid");
    }
    Ok(())
}

/// The last processed event, stored in a file as `LOG:SEQ`: the identity of the log and the
/// sequence.
struct Cursor {
    log: Option<String>,
    seq: u64,
    file: String,
}

impl Cursor {
    fn open(file: String) -> Result<Self> {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { log: None, seq: 0, file }),
            Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
        };
        // An earlier version of this program did not store the log.
        let (log, seq) =
            text.trim().split_once(':').map_or((None, text.trim()), |(log, seq)| (Some(log), seq));
        let seq = seq.parse().with_context(|| format!("{file} contains no sequence: {text:?}"))?;
        Ok(Self { log: log.map(str::to_owned), seq, file })
    }

    /// Called with each event's log. In a different log, a number means a different event.
    fn enter(&mut self, log: &str) {
        if let Some(old) = &self.log
            && old != log
        {
            eprintln!(
                "the log was {old} and is {log} now: a backup of the gateway was restored; starting over"
            );
            self.seq = 0;
        }
        self.log = Some(log.to_owned());
    }

    fn text(&self, seq: u64) -> String {
        match &self.log {
            Some(log) => format!("{log}:{seq}"),
            None => seq.to_string(),
        }
    }

    /// The file always contains a whole number, either the old or the new one.
    fn advance(&mut self, seq: u64) -> Result<()> {
        self.replace(seq).with_context(|| format!("cannot write {}", self.file))?;
        self.seq = seq;
        Ok(())
    }

    fn replace(&self, seq: u64) -> io::Result<()> {
        let temporary = format!("{}.new", self.file);
        let mut file = File::create(&temporary)?;
        write!(file, "{}", self.text(seq))?;
        file.sync_all()?;
        fs::rename(temporary, &self.file)
    }
}
