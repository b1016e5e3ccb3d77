//! Receives every event of a gateway over WebSocket and loses no event, whatever fails or restarts.
//!
//! `consume-websocket ws://127.0.0.1:8080/ws cursor.txt` prints the number and the id of each
//! event. Parameters select events: `'ws://127.0.0.1:8080/ws?kinds=1,7'`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_websockets::{ClientBuilder, Error, Limits, upgrade};

const MESSAGE_BYTES_MAX: usize = 32 << 20;
const PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// The gateway pings every 30 seconds, so a connection that sends nothing for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: consume-websocket URL STATE_FILE");
    };
    let mut cursor = Cursor::open(file)?;
    let mut after = cursor.text(cursor.seq);
    loop {
        after = match follow(&url, &after, &mut cursor).await? {
            End::Broken(reason) => {
                eprintln!("connecting again: {reason}");
                // The close reason may name a cursor, but our own cursor is always right.
                cursor.text(cursor.seq)
            }
            // 410: the gateway has trimmed the next events. Cursor 0 starts at the oldest stored
            // event.
            End::TooOld => {
                eprintln!("the events after {} are no longer stored; continuing at the oldest", cursor.seq);
                cursor.text(0)
            }
            // 409: a backup of the gateway was restored, so numbers after the backup mean other
            // events. All stored events come again, so the work must be idempotent.
            End::AnotherLog => {
                let log = cursor.log.take().unwrap_or_default();
                eprintln!(
                    "the log is not {log} any more: a backup of the gateway was restored; starting over"
                );
                cursor.seq = 0;
                cursor.text(0)
            }
        };
        sleep(PAUSE).await;
    }
}

/// How a connection ended.
enum End {
    Broken(String),
    TooOld,
    AnotherLog,
}

/// Connects and processes events until the connection ends. Errors are permanent.
async fn follow(url: &str, after: &str, cursor: &mut Cursor) -> Result<End> {
    let url = format!("{url}{}cursor={after}", if url.contains('?') { '&' } else { '?' });
    let limits = Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX));
    let client =
        ClientBuilder::new().uri(&url).with_context(|| format!("{url} is not a URL"))?.limits(limits);
    let mut socket = match timeout(CONNECT_TIME_MAX, client.connect()).await {
        Err(_) => return Ok(End::Broken("no connection in time".to_owned())),
        Ok(Err(Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)))) => match status {
            409 => return Ok(End::AnotherLog),
            410 => return Ok(End::TooOld),
            429 | 500.. => return Ok(End::Broken(format!("the gateway answered {status}"))),
            // Retrying would not help: a parameter is invalid, or the cursor is of another gateway.
            _ => {
                bail!("the gateway answered {status}; curl 'http{}' shows why", url.trim_start_matches("ws"))
            }
        },
        Ok(Err(error @ Error::UnsupportedScheme)) => return Err(error).context(url),
        Ok(Err(error)) => return Ok(End::Broken(error.to_string())),
        Ok(Ok((socket, _))) => socket,
    };
    eprintln!("connected; going on after event {after}");
    // If events were trimmed, we start at 0 and not at our cursor. The first message shows how
    // many.
    let mut trimmed_after = (after != cursor.text(cursor.seq)).then_some(cursor.seq);
    loop {
        let message = match timeout(SILENCE_MAX, socket.next()).await {
            Err(_) => return Ok(End::Broken("the gateway sent nothing, not even a ping".to_owned())),
            Ok(None) => return Ok(End::Broken("the connection broke".to_owned())),
            Ok(Some(Err(error))) => return Ok(End::Broken(error.to_string())),
            Ok(Some(Ok(message))) => message,
        };
        if let Some((code, reason)) = message.as_close() {
            return Ok(End::Broken(format!("the gateway closed with {}: {reason}", u16::from(code))));
        }
        // Any other message is a ping, which the library has answered.
        let Some(text) = message.as_text() else { continue };
        let Envelope { seq, log, event } =
            serde_json::from_str(text).with_context(|| format!("a message is not an envelope: {text}"))?;
        if let Some(last) = trimmed_after.take() {
            eprintln!("events {} to {} are lost: the gateway no longer stores them", last + 1, seq - 1);
        }
        if seq > cursor.seq {
            // Your work here. If the program dies before the cursor is written, the work is
            // repeated for this event, so make it idempotent: for example, write a row under the
            // event's id.
            println!("{seq} {}", event.id);
            // Advance only after the work: a stored event does not come again. An fsync for each
            // event is simple. If that is too slow, store every hundredth event; then up to a
            // hundred events may come twice.
            cursor.log = Some(log);
            cursor.advance(seq)?;
        }
    }
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
