//! HTTP requests: their content and order, and the cursor during delivery.

use std::io::Read;

use moltrade_relayer::sink::SinkState;
use tempfile::TempDir;

use crate::bench::event;
use crate::gateway::{Gateway, until};
use crate::hook::{Hook, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn bare_events_are_posted_in_sequence_on_one_connection() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("headers = { X-Team = 'traders' }"));
    gateway.append(1..=300);
    let post = hook.next().await;
    assert!(post.head.starts_with("POST /hook?key=hunter2 HTTP/1.1\r\n"), "{}", post.head);
    assert_eq!(post.body, event(1).event.json().to_vec(), "the event as it was signed, and nothing else");
    for (name, value) in [("content-type", "application/json"), ("x-team", "traders")] {
        assert_eq!(post.header(name), Some(value));
    }
    assert_eq!(post.header("relayer-log"), Some(gateway.running.log.id().to_string().as_str()));
    assert!(post.header("user-agent").unwrap().starts_with("moltrade-relayer/"));
    assert_eq!((post.header("webhook-id"), post.header("content-encoding")), (None, None));
    hook.nothing().await;
    assert_eq!(gateway.sink(0).cursor().get(), 0, "not acknowledged");
    post.take();
    assert_eq!(hook.dates(299).await, (2..=300).collect::<Vec<_>>());
    gateway.until_delivered(0, 300).await;
    until("live", || matches!(gateway.sink(0).state(), SinkState::Live { .. })).await;
    assert_eq!((gateway.sink(0).delivered.get(), hook.connections()), (300, 1));
    assert_eq!(&*gateway.sink(0).address, format!("http://{}/hook", hook.address), "without its query");
    gateway.stop().await;
    let gateway = Gateway::start(&folder, &[]);
    assert_eq!(gateway.saved("a"), 300);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_an_array_of_envelopes_by_number_and_by_bytes() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("batch = 10\nbatch_bytes = 2048\nkinds = [1]"));
    gateway.append(1..=1);
    let first = hook.next().await;
    assert_eq!(first.seqs(), [1], "nothing waits for more");
    gateway.append(2..=100);
    first.take();
    let mut expected = 2;
    while expected <= 100 {
        let post = hook.next().await;
        let seqs = post.seqs();
        assert_eq!(seqs, (expected..expected + seqs.len() as u64).collect::<Vec<_>>());
        assert!(seqs.len() <= 10 && (post.body.len() < 2048 + 500), "{} bytes", post.body.len());
        assert_eq!(post.json()[0]["relay"], "ws://relay.example");
        expected += seqs.len() as u64;
        post.take();
    }
    gateway.until_delivered(0, 100).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_more_if_it_may() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("batch = 3\nbatch_wait_ms = 60000"));
    gateway.append(1..=2);
    hook.nothing().await;
    assert_eq!(gateway.sink(0).cursor().get(), 0, "what is gathered is not delivered");
    gateway.append([3]);
    let post = hook.next().await;
    assert_eq!(post.seqs(), [1, 2, 3]);
    post.take();
    gateway.append([4]);
    // Events that wait for a batch are sent when the log is closed.
    let stopping = tokio::spawn(gateway.stop());
    let post = hook.next().await;
    assert_eq!(post.seqs(), [4]);
    post.take();
    stopping.await.unwrap();
    let gateway = Gateway::start(&folder, &[]);
    assert_eq!(gateway.saved("a"), 4);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_with_concurrent_requests_the_cursor_is_behind_the_first_unanswered_one() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("concurrency = 3"));
    gateway.append(1..=5);
    let mut posts = vec![hook.next().await, hook.next().await, hook.next().await];
    posts.sort_by_key(|post| post.date());
    hook.nothing().await;
    let [first, second, third] = <[_; 3]>::try_from(posts).unwrap();
    third.take();
    second.take();
    let (four, five) = (hook.next().await, hook.next().await);
    assert_eq!([four.date() + five.date(), gateway.sink(0).cursor().get()], [9, 0]);
    first.take();
    gateway.until_delivered(0, 3).await;
    four.take();
    five.take();
    gateway.until_delivered(0, 5).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_is_probed_by_one_request_after_a_back_off() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("concurrency = 4"));
    gateway.append(1..=20);
    for _ in 0..4 {
        hook.next().await.answer(Reply::status(503));
    }
    for _ in 0..3 {
        let probe = hook.next().await;
        assert_eq!(probe.date(), 1, "the oldest first");
        hook.nothing().await;
        probe.answer(Reply::status(503));
    }
    hook.next().await.take();
    let mut dates = hook.dates(19).await;
    dates.sort_unstable();
    assert_eq!(dates, (2..=20).collect::<Vec<_>>());
    gateway.until_delivered(0, 20).await;
    assert_eq!(gateway.sink(0).retries.get(), 7);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_every_third_request_gets_everything_in_order() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("batch = 20"));
    gateway.append(1..=400);
    let (mut got, mut requests) = (Vec::new(), 0);
    while got.len() < 400 {
        let post = hook.next().await;
        requests += 1;
        if requests % 3 == 0 {
            post.answer(Reply::status(500));
        } else {
            got.extend(post.seqs());
            post.take();
        }
    }
    assert_eq!(got, (1..=400).collect::<Vec<_>>());
    gateway.until_delivered(0, 400).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_if_configured() {
    for encoding in ["gzip", "zstd"] {
        let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
        let options = format!("batch = 100\ncompression = '{encoding}'");
        let gateway = Gateway::start_with(&folder, &hook.output(&options));
        gateway.append(1..=1);
        let first = hook.next().await;
        gateway.append(2..=50);
        first.take();
        let post = hook.next().await;
        assert_eq!(post.header("content-encoding"), Some(encoding));
        let mut plain = Vec::new();
        match encoding {
            "gzip" => drop(flate2::read::GzDecoder::new(&*post.body).read_to_end(&mut plain).unwrap()),
            _ => plain = zstd::stream::decode_all(&*post.body).unwrap(),
        }
        assert!(post.body.len() < plain.len() / 2, "{} of {}", post.body.len(), plain.len());
        let envelopes: serde_json::Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(envelopes.as_array().unwrap().len(), 49);
        post.take();
        gateway.until_delivered(0, 50).await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_has_the_same_id_and_a_new_signature() {
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(&format!("secret = '{NEW} {OLD}'")));
    gateway.append(1..=2);
    let mut ids = Vec::new();
    for reply in [500, 204, 204] {
        let post = hook.next().await;
        let (id, time) = (post.header("webhook-id").unwrap(), post.header("webhook-timestamp").unwrap());
        let both: moltrade_relayer::config::SigningKeys = format!("{NEW} {OLD}").parse().unwrap();
        let signed = both.sign(id, time.parse().unwrap(), &post.body);
        assert_eq!(post.header("webhook-signature"), Some(&*signed));
        assert_eq!(signed.split(' ').count(), 2);
        ids.push(id.to_owned());
        post.answer(Reply::status(reply));
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
    gateway.until_delivered(0, 2).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_sink_is_retried_and_does_not_delay_the_stop() {
    let (folder, hook) = (TempDir::new().unwrap(), Hook::start().await);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = crate::hook::output(&format!("name = 'a'\naddress = 'http://{nobody}'\nstart = 'oldest'"));
    let gateway = Gateway::start_with(&folder, &output);
    gateway.append(1..=3);
    let reason = gateway.until_away(0).await;
    assert!(reason.starts_with("it cannot be connected to: "), "{reason}");
    assert!(matches!(gateway.sink(0).state(), SinkState::Retrying { .. }));
    gateway.stop().await;
    // The sink keeps its cursor when its address changes.
    let mut hook = hook;
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    assert_eq!(hook.dates(3).await, [1, 2, 3]);
    gateway.until_delivered(0, 3).await;
    gateway.stop().await;
}
