//! A sink that is a million events behind catches up from RocksDB while a client of `/ws` receives
//! live events. Measures events per second, and the client's latency. On a shared disk, fsync
//! dominates the latency, so the bench also measures it without the catch-up and without fsync.

use std::time::{Duration, Instant};

use moltrade_relayer::event_log::Cursor;

use crate::figures::{Figure, Target};
use crate::gateway::Gateway;
use crate::receiver::{Behaviour, Receiver};
use crate::sinks::{deliver, output};
use crate::traffic::Traffic;
use crate::{Fallible, Outcome, cpu, gateway, stock};

const BEHIND: usize = 1_000_000;
/// Live events for ten seconds.
const LIVE: Traffic = Traffic { relays: 1, events: 5_000, copies: 1, rate: 500, spread_ms: 0, tls: false };

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let alone = runtime.block_on(measure(0, true))?;
    let beside = runtime.block_on(measure(BEHIND, true))?;
    let unsynced = runtime.block_on(measure(BEHIND, false))?;
    println!("live delivery alone                      {alone}");
    println!("live delivery beside catch-up            {beside}");
    println!("live delivery beside catch-up, no fsync  {unsynced}");
    let a_second = BEHIND as f64 / beside.time.as_secs_f64();
    Ok(vec![
        Figure::plain("catch-up over ndjson, events a second", a_second, "", Target::AtLeast(100_000.0)),
        Figure::plain("live delivery beside catch-up, p50", beside.half, "ms", Target::AtMost(2.0)),
        Figure::plain("live delivery beside catch-up, p99", beside.most, "ms", Target::AtMost(10.0)),
        Figure::plain("the same without fsync, p99", unsynced.most, "ms", Target::AtMost(10.0)),
    ])
}

struct Found {
    /// The average time of one catch-up.
    time: Duration,
    /// The median latency from the relay's socket to the client, in milliseconds.
    half: f64,
    most: f64,
    all: f64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { half, most, all, .. } = self;
        write!(f, "p50 {half:.2} ms, p99 {most:.2} ms, max {all:.2} ms")
    }
}

/// Sends live events while a sink repeatedly catches up with `behind` events.
async fn measure(behind: usize, fsync: bool) -> Fallible<Found> {
    let receiver = Receiver::start(Behaviour::Acknowledge)?;
    let (mut relay, urls) = LIVE.player()?;
    let (mut config, folder) = gateway::config(urls)?;
    config.storage.fsync = fsync;
    stock::fill(&config, behind)?;
    let table = format!("name = 'sink'\naddress = '{}'\nframing = 'ndjson'\nack = true\n", receiver.address);
    config.output = output(&format!("[[output.tcp]]\n{table}"))?;
    let gateway = Gateway::start((config, folder)).await?;
    relay.ask(&format!("client ws://{}/ws", gateway.address))?;
    relay.ask("subscribed")?;
    relay.say("go")?;
    let live = std::thread::spawn(move || relay.hear().map_err(|error| error.to_string()));
    let (head, mut times) = (Cursor::from_number(behind as u64), Vec::new());
    let before = cpu::used();
    while behind > 0 && !live.is_finished() {
        let begin = Instant::now();
        deliver(&gateway.sinks.list(), Cursor::START, head).await?;
        times.push(begin.elapsed());
    }
    let cpu = cpu::used() - before;
    let answer = live.join().map_err(|_| "nobody heard")??;
    for time in &times {
        println!("{behind} events in {:.2} s", time.as_secs_f64());
    }
    if behind > 0 {
        println!(
            "{:.2} us of CPU each, live events included",
            cpu::micros_each(cpu, (behind * times.len()) as u64)
        );
    }
    gateway.stop().await?;
    let micros: Vec<f64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [half, most, all] = *micros.as_slice() else { return Err("three figures".into()) };
    let time = times.iter().sum::<Duration>() / u32::try_from(times.len().max(1))?;
    Ok(Found { time, half: half / 1e3, most: most / 1e3, all: all / 1e3 })
}
