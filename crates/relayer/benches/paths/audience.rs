//! Child process: a simulated relay, and many clients of `/ws` that share the relay's clock and
//! detect every loss.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_sim::{Consumer, Pace, Sim, Sizes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use wire::UnverifiedEvent;
use wire::websocket::{ClientFrame, Decoded, Decoder, Message};

use crate::crowd::upgrade_request;
use crate::player::told;
use crate::receiver::seq;
use crate::traffic::EVENT_BYTES;
use crate::{Fallible, cpu};

/// The maximum number of concurrent handshakes.
const DIALS: usize = 64;
/// The time limit for all events to reach all clients.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum length of a message; the gateway sends only small events here.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Commands: `open <clients> <address>` connects clients and responds when all are connected.
/// `subscribed` responds when the gateway has subscribed. `go` starts the events and responds with
/// the number of clients that received all events, each once and in order; with p50, p99 and the
/// maximum of the microseconds from the relay's socket to a client; and with the CPU microseconds
/// of this process.
pub async fn play(numbers: &[&str]) -> Fallible<()> {
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [events, rate] = *numbers.as_slice() else { return Err("two numbers".into()) };
    let sim = Sim::builder().relays(1).events(events).copies(1).sizes(Sizes::Exactly(EVENT_BYTES));
    let sim = sim.pace(Pace::PerSecond(rate as f64)).hold().start().await?;
    println!("{}", sim.url(0));
    let (mut clients, mut reference) = (JoinSet::new(), None);
    loop {
        let line = told().await?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["open", count, address] => {
                clients = open(count.parse()?, address, events).await?;
                reference = Some(Consumer::connect(&format!("ws://{address}/ws?cursor=0")).await?);
                println!("open");
            }
            ["subscribed"] => {
                sim.wait_subscribed(1).await;
                println!("subscribed");
            }
            ["go"] => {
                let before = cpu::used();
                sim.go();
                let reference = reference.take().ok_or("no clients")?;
                let found = receive(std::mem::take(&mut clients), reference, &sim, events).await?;
                println!("{found} {}", (cpu::used() - before).as_micros());
            }
            _ => return Ok(()),
        }
    }
}

/// The arrival times at one client, in Unix microseconds.
pub type Arrivals = Vec<u64>;

/// Connects clients, each of which reads `events` events.
async fn open(count: usize, address: &str, events: usize) -> Fallible<JoinSet<Arrivals>> {
    let request = upgrade_request(address, "/ws?cursor=0");
    // All clients begin at the first event, so an event's sequence equals its count.
    let is_next = |seq: u64, before: usize| seq == before as u64 + 1;
    dial_all(count, address, move |_| request.clone(), events, is_next).await
}

/// Connects a client for each request. Each client reads `events` events, or stops at the first
/// event for which `is_next` is false. The arguments of `is_next` are the event's sequence and the
/// number of earlier events.
pub async fn dial_all(
    count: usize,
    address: &str,
    request: impl Fn(usize) -> String,
    events: usize,
    is_next: fn(u64, usize) -> bool,
) -> Fallible<JoinSet<Arrivals>> {
    let (mut dials, mut clients) = (JoinSet::new(), JoinSet::new());
    for number in 0..count + DIALS {
        if number >= DIALS {
            let (stream, bytes) = dials.join_next().await.ok_or("nobody dials")???;
            clients.spawn(read(stream, bytes, events, is_next));
        }
        if number < count {
            dials.spawn(dial(address.to_owned(), request(number)));
        }
    }
    Ok(clients)
}

/// Connects a client. Returns the socket, and the bytes received after the response to the upgrade.
async fn dial(address: String, request: String) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return if bytes.starts_with(b"HTTP/1.1 101") {
                Ok((stream, rest))
            } else {
                Err(std::io::Error::other("a client was not let in"))
            };
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Returns the arrival times of the events, up to the first event that is missing or out of order.
async fn read(
    mut stream: TcpStream,
    mut bytes: Vec<u8>,
    events: usize,
    is_next: fn(u64, usize) -> bool,
) -> Arrivals {
    let (mut decoder, mut arrivals) = (Decoder::new(MESSAGE_BYTES_MAX), Vec::with_capacity(events));
    while arrivals.len() < events {
        let mut used = 0;
        while let Ok(Decoded::Message(message, taken)) = decoder.decode(bytes.get(used..).unwrap_or_default())
        {
            match message {
                Message::Text(text) if seq(text).is_some_and(|seq| is_next(seq, arrivals.len())) => {
                    arrivals.push(now_us())
                }
                Message::Ping(payload) => {
                    let pong = ClientFrame::Pong(payload).encode([1, 2, 3, 4]);
                    if stream.write_all(&pong).await.is_err() {
                        return arrivals;
                    }
                }
                _ => return arrivals,
            }
            used += taken;
        }
        bytes.drain(..used);
        if arrivals.len() < events && !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return arrivals;
        }
    }
    arrivals
}

/// The current time in Unix microseconds.
pub fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

async fn receive(
    mut clients: JoinSet<Arrivals>,
    mut reference: Consumer,
    sim: &Sim,
    events: usize,
) -> Fallible<String> {
    let mut sent = HashMap::new();
    while sent.len() < events {
        let delivery = reference.next().await?;
        let id = UnverifiedEvent::parse(&delivery.event)?.id;
        let seq = delivery.seq.ok_or("no sequence")?;
        sent.insert(seq, sim.first_sent_us(&id).ok_or("an event that was not sent")?);
    }
    let (by, mut whole, mut latencies) = (Instant::now() + PATIENCE, 0, Vec::new());
    while let Ok(Some(arrivals)) = timeout_at(by, clients.join_next()).await {
        let arrivals = arrivals?;
        whole += usize::from(arrivals.len() == events);
        let with_seq = (1..).zip(arrivals);
        latencies.extend(with_seq.filter_map(|(seq, at_us)| Some(at_us.saturating_sub(*sent.get(&seq)?))));
    }
    let [half, most, all] = shares(latencies);
    Ok(format!("{whole} {half} {most} {all}"))
}

/// Returns the median, the 99th percentile and the maximum of the latencies.
pub fn shares(mut latencies: Vec<u64>) -> [u64; 3] {
    latencies.sort_unstable();
    let share = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).or(latencies.last());
    [0.5, 0.99, 1.0].map(|part| share(part).copied().unwrap_or(u64::MAX))
}
