//! Graceful shutdown: received events are committed, clients get a close frame, and the exit status
//! is zero.

use std::time::{Duration, Instant};

use relay_sim::{Consumer, Sim};

use crate::program::{PATIENCE, Site};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_drain_and_tell_clients() {
    for signal in ["TERM", "INT"] {
        let sim = Sim::builder().seed(14).relays(4).events(3_000).copies(2).per_second(2_000.0);
        let sim = sim.start().await.expect("starts");
        let site = Site::on(&sim);
        let mut running = site.start().await;
        let mut consumer = Consumer::connect_within(&site.ws("?cursor=0"), PATIENCE).await.expect("connects");
        for _ in 0..200 {
            consumer.next().await.expect("delivered");
        }
        running.signal(signal);
        let (mut last, stopped) = (0, Instant::now());
        let end = loop {
            match tokio::time::timeout(PATIENCE, consumer.next()).await.expect("it ends") {
                Ok(delivery) => last = delivery.seq.expect("an envelope"),
                Err(end) => break end.to_string(),
            }
        };
        assert!(end.contains("1001"), "{end}");
        let status = running.ended().await;
        assert!(status.success(), "{status}");
        assert!(stopped.elapsed() < Duration::from_secs(10), "the promise is ten seconds");
        let said = running.stderr();
        assert!(said.contains(&format!("SIG{signal}")), "{said}");
        assert!(
            said.contains(&format!("head={last}")),
            "the client got all that was committed: {last}; {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let sim =
        Sim::builder().seed(15).relays(4).events(4_000).copies(1).sizes(relay_sim::Sizes::Exactly(4_000));
    let sim = sim.start().await.expect("starts");
    let site = Site::on(&sim);
    let mut running = site.start().await;
    let _frozen = Consumer::connect_within(&site.ws("?cursor=0"), PATIENCE).await.expect("connects");
    let deadline = Instant::now() + PATIENCE;
    while running.json("/status").await["log"]["head"].as_u64() < Some(4_000) {
        let status = running.json("/status").await;
        assert!(Instant::now() < deadline, "events do not come in: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stopped = Instant::now();
    running.signal("TERM");
    assert!(running.ended().await.success());
    assert!(stopped.elapsed() < Duration::from_secs(10), "the promise is ten seconds");
}
