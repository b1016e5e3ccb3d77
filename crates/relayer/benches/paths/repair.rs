//! A gap of 100,000 events at a relay that returns at most 500 events per answer. Compares the
//! number of requests with the minimum of one for every 500 events.

use std::time::{Duration, Instant};

use relay_sim::{Cap, Count, Information, Negentropy, Sim, Sizes, Who};

use crate::figures::Figure;
use crate::gateway::{Gateway, until};
use crate::player::{Player, told};
use crate::{Fallible, Outcome, cpu, gateway};

const EVENTS: usize = 100_000;
const CAP: usize = 500;
/// The time over which the events are spread: a busy relay's day. The last second of each answer is
/// requested again, so denser events would need more requests.
const SPAN: Duration = Duration::from_secs(86_400);

/// The kinds of relays.
const WAYS: [&str; 3] = ["REQ, cap stated", "REQ, cap not stated", "NIP-77"];

pub fn run() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut relays = Player::start(&["gaps"])?;
    let place = relays.hear()?;
    let mut figures = Vec::new();
    for (relay, name) in WAYS.iter().enumerate() {
        let url = format!("ws://{place}/r/{relay}");
        let (time, cpu) = runtime.block_on(repair(url))?;
        let answer = relays.ask(&relay.to_string())?;
        let counts: Vec<u64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [requests, steps, frames] = *counts.as_slice() else { return Err("three counts".into()) };
        println!(
            "{name:<20} {requests:>4} requests, {steps} steps of NIP-77, {:.3} frames an event, {:.1} s, {:.1} us of CPU an event",
            frames as f64 / EVENTS as f64,
            time.as_secs_f64(),
            cpu::micros_each(cpu, EVENTS as u64),
        );
        let least = (EVENTS / CAP) as f64;
        figures.push(Figure::count(
            format!("a gap of 100,000, {name}, requests / least"),
            requests as f64,
            least,
            1.05,
        ));
    }
    Ok(figures)
}

/// Returns the time and the CPU, from a start with an empty log until all of the relay's events are
/// proven complete.
async fn repair(url: String) -> Fallible<(Duration, Duration)> {
    let (before, begin) = (cpu::used(), Instant::now());
    let gateway = Gateway::start(gateway::config([url])?).await?;
    let peer = gateway.pool.peers().pop().ok_or("no relay")?;
    let is_whole = || peer.coverage().is_some_and(|coverage| coverage.gaps().is_empty());
    until(|| is_whole() && gateway.metrics.ingest.events_processed.get() >= EVENTS as u64).await;
    let taken = (begin.elapsed(), cpu::used() - before);
    gateway.stop().await?;
    Ok(taken)
}

/// Starts relays that store all events from the beginning. The command is the number of a relay;
/// the response has its requests for stored events, NIP-77 steps, and event frames sent.
pub async fn play() -> Fallible<()> {
    let sim = Sim::builder().relays(WAYS.len()).copies(WAYS.len()).events(EVENTS).stored(1.0);
    let sim = sim.stored_span_secs(SPAN.as_secs()).sizes(Sizes::Exactly(600));
    let sim = sim
        .caps(Who::All, Cap::clamping(CAP))
        .information(Who::These(vec![1]), Information::without_limits())
        .negentropy(Who::These(vec![2]), Negentropy::served());
    let sim = sim.start().await?;
    println!("{}", sim.address());
    while let Ok(relay) = told().await?.parse::<usize>() {
        let stats = sim.stats();
        let relay = stats.relays.get(relay).ok_or("no such relay")?;
        // One of the requests is the live subscription.
        let requests = relay.get(Count::Requests).saturating_sub(1);
        let steps = relay.get(Count::NegOpens) + relay.get(Count::NegMessages);
        println!("{requests} {steps} {}", relay.get(Count::Genuine));
    }
    Ok(())
}
