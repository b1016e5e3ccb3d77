//! Floods: the gateway's CPU per byte of frames that contain no event, compared with new events.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use moltrade_relayer::testing::Setup;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_websockets::{Message, ServerBuilder};
use wire::Signer;

use crate::figures::Figure;
use crate::{Fallible, Outcome, cpu, gateway, player::Player};

/// The number of bytes of each kind of data that a relay sends.
const BYTES: usize = 4 << 20;

/// The kinds of data: frames that are sent repeatedly.
const FLOODS: [(&str, &[u8]); 9] = [
    ("pongs", b"\x8a\0"),
    ("pings", b"\x89\0"),
    ("empty texts", b"\x81\0"),
    ("fragments of one byte", b"\x01\x01 \0\x01 \0\x01 \x80\x01 "),
    ("empty fragments", b"\x01\0\0\0\0\0\x80\0"),
    ("empty arrays", b"\x81\x02[]"),
    ("notices", b"\x81\x0d[\"NOTICE\",\"\"]"),
    ("challenges", b"\x81\x0b[\"AUTH\",\"\"]"),
    ("a mix", b"\x8a\0\x81\0\x01\x01 \0\0\x89\0\0\x01 \x8a\0\x80\0\x81\x02[]\x81\x0d[\"NOTICE\",\"\"]"),
];

const EVENTS: &str = "new events";

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut player = Player::start(&["floods"])?;
        let address = player.hear()?;
        let events = nanos_a_byte(&address, EVENTS).await?;
        println!("{EVENTS:<40}{events:>10.2} ns a byte");
        let mut worst = 0.0_f64;
        for (name, _) in FLOODS {
            let flood = nanos_a_byte(&address, name).await?;
            println!("{name:<40}{flood:>10.2} ns a byte");
            worst = worst.max(flood);
        }
        Ok(vec![Figure::ratio("the worst flood / new events, a KB", worst, events, 1.0)])
    })
}

/// Returns the gateway's CPU in nanoseconds per byte of this kind.
async fn nanos_a_byte(address: &str, name: &str) -> Fallible<f64> {
    let path = name.replace(' ', "-");
    let (mut config, _folder) = gateway::config([format!("ws://{address}/{path}")])?;
    config.relay.max_events_per_second = None;
    config.relay.max_offences_per_hour = None;
    let bytes = bytes_of(name);
    let frames = frames_in(&bytes);
    let before = cpu::used();
    let gateway = Setup::new(config).start().await?;
    let is_done = || {
        let metrics = &gateway.metrics;
        // For events, the whole path up to the commit is measured.
        let committed = name != EVENTS || metrics.ingest.events_processed.get() >= frames;
        metrics.relay.relay_frames_handled.get() >= frames && committed
    };
    while !is_done() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = cpu::used() - before;
    gateway.drain().await?;
    Ok(used.as_secs_f64() * 1e9 / bytes.len() as f64)
}

/// Returns about [`BYTES`] of one kind of data, in complete frames.
fn bytes_of(name: &str) -> Vec<u8> {
    if let Some((_, frames)) = FLOODS.iter().find(|(flood, _)| *flood == name) {
        return frames.repeat(BYTES / frames.len());
    }
    let (signer, mut bytes) = (Signer::from_seed(1), Vec::with_capacity(BYTES));
    for number in 0.. {
        let tag = ["n".to_owned(), format!("{number:06}")];
        let event = signer.sign(1_700_000_000, 1, &[tag], &"x".repeat(200));
        let frame = [&br#"["EVENT","r","#[..], event.json(), b"]"].concat();
        if bytes.len() + frame.len() > BYTES {
            break;
        }
        bytes.extend_from_slice(&[0x81, 126]);
        bytes.extend_from_slice(&u16::try_from(frame.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(&frame);
    }
    bytes
}

/// Counts the frames in these bytes. No frame is longer than 64 KiB.
fn frames_in(mut bytes: &[u8]) -> u64 {
    let mut frames = 0;
    while let [_, length, rest @ ..] = bytes {
        let (length, rest) = match (length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (length, rest) => (usize::from(*length), rest),
        };
        bytes = rest.get(length..).unwrap_or_default();
        frames += 1;
    }
    frames
}

/// Sends each client the kind of data that the path of its URL names, as live data.
pub async fn play() -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (request, mut socket) = ServerBuilder::new().accept(socket).await?;
            let name = request.uri().path().trim_start_matches('/').replace('-', " ");
            socket.next().await.ok_or("nothing was asked")??;
            socket.send(Message::text(r#"["EOSE","r"]"#)).await?;
            socket.get_mut().write_all(&bytes_of(&name)).await?;
            std::future::pending::<()>().await;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
}
