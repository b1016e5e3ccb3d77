//! Listens on TCP, and processes and acknowledges every event that a gateway sends.
//!
//! `consume-tcp 127.0.0.1:9000 cursor.txt` prints the number and the id of each new event. The
//! gateway needs a sink in its configuration:
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
            // Only the newest connection counts: a gateway that reconnects has abandoned the old
            // connection. If the gateway's machine or the network failed, we are never told.
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
                    // The gateway reconnects and continues after the last acknowledged event.
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

/// Add the fields that you need: `pubkey`, `created_at`, `kind`, `tags`, `content`, `sig`.
#[derive(Deserialize)]
struct Event {
    id: String,
}

fn read(line: &[u8]) -> io::Result<Envelope> {
    let wrong = |error| io::Error::new(ErrorKind::InvalidData, format!("a line is not an envelope: {error}"));
    serde_json::from_slice(line).map_err(wrong)
}

/// Processes an event, unless it is a repeat.
fn deal_with(seq: u64, event: &Event, cursor: &mut Cursor) -> Result<()> {
    if seq <= cursor.seq {
        return Ok(());
    }
    // Your work here. If the program dies before the cursor is written, the work is repeated for
    // this event, so make it idempotent: for example, write a row under the event's id.
    println!("{seq} {}", event.id);
    // Advance after the work and before the acknowledgement, so that a repeat is recognised. An
    // fsync for each event is simple. If that is too slow, store and acknowledge every hundredth
    // event.
    cursor.advance(seq)
}

/// A connection from the gateway.
struct Gateway {
    stream: BufReader<TcpStream>,
    /// The part of the next line that has arrived.
    line: Vec<u8>,
}

impl Gateway {
    /// Without a connection, waits forever. Dropping the future loses no data.
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
