//! `/api/overview`: rates, latencies, the history, the stream, and warnings.

use moltrade_relayer::config::Config;
use moltrade_relayer::testing;
use relay_sim::Sim;
use relay_sim::wait::{until, until_async};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::event_client::{End, EventClient, StreamEvent, request};
use crate::gateway::{self, Gateway, Setup, next};

const STREAM: &str = "/api/overview/stream";

/// Connects to the stream, and reads its first block.
async fn listen(gateway: &Gateway) -> EventClient {
    let mut listener = EventClient::open_path(gateway.address, STREAM, &[]).await;
    let start = StreamEvent { retry: Some(1_000), ..StreamEvent::default() };
    assert_eq!(listener.block().await, Ok(start));
    listener
}

/// The data of the next event with this name.
async fn next_of(listener: &mut EventClient, name: &str) -> Value {
    loop {
        let event = listener.block().await.unwrap();
        assert_eq!((event.id, event.retry), (None, None), "{event:?}");
        if event.name.as_deref() == Some(name) {
            return event.json();
        }
    }
}

async fn codes(gateway: &Gateway) -> Vec<String> {
    let overview = gateway.get("/api/overview").await.json();
    let warnings = overview["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_latencies_tell_what_happened_and_become_a_point_of_the_history() {
    const EVENTS: usize = 300;
    let sim = Sim::builder().seed(131).scripted(2).start().await.expect("starts");
    let relays = sim.urls().iter().map(|url| &*url.clone().leak()).collect();
    let gateway = Gateway::start_with(Setup { relays, ..Setup::default() }).await;
    let mut listener = listen(&gateway).await;
    until("the relays are live", || gateway.pool.peers().iter().all(|peer| peer.is_live())).await;
    let mut client = gateway.connect("").await;
    let events = sim.publish_many(&[0], 1, &[1_700_000_000; EVENTS]);
    for _ in 0..EVENTS {
        next(&mut client).await;
    }
    for event in &events {
        sim.publish([1], event.json().clone());
    }
    // The intervals of a stream follow each other without gap.
    let (mut counts, mut latencies) = ([0.0; 4], Vec::new());
    let overview = loop {
        let overview = next_of(&mut listener, "overview").await;
        let seconds = overview["interval_seconds"].as_f64().unwrap();
        for (count, name) in counts.iter_mut().zip(["new", "duplicates", "delivered", "frames"]) {
            *count += overview["rates"][name].as_f64().unwrap() * seconds;
        }
        assert_eq!(overview["rates"]["refused"], 0.0);
        if overview["latency"]["commit"]["samples"] != 0 {
            latencies.push(overview["latency"].clone());
        }
        if counts[..3].iter().all(|count| *count > EVENTS as f64 - 0.5) {
            break overview;
        }
    };
    let counts = counts.map(f64::round);
    assert_eq!(counts[..3], [EVENTS as f64; 3]);
    assert!(counts[3] >= 2.0 * EVENTS as f64, "{counts:?}");
    for (latency, samples) in [("commit", EVENTS as u64), ("delivery", 1)] {
        let all: u64 = latencies.iter().map(|one| one[latency]["samples"].as_u64().unwrap()).sum();
        assert!((samples..=EVENTS as u64).contains(&all), "{latencies:?}");
        let first = &latencies[0][latency];
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|name| first[name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{first}");
        assert_eq!(overview["latency"]["fanout"], json!({ "p50_ms": null, "p99_ms": null, "samples": 0 }));
    }
    assert_eq!(overview["log"], json!({ "id": gateway.log.id().to_string(), "head": EVENTS, "floor": 1 }));
    let relays = &overview["relays"];
    assert_eq!(
        (&relays["total"], &relays["connected"], &relays["states"]["live"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(overview["clients"], json!({ "connected": 1, "event_streams": 0, "consumers": 0 }));
    // A sink whose address is never found is not live.
    assert_eq!((&overview["sinks"]["total"], &overview["sinks"]["states"]["live"]), (&json!(1), &json!(0)));

    let mut point = next_of(&mut listener, "point").await;
    let history = gateway.get("/api/overview/history").await.json();
    let newest = history["time"].as_array().unwrap().len() - 1;
    let time = point.as_object_mut().unwrap().remove("time").unwrap().as_u64().unwrap();
    assert!(time.abs_diff(history["time"][newest].as_u64().unwrap()) <= 1, "{time}: {history}");
    assert_eq!((&history["interval_seconds"], &history["points_max"]), (&json!(10), &json!(360)));
    for (name, value) in point.as_object().unwrap() {
        assert_eq!(history[name][newest], *value, "{name}: {history}");
    }
    assert_eq!((&point["relays_connected"], &point["clients"]), (&json!(2), &json!(1)));
    assert!(point["memory_bytes"].as_u64().unwrap() > 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_share_each_computation_and_without_them_there_is_none() {
    let gateway = Gateway::start().await;
    let process = &gateway.metrics.process;
    assert_eq!(process.overviews_computed.get(), 0);
    let (mut times, mut received) = (std::collections::BTreeSet::new(), 0);
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(listen(&gateway).await);
    }
    assert_eq!(process.overview_listeners.get(), 4);
    for _ in 0..3 {
        for listener in &mut listeners {
            times.insert(next_of(listener, "overview").await["at"].as_u64().unwrap());
            received += 1;
        }
    }
    let computed = process.overviews_computed.get();
    // At most one more may have been computed meanwhile, for the next turn.
    assert!(times.len() as u64 <= computed && computed <= times.len() as u64 + 1, "{computed}: {times:?}");
    assert!(times.len() <= received / 2, "{received} answers took {computed} computations");
    drop(listeners);
    until("all are gone", || process.overview_listeners.get() == 0).await;
    let computed = process.overviews_computed.get();
    // The history goes on.
    let points = async || gateway.get("/api/overview/history").await.json()["time"].as_array().unwrap().len();
    let before = points().await;
    until_async("a point is taken", async || points().await > before).await;
    assert_eq!(process.overviews_computed.get(), computed, "nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_when_the_gateway_stops() {
    let folder = TempDir::new().unwrap();
    let mut config = Config::default();
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.relay.bootstrap_relays = Vec::new();
    let running = testing::Setup::new(config).start().await.unwrap();
    let mut listener = EventClient::open_path(running.address, STREAM, &[]).await;
    next_of_start(&mut listener).await;
    let read = async {
        loop {
            let event = listener.block().await.unwrap();
            if event.name.as_deref() == Some("close") {
                return (event, listener.block().await);
            }
        }
    };
    let (drained, (close, end)) = tokio::join!(running.drain(), read);
    drained.unwrap();
    let reason = json!({ "close": { "code": 1001, "reason": "the gateway is stopping" } });
    assert_eq!((close.json(), close.retry, end), (reason, Some(10_000), Err(End::Complete)));
}

/// Reads the first overview.
async fn next_of_start(listener: &mut EventClient) {
    assert_eq!(listener.block().await.unwrap().retry, Some(1_000));
    assert_eq!(listener.block().await.unwrap().name.as_deref(), Some("overview"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_listeners_is_limited() {
    let gateway = Gateway::start().await;
    let mut listeners = Vec::new();
    for _ in 0..32 {
        listeners.push(listen(&gateway).await);
    }
    let refused = async || gateway::request(gateway.address, &request(STREAM, &[])).await;
    let answer = refused().await;
    let told = answer.error(503, "too_many_listeners");
    assert!(told.starts_with("32 listeners"), "{told}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    listeners.pop();
    until("one is gone", || gateway.metrics.process.overview_listeners.get() == 31).await;
    let mut again = listen(&gateway).await;
    next_of(&mut again, "overview").await;
    // Listeners are no clients of the log.
    assert_eq!(gateway.clients.connected(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_reason_to_be_not_ready_and_an_almost_full_one_is_a_problem() {
    let setup = Setup { relays: Vec::new(), output: gateway::sinks(""), ..Setup::default() };
    let gateway = Gateway::start_with(setup).await;
    let overview = gateway.get("/api/overview").await.json();
    let state = |overview: &Value| (overview["state"].clone(), overview["ready"].clone());
    assert_eq!((state(&overview), &overview["warnings"]), ((json!("healthy"), json!(true)), &json!([])));
    assert_eq!(overview["disk"]["low_bytes"], 2_000);

    gateway.set_free_bytes(1_999);
    until_async("it is almost full", async || codes(&gateway).await == ["disk_low"]).await;
    let overview = gateway.get("/api/overview").await.json();
    assert_eq!(
        (state(&overview), &overview["disk"]["free_bytes"]),
        ((json!("degraded"), json!(true)), &json!(1_999))
    );
    assert_eq!(overview["warnings"][0]["severity"], "problem");

    gateway.set_free_bytes(0);
    gateway.offer(vec![gateway.event(1)]);
    until_async("it is full", async || codes(&gateway).await == ["disk_full"]).await;
    let overview = gateway.get("/api/overview").await.json();
    assert_eq!(state(&overview), (json!("not_ready"), json!(false)));
    let ready = gateway.get("/ready").await;
    assert_eq!(overview["warnings"][0]["message"], ready.error(503, "not_ready"));

    gateway.set_free_bytes(1 << 40);
    until_async("there is room", async || codes(&gateway).await.is_empty()).await;
    assert_eq!(gateway.get("/ready").await.status, 200);
}
