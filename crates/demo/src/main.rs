//! `make demo`: runs simulated relays, the gateway and two clients of `/ws` without a network, for
//! about a minute.
//!
//! Some relays forge events, some send garbage, and some drop or break their connections. One
//! client stays connected; the other disconnects halfway and resumes with its cursor. A live table
//! shows the gateway's metrics. The final [verdict] is computed from what the clients received, and
//! from the gateway's counts compared with the simulator's. Exit status: 0 passed, 1 failed, 130
//! interrupted.

mod client;
mod gateway;
mod table;
mod verdict;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_sim::{Fault, Garbage, Sim, Who};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use client::Client;
use gateway::Gateway;
use table::Table;
use verdict::Evidence;

const RELAYS: usize = 30;
const COPIES: usize = 10;
const EVENTS: usize = 60_000;
const NEW_PER_SECOND: f64 = 1_500.0;
/// The maximum delay between an event's first and last copies.
const SPREAD_MS: u64 = 500;

/// Relays that send forged copies of events, usually before the genuine ones.
const FORGERS: Range<usize> = 0..10;
/// The share of events with forged copies.
const FORGED: f64 = 0.3;
/// Relays that send garbage.
const LITTERERS: Range<usize> = 10..15;
/// Garbage that does not end the connection. Each type is sent before each event with the
/// probability `GARBAGE_CHANCE`.
const GARBAGE: [Garbage; 5] = [
    Garbage::InvalidJson,
    Garbage::Binary,
    Garbage::UnknownType,
    Garbage::WrongSubscription,
    Garbage::DeepNesting,
];
const GARBAGE_CHANCE: f64 = 0.004;
/// Relays whose connections end: the relay closes them, or sends something that ends them.
const BREAKERS: Range<usize> = 15..20;
const BREAK_EVERY: Duration = Duration::from_secs(4);
const BREAKS: usize = 8;

/// The second client disconnects after this many events, for this long.
const LEAVES_AFTER: u64 = EVENTS as u64 / 3;
const AWAY: Duration = Duration::from_secs(5);

/// The time limit of the run, reached only if something is lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time limit for the counts to agree after all deliveries.
const SETTLING: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, anyhow::Error>;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(if_interrupted()));
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn if_interrupted() -> Outcome<u8> {
    tokio::select! {
        passed = show() => passed.map(|passed| if passed { 0 } else { 1 }),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            eprintln!("\ninterrupted: no verdict");
            Ok(130)
        }
    }
}

async fn show() -> Outcome<bool> {
    println!("Signing {} events for {RELAYS} simulated relays ...", table::grouped(EVENTS as u64));
    let sim = Arc::new(simulation().start().await?);
    let folder = tempfile::Builder::new().prefix("relayer-demo-").tempdir()?;
    let gateway = Gateway::start(folder.path(), &sim.urls()).await?;
    println!(
        "The gateway serves ws://{}/ws; its data is in {} for now.",
        gateway.address,
        folder.path().display()
    );
    let steady = Client::start(&sim, gateway.events_url(), None);
    let leaver = Client::start(&sim, gateway.events_url(), Some((LEAVES_AFTER, AWAY)));
    timeout(PATIENCE, sim.wait_subscribed(RELAYS)).await?;
    print_what_happens();

    let began = Instant::now();
    sim.go();
    let whole = tokio::select! {
        watched = watch(&sim, &gateway, [&steady, &leaver]) => watched.map(|()| true)?,
        () = sleep(PATIENCE) => false,
        ended = gateway.ended() => anyhow::bail!("the gateway ended: {ended}\n{}", gateway.log()),
    };
    let seconds = began.elapsed().as_secs_f64();
    if !whole {
        println!("Gave up waiting after {seconds:.0} s; the verdict shows what is missing.");
    }
    let settled = timeout(SETTLING, async {
        while !verdict::counts_agree(&sim.stats(), &gateway.status().await?) {
            sleep(Duration::from_millis(50)).await;
        }
        Outcome::Ok(())
    });
    if let Ok(failed) = settled.await {
        failed?;
    }
    let status = gateway.status().await?;
    let stopped = gateway.stop().await?;
    let evidence = Evidence {
        relays: sim.stats(),
        status,
        steady: steady.end().await?,
        leaver: leaver.end().await?,
        stopped,
        seconds,
    };
    let passed = evidence.print();
    if !passed {
        eprintln!("\nThe end of the gateway's log:\n{}", gateway.log());
    }
    Ok(passed)
}

fn simulation() -> relay_sim::SimBuilder {
    let litterers = Who::These(LITTERERS.collect());
    let sim = Sim::builder()
        .relays(RELAYS)
        .events(EVENTS)
        .copies(COPIES)
        .per_second(NEW_PER_SECOND)
        .spread_ms(SPREAD_MS)
        .forge(FORGED)
        .forgers(Who::These(FORGERS.collect()))
        .hold();
    GARBAGE
        .into_iter()
        .fold(sim, |sim, sort| sim.fault(Fault::Garbage(sort), litterers.clone(), GARBAGE_CHANCE))
}

fn print_what_happens() {
    println!(
        "\n{} new events a second, each on {COPIES} of the relays. {} relays forge, {} send garbage, {} break their\n\
         connections. Of two clients of /ws, `leaver` goes away for {} s and resumes with its cursor.\n",
        table::grouped(NEW_PER_SECOND as u64),
        FORGERS.len(),
        LITTERERS.len(),
        BREAKERS.len(),
        AWAY.as_secs()
    );
}

/// Shows the progress until both clients have everything and the relays have nothing left to send.
async fn watch(sim: &Sim, gateway: &Gateway, clients: [&Client; 2]) -> Outcome<()> {
    let mut table = Table::new();
    let mut ticks = interval(table.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut breaks = interval(BREAK_EVERY);
    breaks.tick().await;
    let mut broken = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let done = sim.is_sent() && clients.iter().all(|client| client.is_complete());
                table.show(&gateway.metrics().await?, sim, clients, done);
                if done {
                    return Ok(());
                }
            }
            _ = breaks.tick(), if broken < BREAKS => {
                break_a_connection(sim, broken);
                broken += 1;
            }
        }
    }
}

/// Ends one connection: by a drop, an oversized frame, or invalid UTF-8.
fn break_a_connection(sim: &Sim, number: usize) {
    let relay = BREAKERS.start + number % BREAKERS.len();
    match number % 3 {
        0 => sim.drop_connections(relay),
        1 => sim.send_text(relay, &format!(r#"["EVENT","r","{}"]"#, "x".repeat(1 << 20))),
        _ => sim.send_bytes(relay, &b"\x81\x04[\"\xc3\x28"[..]),
    }
}
