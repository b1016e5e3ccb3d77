//! Sinks of the program under `kill -9`: nothing is missing at the end, in order, and what comes twice is
//! what was not acknowledged or not written down yet.

use std::time::Duration;

use relay_sim::Sim;
use relay_sim::rng::Rng;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::program::{PATIENCE, Site};

/// What a receiver got: the highest sequence, and how many came twice.
#[derive(Debug, Default, PartialEq)]
struct Got {
    highest: u64,
    repeats: u64,
    connections: u64,
}

/// Takes and acknowledges every envelope, over all connections, up to a sequence.
async fn receive(listener: TcpListener, up_to: u64) -> Got {
    let mut got = Got::default();
    while got.highest < up_to {
        let (stream, _) = listener.accept().await.expect("a connection");
        got.connections += 1;
        let (input, mut output) = stream.into_split();
        let (mut lines, mut previous) = (BufReader::new(input).lines(), None);
        while got.highest < up_to
            && let Ok(Some(line)) = lines.next_line().await
        {
            // A gateway that is killed leaves its last line unfinished.
            let Ok(envelope) = serde_json::from_str::<Value>(&line) else { break };
            let seq = envelope["seq"].as_u64().expect("a sequence");
            assert!(seq <= got.highest + 1, "{seq} after {}: something is missing", got.highest);
            assert!(previous.is_none_or(|previous| seq == previous + 1), "out of order");
            got.repeats += u64::from(seq <= got.highest);
            (got.highest, previous) = (got.highest.max(seq), Some(seq));
            let _ = output.write_all(format!("{{\"ack\":{seq}}}\n").as_bytes()).await;
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_kills_of_the_gateway_lose_nothing_of_a_sink() {
    const EVENTS: u64 = 4_000;
    const KILLS: u64 = 8;
    let sim = Sim::builder().seed(21).relays(4).events(EVENTS as usize).copies(2).per_second(900.0);
    let sim = sim.start().await.expect("starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let sinks = format!(
        "[{{ name = 'a', address = '{address}', framing = 'ndjson', ack = true, start = 'oldest' }}]"
    );
    let site = Site::on(&sim).set("RELAYER_OUTPUT__TCP", sinks);
    let received = tokio::spawn(receive(listener, EVENTS));
    let mut rng = Rng::new(&[21]);
    for _ in 0..KILLS {
        let running = site.start().await;
        // A moment in the middle of things, another each time.
        tokio::time::sleep(Duration::from_millis(200 + rng.below(300) as u64)).await;
        running.kill();
    }
    let running = site.start().await;
    let got = tokio::time::timeout(2 * PATIENCE, received).await.expect("in time").expect("no panic");
    println!("{got:?}");
    assert_eq!(got.highest, EVENTS);
    assert!(got.connections > 1, "no kill hit anything: {got:?}");
    // As the API shows it.
    let mut shown = running.json("/api/downstreams").await;
    while shown["downstreams"][0]["cursor"] != EVENTS {
        assert!(shown["downstreams"][0]["cursor"].as_u64() < Some(EVENTS), "{shown}");
        shown = running.json("/api/downstreams").await;
    }
    let sink = &shown["downstreams"][0];
    assert_eq!((&sink["name"], &sink["kind"], &sink["lag"]), (&"a".into(), &"tcp".into(), &0.into()));
    assert_eq!(sink["address"], address.to_string());
    assert_eq!((&sink["lost"], &sink["ack_errors"]), (&0.into(), &0.into()));
    let metrics = running.get("/metrics").await.expect("an answer");
    assert!(metrics.contains("downstream_lag_events{sink=\"a\"} 0\n"), "{metrics}");
    assert!(metrics.contains("downstream_state{sink=\"a\",state=\""), "{metrics}");
}
