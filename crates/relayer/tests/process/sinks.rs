//! Receivers for every transport at once, under `kill -9` of the gateway and beside faulty
//! receivers. At the end, no event is missing, all are in order, and an event repeats only if its
//! acknowledgement was not stored.
//!
//! `SINK_EVENTS` and `SINK_KILLS` make the runs longer. Each run prints a summary of each receiver.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay_sim::Sim;
use relay_sim::rng::Rng;
use relay_sim::wait::{until_async, within};
use serde_json::Value;
use tokio::sync::watch;

use crate::program::{Running, Site};
use crate::receivers::{self, Behavior, Receiver, ids_of_the_log, patience};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Two WebSockets, TCP with and without acknowledgements, and HTTP in batches.
struct Five {
    site: Site,
    receivers: Vec<Receiver>,
    plain: Arc<Mutex<Vec<String>>>,
}

/// The five receivers, and the given additional receivers. WebSockets are added when the gateway is
/// running.
async fn five(sim: &Sim, events: u64, tcp: Vec<(Receiver, String)>, http: Vec<(Receiver, String)>) -> Five {
    let (plain, plain_sink, ids) = receivers::plain("plain", events).await;
    let mut tcp_sinks = vec![plain_sink];
    let mut all = vec![plain];
    for (receiver, sink) in [receivers::tcp("acked", events, Behavior::Steady).await].into_iter().chain(tcp) {
        tcp_sinks.push(sink);
        all.push(receiver);
    }
    let mut http_sinks = Vec::new();
    for (receiver, sink) in [receivers::http("hook", events, None).await].into_iter().chain(http) {
        http_sinks.push(sink);
        all.push(receiver);
    }
    let site = Site::on(sim)
        .set("RELAYER_OUTPUT__TCP", format!("[{}]", tcp_sinks.join(", ")))
        .set("RELAYER_OUTPUT__REST", format!("[{}]", http_sinks.join(", ")));
    Five { site, receivers: all, plain: ids }
}

impl Five {
    async fn add_websockets(&mut self, events: u64) {
        for name in ["ws-1", "ws-2"] {
            self.receivers.push(receivers::websocket(name, &self.site, events).await);
        }
    }

    fn report(&self, since: Instant) {
        for receiver in &self.receivers {
            println!("{}", receiver.report(since));
        }
    }

    async fn plain_is_the_log(&self, running: &Running) {
        let ids = ids_of_the_log(running).await;
        assert_eq!(*self.plain.lock().unwrap(), ids, "bare events in the order of the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_kills_of_the_gateway_lose_nothing_of_any_receiver() {
    let (events, kills) = (setting("SINK_EVENTS", 4_000), setting("SINK_KILLS", 6));
    // The number of events per second. Each relay gets half of them, because after a kill a relay
    // can return at most 500 events of one second.
    const RATE: u64 = 900;
    let between_kills_ms = (events * 1_000 / RATE / kills) as usize;
    let sim = Sim::builder().seed(21).relays(4).events(events as usize).copies(2).per_second(RATE as f64);
    let sim = sim.start().await.expect("starts");
    let events = sim.ids().len() as u64;
    let mut five = five(&sim, events, Vec::new(), Vec::new()).await;
    let (mut rng, began) = (Rng::new(&[21]), Instant::now());
    for kill in 0..kills {
        let running = five.site.start().await;
        if kill == 0 {
            five.add_websockets(events).await;
        }
        // Each kill comes at a different moment.
        let lived_ms = between_kills_ms / 2 + rng.below(between_kills_ms);
        tokio::time::sleep(Duration::from_millis(lived_ms as u64)).await;
        running.kill();
    }
    let running = five.site.start().await;
    for receiver in &five.receivers {
        receiver.finished(patience(events)).await;
    }
    five.report(began);
    five.plain_is_the_log(&running).await;
    // The API reports the same state.
    for sink in ["plain", "acked", "hook"] {
        let mut shown = Value::Null;
        let is_at_the_end = async || {
            shown = running.json(&format!("/api/downstreams/{sink}")).await;
            assert!(shown["cursor"].as_u64() <= Some(events), "{shown}");
            shown["cursor"] == events
        };
        until_async(&format!("the cursor of {sink} is at the end"), is_at_the_end).await;
        assert_eq!((&shown["lag"], &shown["lost"], &shown["ack_errors"]), (&0.into(), &0.into(), &0.into()));
        assert_eq!(shown["dead_letters"], 0, "{shown}");
        let metrics = running.get("/metrics").await.expect("an answer");
        assert!(metrics.contains(&format!("downstream_lag_events{{sink=\"{sink}\"}} 0\n")), "{metrics}");
    }
}

/// Runs the five receivers alone. Then runs them beside four faulty ones: one is frozen, one dies
/// ten times, one fails every third request, and one accepts one event per second.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_in_trouble_cost_the_others_nothing_and_get_everything() {
    let events = setting("SINK_EVENTS", 4_000);
    // Events are held until the gateway subscribes, because earlier events would have to be
    // backfilled.
    let start = || Sim::builder().seed(22).relays(4).events(events as usize).copies(2).hold().start();

    let sim = start().await.expect("starts");
    // A large set of generated events contains identical ones.
    let events = sim.ids().len() as u64;
    let mut alone = five(&sim, events, Vec::new(), Vec::new()).await;
    let running = alone.site.start().await;
    alone.add_websockets(events).await;
    let began = go(&sim).await;
    for receiver in &alone.receivers {
        receiver.finished(patience(events)).await;
    }
    println!("alone: {}", memory(&running).await);
    alone.report(began);
    running.kill();
    drop(sim);

    let release = watch::Sender::new(false);
    let sim = start().await.expect("starts");
    let troubled = vec![
        receivers::tcp("frozen", events, Behavior::Frozen(release.subscribe())).await,
        receivers::tcp("dies", events, Behavior::Dies(10)).await,
        receivers::tcp("slow", events, Behavior::Slow(release.subscribe())).await,
    ];
    let flaky = vec![receivers::http("flaky", events, Some(3)).await];
    let mut beside = five(&sim, events, troubled, flaky).await;
    let running = beside.site.start().await;
    beside.add_websockets(events).await;
    let began = go(&sim).await;
    let steady = ["plain", "acked", "hook", "ws-1", "ws-2", "dies", "flaky"];
    for receiver in beside.receivers.iter().filter(|receiver| steady.contains(&receiver.name)) {
        receiver.finished(patience(events)).await;
    }
    println!("beside four in trouble: {}", memory(&running).await);
    beside.report(began);
    let still = |name: &str| beside.receivers.iter().find(|found| found.name == name).expect("it").highest();
    assert!(still("frozen") == 0 && still("slow") < events, "the faulty receivers are not behind");
    release.send_replace(true);
    for receiver in &beside.receivers {
        receiver.finished(patience(events)).await;
    }
    println!("and when they are released: {}", memory(&running).await);
    beside.report(began);
    beside.plain_is_the_log(&running).await;
}

/// Starts the events, which the relays send as fast as they can.
async fn go(sim: &Sim) -> Instant {
    within("the relays are asked", sim.wait_subscribed(4)).await;
    sim.go();
    Instant::now()
}

/// The gateway's resident memory.
async fn memory(running: &Running) -> String {
    let shown = running.json("/api/metrics/memory").await;
    format!("{:.0} MB", shown["resident_bytes"].as_f64().expect("bytes") / 1e6)
}
