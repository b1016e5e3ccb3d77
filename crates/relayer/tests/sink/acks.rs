//! Wrong and missing acknowledgements.

use moltrade_relayer::config::Framing;
use tempfile::TempDir;

use crate::gateway::{Gateway, framing_option, sink, until};
use crate::receiver::Receiver;

/// Runs a sink that gets ten events, acknowledges five, and then sends these bytes. Returns the
/// reason that the gateway reports.
async fn reason_after(framing: Framing, bytes: &[u8]) -> String {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &(framing_option(framing) + "ack = true"))]);
    let mut session = receiver.accept(framing).await;
    gateway.append(1..=10);
    session.seqs(10).await;
    session.ack(5).await;
    session.say(bytes).await;
    session.until_closed().await;
    let reason = gateway.until_away(0).await;
    assert_eq!(gateway.sink(0).cursor().get(), 5, "{reason}");
    until("the count", || gateway.sink(0).ack_errors.get() == 1).await;
    let mut session = receiver.accept(framing).await;
    assert_eq!(session.seqs(5).await, [6, 7, 8, 9, 10], "it is sent again after {reason}");
    gateway.stop_with(session).await;
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_wrong_acks_close_the_connection_and_move_nothing() {
    let never = |found: u64| format!("it acknowledged {found}, which was not sent to it on this connection");
    for found in [11, u64::MAX] {
        assert_eq!(reason_after(Framing::Length, &found.to_be_bytes()).await, never(found));
        assert_eq!(
            reason_after(Framing::Ndjson, format!("{{\"ack\":{found}}}\n").as_bytes()).await,
            never(found)
        );
    }
    assert_eq!(reason_after(Framing::Length, &4_u64.to_be_bytes()).await, "it acknowledged 4 after 5");
    assert_eq!(reason_after(Framing::Ndjson, b"{\"ack\":4}\n").await, "it acknowledged 4 after 5");
    let garbage = "it sent something that is not an acknowledgement";
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"{\"ack\":\"6\"}\n", &[b'x'; 1_000], &[0xff; 65]] {
        assert_eq!(reason_after(Framing::Ndjson, bytes).await, garbage);
    }
    assert!(reason_after(Framing::Length, b"GET / HTTP/1.1\r\n\r\n").await.starts_with("it acknowledged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_acknowledges_nothing_is_reconnected() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "ack = true\nack_timeout_secs = 1")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=3);
    session.seqs(3).await;
    session.until_closed().await;
    assert_eq!(gateway.until_away(0).await, "it acknowledged nothing for 1 s");
    let mut session = receiver.accept(Framing::Length).await;
    assert_eq!(session.seqs(3).await, [1, 2, 3]);
    session.ack(3).await;
    gateway.until_delivered(0, 3).await;
    gateway.stop_with(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_unacked_is_not_exceeded() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "ack = true\nmax_unacked = 3")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=10);
    assert_eq!(session.seqs(3).await, [1, 2, 3]);
    // The fourth event waits for an acknowledgement.
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), session.next_seq()).await;
    assert!(early.is_err(), "{early:?}");
    session.ack(1).await;
    assert_eq!(session.seqs(1).await, [4]);
    gateway.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_bytes_of_a_sink_are_limited() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "")]);
    let mut session = receiver.accept(Framing::Length).await;
    session.say(b"220 welcome\r\n").await;
    gateway.append(1..=3);
    assert_eq!(session.dates(3).await, [1, 2, 3]);
    session.say(&vec![b'x'; 1 << 20]).await;
    session.until_closed().await;
    assert!(gateway.until_away(0).await.starts_with("it sent more than"));
    gateway.crash().await;
}
