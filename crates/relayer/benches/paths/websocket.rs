//! One event to 1,000 clients of `/ws`: CPU per message compared with bare writes of the same
//! bytes.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use moltrade_relayer::event_log::Cursor;

use crate::figures::Figure;
use crate::gateway::{Gateway, until};
use crate::player::Player;
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu, gateway};

const CLIENTS: usize = 1_000;
/// A rate so low that every event wakes the gateway separately.
const SLOW: Traffic = Traffic { relays: 1, events: 100, copies: 1, rate: 20, spread_ms: 0, tls: false };
/// Events that come as fast as possible.
const BURST: Traffic = Traffic { events: 1_000, rate: 0, ..SLOW };

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let slow = runtime.block_on(measure("one event a wake-up", SLOW))?;
    let burst = runtime.block_on(measure("a burst", BURST))?;
    Ok(vec![
        Figure::ratio("/ws message, one event a wake-up / write", slow.0, slow.1, 2.0),
        Figure::ratio("/ws message, in a burst / write", burst.0, burst.1, 2.0),
    ])
}

/// Returns the microseconds per message: those of the gateway, and those of bare writes.
async fn measure(name: &str, traffic: Traffic) -> Fallible<(f64, f64)> {
    let (mut relay, urls) = traffic.player()?;
    let gateway = Gateway::start(gateway::config(urls)?).await?;
    let mut crowd = Player::start(&["crowd"])?;
    let address = gateway.address;
    crowd.ask(&format!("{CLIENTS} {address} /ws"))?;
    relay.ask("subscribed")?;
    let messages = (traffic.events * CLIENTS) as u64;
    let before = cpu::used();
    relay.say("go")?;
    until(|| gateway.metrics.websocket.messages.get() >= messages).await;
    let ours = cpu::micros_each(cpu::used() - before, messages);
    let mut frames = Vec::new();
    let mut reader = gateway.log.reader(Cursor::START);
    while frames.len() < traffic.events {
        let chunk = reader.next().await?.ok_or("the log ends early")?;
        frames.extend(chunk.entries().iter().map(|entry| frame(entry.event.json())));
    }
    drop((relay, crowd));
    gateway.stop().await?;
    let bare = bare_writes(&frames, traffic.rate)?;
    let bare = cpu::micros_each(bare, messages);
    println!("{name:<20} to {CLIENTS} clients: {ours:.2} us a message, {bare:.2} us a bare write");
    Ok((ours, bare))
}

/// Baseline: writes each frame to each client at the gateway's rate, on a dedicated thread.
fn bare_writes(frames: &[Vec<u8>], rate: usize) -> Fallible<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut crowd = Player::start(&["crowd"])?;
    crowd.say(&format!("{CLIENTS} {}", listener.local_addr()?))?;
    let accepted = std::iter::repeat_with(|| listener.accept()).take(CLIENTS);
    let mut sockets: Vec<TcpStream> = accepted.map(|pair| Ok(pair?.0)).collect::<Fallible<_>>()?;
    for socket in &sockets {
        socket.set_nodelay(true)?;
    }
    crowd.hear()?;
    let (before, begin) = (cpu::used(), Instant::now());
    for (number, frame) in (0_u32..).zip(frames) {
        if rate > 0 {
            let due = begin + Duration::from_secs(1) / u32::try_from(rate)? * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        for socket in &mut sockets {
            socket.write_all(frame)?;
        }
    }
    Ok(cpu::used() - before)
}

/// Encodes a server's text frame of 126 to 65,535 bytes.
fn frame(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0x81, 126], length.as_slice(), text].concat()
}
