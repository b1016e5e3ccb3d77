//! The cost of a duplicate: the gateway's CPU compared with a bare loop that only reads the same
//! frames from a socket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use moltrade_relayer::testing::Setup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Message, ServerBuilder};
use wire::Signer;

use crate::crowd::upgrade_request;
use crate::figures::Figure;
use crate::{Fallible, Outcome, cpu, gateway, player::Player};

const RELAYS: usize = 20;
/// Fewer than the hotset's capacity, as if copies arrived soon after the first.
const EVENTS: usize = 5_000;
/// The number of times that each relay sends all events.
const ROUNDS: usize = 20;
const FRAME_BYTES: usize = 600;

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut player = Player::start(&["copies"])?;
        let address = player.hear()?;
        let frames = (RELAYS * EVENTS * ROUNDS) as u64;

        let bare = bare_loop(&address).await?;
        let bare_each = cpu::micros_each(bare, frames);

        let (mut config, _folder) =
            gateway::config((0..RELAYS).map(|relay| format!("ws://{address}/gateway/{relay}")))?;
        config.filters.max_event_bytes = 64 << 10;
        let gateway = Setup::new(config).start().await?;
        // In the first round the gateway learns all events, while the child process waits for a
        // command. Copies that arrive before the commit wait in an inbox, and must not be measured.
        while gateway.metrics.ingest.events_processed.get() + gateway.metrics.ingest.duplicates.total()
            < (RELAYS * EVENTS) as u64
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen_before = gateway.metrics.ingest.duplicates.total();
        let before = cpu::used();
        player.say("go")?;
        while gateway.metrics.ingest.duplicates.total() - seen_before < frames {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let gateway_each = cpu::micros_each(cpu::used() - before, frames);
        println!("frames of {FRAME_BYTES} bytes from {RELAYS} relays       {frames:>10}");
        println!("bare read loop, CPU a frame                {bare_each:>10.3} us");
        println!("gateway, CPU a duplicate                   {gateway_each:>10.3} us");
        gateway.drain().await?;
        Ok(vec![Figure::ratio("duplicate / bare read", gateway_each, bare_each, 3.0)])
    })
}

/// Baseline: a loop that reads and discards the same frames from the same number of sockets.
async fn bare_loop(address: &str) -> Fallible<Duration> {
    let mut sockets = Vec::new();
    for relay in 0..RELAYS {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(upgrade_request(address, &format!("/bare/{relay}")).as_bytes()).await?;
        sockets.push(socket);
    }
    let before = cpu::used();
    let mut readers = tokio::task::JoinSet::new();
    for mut socket in sockets {
        readers.spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while socket.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
        });
    }
    while readers.join_next().await.is_some() {}
    Ok(cpu::used() - before)
}

/// Serves the frames. The bare loop gets all frames at once, followed by a close. The gateway gets
/// one round, and the others on command.
pub async fn play() -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let round: std::sync::Arc<[u8]> = round().into();
    let go = tokio::sync::watch::Sender::new(false);
    let told = go.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        told.send_replace(true);
    });
    loop {
        let (socket, _) = listener.accept().await?;
        let (round, mut go) = (std::sync::Arc::clone(&round), go.subscribe());
        tokio::spawn(async move {
            let (request, mut socket) = ServerBuilder::new().accept(socket).await?;
            if request.uri().path().starts_with("/gateway") {
                // Nothing is stored, so all events are live. Events before EOSE would be part of an
                // answer and would cost more.
                socket.next().await.ok_or("nothing was asked")??;
                socket.send(Message::text(r#"["EOSE","r"]"#)).await?;
            }
            let socket = socket.get_mut();
            if request.uri().path().starts_with("/gateway") {
                socket.write_all(&round).await?;
                let _ = go.wait_for(|go| *go).await;
            }
            for _ in 0..ROUNDS {
                socket.write_all(&round).await?;
            }
            if request.uri().path().starts_with("/gateway") {
                std::future::pending::<()>().await;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
}

/// Returns all events once, as WebSocket frames of about [`FRAME_BYTES`].
fn round() -> Vec<u8> {
    let signer = Signer::from_seed(1);
    let mut frames = Vec::new();
    for number in 0..EVENTS {
        let bare =
            signer.sign(1_700_000_000, 1, &[["n".to_owned(), format!("{number:05}")]], "").json().len();
        let content = "x".repeat(FRAME_BYTES.saturating_sub(bare + r#"["EVENT","r",]"#.len()));
        let event = signer.sign(1_700_000_000, 1, &[["n".to_owned(), format!("{number:05}")]], &content);
        let head = br#"["EVENT","r","#;
        let length = head.len() + event.json().len() + 1;
        frames.extend_from_slice(&[0x81, 126]);
        frames.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        frames.extend_from_slice(head);
        frames.extend_from_slice(event.json());
        frames.push(b']');
    }
    frames
}
