//! One connection to the gateway: receives events, and acknowledges written ones.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::Pin;

use futures_util::{SinkExt, StreamExt};
use reqwest::Upgraded;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::Tail;
use crate::limits::{TAIL_CLOSE_MAX, TAIL_SEND_TIMEOUT, TAIL_SILENCE_MAX};
use crate::remote::{End, printable};
use crate::serve::REPLACED;

/// Why a connection is over.
pub(super) enum Over {
    /// Reconnecting may help.
    Broken(String),
    /// It does not help, or is not wanted.
    Final(End),
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Final(match error.kind() {
            // The reader has closed the output early, as `head` does.
            ErrorKind::BrokenPipe => End::Done,
            _ => End::Failed(format!("cannot write to standard output: {error}")),
        })
    }
}

/// A message of the gateway: an envelope or a heartbeat.
#[derive(Deserialize)]
struct Received<'a> {
    seq: Option<u64>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    heartbeat: Option<Heartbeat>,
}

#[derive(Deserialize)]
struct Heartbeat {
    seq: u64,
}

type Socket = WebSocketStream<Upgraded>;

/// Follows the log until the connection is over. Everything that was received has been written
/// then, unless writing failed or `stop` completed.
pub(super) async fn run(tail: &mut Tail<'_>, socket: &mut Socket, mut stop: Pin<&mut impl Future>) -> Over {
    let over = tokio::select! {
        _ = &mut stop => None,
        Err(over) = follow(tail, socket) => Some(over),
    };
    match over {
        // Only acknowledgements may be lost. The gateway then sends these events again.
        Some(Over::Broken(why)) => {
            let write = async {
                while !tail.output.is_idle() {
                    tail.output.written().await?;
                }
                Ok::<_, io::Error>(())
            };
            tokio::select! {
                _ = stop => Over::Final(End::Done),
                written = write => written.map_or_else(Over::from, |()| Over::Broken(why)),
            }
        }
        Some(over) => {
            close(socket).await;
            over
        }
        None => {
            let _ = timeout(TAIL_CLOSE_MAX, finish(tail, socket)).await;
            close(socket).await;
            Over::Final(End::Done)
        }
    }
}

/// Receives and writes. The future may be dropped at any time.
async fn follow(tail: &mut Tail<'_>, socket: &mut Socket) -> Result<Infallible, Over> {
    loop {
        if tail.is_complete() {
            finish(tail, socket).await?;
            return Err(Over::Final(End::Done));
        }
        tokio::select! {
            written = tail.output.written() => acknowledge(tail, socket, written?).await?,
            message = timeout(TAIL_SILENCE_MAX, socket.next()), if tail.output.has_room() => {
                let message = message.map_err(|_| Over::Broken("the gateway sends nothing".to_owned()))?;
                take(tail, message)?;
            }
        }
    }
}

/// Writes the received events.
async fn finish(tail: &mut Tail<'_>, socket: &mut Socket) -> Result<(), Over> {
    while !tail.output.is_idle() {
        let through = tail.output.written().await?;
        acknowledge(tail, socket, through).await?;
    }
    Ok(())
}

/// Tells the gateway that a consumer has everything up to this sequence.
async fn acknowledge(tail: &Tail<'_>, socket: &mut Socket, through: u64) -> Result<(), Over> {
    if tail.options.consumer.is_none() {
        return Ok(());
    }
    let ack = socket.send(Message::text(format!("{{\"ack\":{through}}}")));
    let sent = timeout(TAIL_SEND_TIMEOUT, ack).await;
    sent.map_err(|_| Over::Broken("the gateway accepts nothing".to_owned()))?.map_err(|error| broken(&error))
}

fn broken(error: &tungstenite::Error) -> Over {
    Over::Broken(printable(&error.to_string(), 200))
}

fn take(tail: &mut Tail<'_>, message: Option<tungstenite::Result<Message>>) -> Result<(), Over> {
    let message = message.ok_or_else(|| Over::Broken("the connection ended".to_owned()))?;
    let text = match message.map_err(|error| broken(&error))? {
        Message::Text(text) => text,
        Message::Close(frame) => {
            let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
            return Err(match &*reason {
                REPLACED => {
                    Over::Final(End::Failed(format!("{REPLACED}; give each program its own --consumer")))
                }
                "" => Over::Broken("the gateway closed the connection".to_owned()),
                reason => Over::Broken(printable(reason, 200)),
            });
        }
        _ => return Ok(()),
    };
    match serde_json::from_str(&text) {
        Ok(Received { seq: Some(seq), event: Some(event), .. }) => {
            tail.take_event(seq, if tail.options.envelope { text.as_str() } else { event.get() });
            Ok(())
        }
        Ok(Received { heartbeat: Some(Heartbeat { seq }), .. }) => {
            tail.take_heartbeat(seq);
            Ok(())
        }
        _ => {
            let start = printable(&text, 80);
            Err(Over::Final(End::Failed(format!(
                "this is neither an event nor a heartbeat of a gateway: {start}"
            ))))
        }
    }
}

/// Closes the connection, so that the gateway has received the last acknowledgement.
async fn close(socket: &mut Socket) {
    let closing = async {
        let _ = socket.close(None).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(TAIL_CLOSE_MAX, closing).await;
}
