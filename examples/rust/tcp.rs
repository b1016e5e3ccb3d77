//! Listens on TCP for a gateway, takes every event that it sends, and acknowledges each.
//!
//! `consume-tcp 127.0.0.1:9000 cursor.txt` prints the number and the id of each event that is new. The gateway
//! needs a sink in its configuration:
//!
//! ```toml
//! [[output.tcp]]
//! name = "archive"
//! address = "127.0.0.1:9000"
//! framing = "ndjson"
//! ack = true
//! start = "oldest"
//! ```

use std::fs::{self, File};
use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const LINE_BYTES_MAX: usize = 32 << 20;
const ACK_TIME_MAX: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(file), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: consume-tcp ADDRESS STATE_FILE");
    };
    let mut cursor = Cursor::open(file)?;
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let mut gateway = None;
    loop {
        tokio::select! {
            biased;
            // The newest connection counts: a gateway that comes again has given up the old one, even if we
            // never hear of that because its machine or the network went away.
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    eprintln!("connected: {peer}");
                    gateway = Some(Gateway { stream: BufReader::new(stream), line: Vec::new() });
                }
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            line = Gateway::next_line(&mut gateway) => {
                let acknowledged = match line.and_then(|line| read(&line)) {
                    Ok(Envelope { seq, log, event }) => {
                        cursor.enter(&log);
                        deal_with(seq, &event, &mut cursor)?;
                        Gateway::acknowledge(&mut gateway, seq).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = acknowledged {
                    // The gateway comes again, and begins after what we have acknowledged.
                    eprintln!("disconnected: {error}");
                    gateway = None;
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    seq: u64,
    log: String,
    event: Event,
}

/// With what you need of it: `pubkey`, `created_at`, `kind`, `tags`, `content`, `sig`.
#[derive(Deserialize)]
struct Event {
    id: String,
}

fn read(line: &[u8]) -> io::Result<Envelope> {
    let wrong = |error| io::Error::new(ErrorKind::InvalidData, format!("a line is no envelope: {error}"));
    serde_json::from_slice(line).map_err(wrong)
}

/// Does the work for an event, unless it is a repeat.
fn deal_with(seq: u64, event: &Event, cursor: &mut Cursor) -> Result<()> {
    if seq <= cursor.seq {
        return Ok(());
    }
    // Your work here. If the program dies before the cursor is written, it is done a second time for this
    // event; so let that do no harm, as it does none to write a row under the event's id.
    println!("{seq} {}", event.id);
    // After the work and before the acknowledgement, so that a repeat is recognised. An fsync for each event is
    // the simple way; if it is too slow, note and acknowledge every hundredth.
    cursor.advance(seq)
}

/// A connection from the gateway.
struct Gateway {
    stream: BufReader<TcpStream>,
    /// What has come of the next line.
    line: Vec<u8>,
}

impl Gateway {
    /// Waits for ever if there is no connection. Dropping the future loses nothing.
    async fn next_line(gateway: &mut Option<Self>) -> io::Result<Vec<u8>> {
        let Some(Self { stream, line }) = gateway else { return pending().await };
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        stream.take(room as u64).read_until(b'\n', line).await?;
        if line.ends_with(b"\n") {
            Ok(std::mem::take(line))
        } else if line.len() >= LINE_BYTES_MAX {
            Err(io::Error::new(ErrorKind::InvalidData, "a line is longer than 32 MiB"))
        } else if line.is_empty() {
            Err(io::Error::new(ErrorKind::UnexpectedEof, "the gateway closed the connection"))
        } else {
            Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended in the middle of a line"))
        }
    }

    async fn acknowledge(gateway: &mut Option<Self>, seq: u64) -> io::Result<()> {
        let Some(Self { stream, .. }) = gateway else { return Ok(()) };
        let ack = format!("{{\"ack\":{seq}}}\n");
        timeout(ACK_TIME_MAX, stream.write_all(ack.as_bytes())).await?
    }
}

/// The last event that was dealt with, in a file: `LOG:SEQ`, the identity of the log and the sequence.
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
        // An earlier version of this program did not note the log.
        let (log, seq) =
            text.trim().split_once(':').map_or((None, text.trim()), |(log, seq)| (Some(log), seq));
        let seq = seq.parse().with_context(|| format!("{file} holds no sequence: {text:?}"))?;
        Ok(Self { log: log.map(str::to_owned), seq, file })
    }

    /// An event of this log has come. In another log than before, the numbers mean other events.
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

    /// At any moment the file holds the old number or the new one, and never a part.
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
