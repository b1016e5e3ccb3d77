//! The effect of each response of an HTTP sink.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moltrade_relayer::sink::{Command, SinkState};
use tempfile::TempDir;

use crate::gateway::{Gateway, until};
use crate::hook::{Hook, Reply};

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A sink that gets two events and gives this reply to the first.
async fn answered(options: &str, reply: Reply) -> (TempDir, Hook, Gateway) {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(options));
    gateway.append(1..=2);
    let post = hook.next().await;
    assert_eq!(post.date(), 1);
    post.answer(reply);
    (folder, hook, gateway)
}

/// Asserts that this reply makes the first event count as delivered, and that the next event comes.
async fn delivers(reply: Reply) {
    let (_folder, mut hook, gateway) = answered("", reply.clone()).await;
    assert_eq!(hook.dates(1).await, [2], "{reply:?}");
    gateway.until_delivered(0, 2).await;
    assert_eq!((gateway.sink(0).delivered.get(), gateway.sink(0).retries.get()), (2, 0), "{reply:?}");
    assert!(gateway.sink(0).dead_letters.is_empty(), "{reply:?}");
    gateway.stop().await;
}

/// Asserts that this reply makes the gateway repeat the event, and that no event is lost. Returns
/// the reported reason.
async fn repeats(options: &str, reply: Reply) -> String {
    let (_folder, mut hook, gateway) = answered(options, reply.clone()).await;
    let reason = gateway.until_away(0).await;
    let again = hook.next().await;
    assert_eq!((again.date(), gateway.sink(0).cursor().get()), (1, 0), "{reply:?}");
    again.take();
    assert_eq!(hook.dates(1).await, [2], "{reply:?}");
    gateway.until_delivered(0, 2).await;
    assert_eq!((gateway.sink(0).delivered.get(), gateway.sink(0).retries.get()), (2, 1), "{reply:?}");
    assert!(gateway.sink(0).dead_letters.is_empty(), "{reply:?}");
    gateway.stop().await;
    reason
}

/// Asserts that this reply makes the first event a dead letter, and that the next event comes.
/// Returns the reason.
async fn refuses(reply: Reply) -> String {
    let (_folder, mut hook, gateway) = answered("headers = { X-Key = 'hunter3' }", reply.clone()).await;
    assert_eq!(hook.dates(1).await, [2], "{reply:?}");
    gateway.until_delivered(0, 2).await;
    let letter = gateway.sink(0).dead_letters.page(first(), 10, usize::MAX).unwrap().remove(0);
    assert_eq!((letter.entry.seq.get(), letter.tries, gateway.sink(0).dead_letters.len()), (1, 1, 1));
    gateway.stop().await;
    letter.reason
}

fn first() -> moltrade_relayer::event_log::Seq {
    moltrade_relayer::event_log::Seq::FIRST
}

#[tokio::test(flavor = "multi_thread")]
async fn every_2xx_is_an_acknowledgement_even_with_a_broken_body() {
    for status in [200, 201, 202, 204] {
        delivers(Reply::status(status)).await;
    }
    delivers(Reply::Status(200, "", "thank you".repeat(100_000))).await;
    delivers(Reply::HalfBody(200)).await;
    delivers(Reply::Endless(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_errors_are_retried() {
    for status in [408, 429, 500, 501, 502, 503, 504] {
        let reason = repeats("", Reply::status(status)).await;
        assert!(reason.starts_with(&format!("it answered {status}")), "{reason}");
    }
    let reason = repeats("", Reply::Status(500, "", "out of\r\n  memory\u{7}".to_owned())).await;
    assert_eq!(reason, "it answered 500 Internal Server Error: out of memory");
    let endless = repeats("", Reply::Endless(503)).await;
    assert!(
        endless.len() < 300 && endless.starts_with("it answered 503 Service Unavailable: xxx"),
        "{endless}"
    );
    repeats("", Reply::HalfBody(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let reason =
            repeats("", Reply::with(status, "location: http://127.0.0.1:1/elsewhere?token=x\r\n")).await;
        assert!(reason.contains("(to http://127.0.0.1:1/elsewhere); redirects are not followed"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_incomplete_responses_are_retried() {
    assert_eq!(repeats("timeout_secs = 1", Reply::Hang).await, "it did not answer within 1 s");
    for reply in [Reply::Close, Reply::HalfHead] {
        let reason = repeats("", reply).await;
        assert!(reason.starts_with("the request failed: "), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permanently_refused_events_become_dead_letters() {
    for status in [400, 401, 403, 404, 405, 409, 413, 415, 422, 451] {
        let reason = refuses(Reply::status(status)).await;
        assert!(reason.starts_with(&format!("it answered {status}")), "{reason}");
    }
    let reason = refuses(Reply::Status(400, "", "no such \u{1b}[31mmarket".to_owned())).await;
    assert_eq!(reason, "it answered 400 Bad Request: no such [31mmarket");
    for echo in ["your X-Key was hunter3", "Cannot POST /hook?key=hunter2", "invalid key \"hunter2\""] {
        let reason = refuses(Reply::Status(400, "", echo.to_owned())).await;
        assert_eq!(reason, "it answered 400 Bad Request: (hidden: it repeats a secret of the request)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_heeded_in_both_forms() {
    for (status, head) in
        [(429, "retry-after: 600\r\n"), (503, "Retry-After: Fri, 14 Nov 2053 22:13:20 GMT\r\n")]
    {
        let (_folder, mut hook, gateway) = answered("", Reply::with(status, head)).await;
        gateway.until_away(0).await;
        let SinkState::Retrying { until_ms, .. } = gateway.sink(0).state() else { panic!() };
        assert!(until_ms > unix_ms() + 500_000, "{head}");
        assert!(until_ms < unix_ms() + 3_601_000, "an hour at most");
        hook.nothing().await;
        // An operator can end the wait.
        gateway.sink(0).command(Command::Resume).await.unwrap();
        assert_eq!(hook.dates(2).await, [1, 2]);
        gateway.until_delivered(0, 2).await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_gone_is_parked_until_it_is_resumed() {
    let (_folder, mut hook, gateway) =
        answered("", Reply::Status(410, "", "closed for good".to_owned())).await;
    until("parked", || matches!(gateway.sink(0).state(), SinkState::Parked { .. })).await;
    hook.nothing().await;
    let SinkState::Parked { reason, .. } = gateway.sink(0).state() else { panic!() };
    assert_eq!(reason, "it answered 410 Gone: closed for good");
    assert!(gateway.sink(0).dead_letters.is_empty(), "nothing is lost by it");
    gateway.sink(0).command(Command::Resume).await.unwrap();
    assert_eq!(hook.dates(2).await, [1, 2]);
    gateway.until_delivered(0, 2).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_halved_down_to_one_event() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("batch = 8"));
    gateway.append([1]);
    let first_post = hook.next().await;
    gateway.append(2..=9);
    first_post.take();
    let mut got = Vec::new();
    while got.len() < 7 {
        let post = hook.next().await;
        let seqs = post.seqs();
        if seqs.contains(&6) {
            post.answer(Reply::status(413));
        } else {
            got.extend(seqs);
            post.take();
        }
    }
    assert_eq!(got, [2, 3, 4, 5, 7, 8, 9], "in order, and without the one that is too large");
    gateway.until_delivered(0, 9).await;
    let letters = gateway.sink(0).dead_letters.page(first(), 10, usize::MAX).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.entry.seq.get()).collect::<Vec<_>>(), [6]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_everything_is_parked_before_it_loses_anything() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    gateway.append(1..=150);
    for _ in 0..=100 {
        hook.next().await.answer(Reply::status(401));
    }
    until("parked", || matches!(gateway.sink(0).state(), SinkState::Parked { .. })).await;
    let reason = gateway.sink(0).last_error().unwrap();
    assert_eq!(reason, "it refused 100 requests in a row, and then one more: it answered 401 Unauthorized");
    assert_eq!((gateway.sink(0).dead_letters.len(), gateway.sink(0).cursor().get()), (100, 100));
    gateway.sink(0).command(Command::Resume).await.unwrap();
    assert_eq!(hook.dates(50).await, (101..=150).collect::<Vec<_>>());
    gateway.until_delivered(0, 150).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_batches_park_a_sink_before_they_fill_the_dead_letters() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("batch = 300\nstart = 'oldest'"));
    gateway.append(1..=2_000);
    let mut refused = 0;
    let refusing = async {
        loop {
            let post = hook.next().await;
            refused += post.seqs().len();
            post.answer(Reply::status(403));
        }
    };
    tokio::select! {
        () = until("it is parked", || matches!(gateway.sink(0).state(), SinkState::Parked { .. })) => {}
        () = refusing => {}
    }
    let letters = gateway.sink(0).dead_letters.len();
    assert!((700..=1_000).contains(&letters), "{letters} of {refused} refused");
    assert_eq!(gateway.sink(0).cursor().get(), letters as u64, "what it passed is kept");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_reported_and_does_not_delay_the_stop() {
    let folder = TempDir::new().unwrap();
    let gateway =
        Gateway::start_with(&folder, &crate::hook::output("name = 'a'\naddress = 'http://nobody.invalid/'"));
    gateway.append([1]);
    let reason = gateway.until_away(0).await;
    assert!(reason.contains("nobody.invalid has no address") || reason.contains("DNS"), "{reason}");
    gateway.stop_within(Duration::from_secs(1)).await;
}
