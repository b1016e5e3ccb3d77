//! Invariant 4: a cursor moves only after the sink has the events, and it persists.

use std::time::Duration;

use moltrade_relayer::config::Framing;
use moltrade_relayer::event_log::Cursors;
use tempfile::TempDir;

use crate::gateway::{Gateway, sink, ten_delivered, until, within};
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_the_cursor_is_never_ahead_of_the_acks() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "ack = true")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=300);
    let mut acked = 0;
    for seq in 1..=300 {
        assert_eq!(session.next_seq().await, Some(seq));
        let cursor = gateway.sink(0).cursor().get();
        assert!(cursor <= acked, "{cursor} with {acked} acknowledged, {seq} received");
        if seq % 10 == 0 {
            // The sink acknowledges half of its events.
            acked = seq / 2;
            session.ack(acked).await;
            gateway.until_delivered(0, acked).await;
        }
    }
    until("the cursor on disk", || gateway.saved("a") == acked).await;
    assert_eq!(gateway.sink(0).cursor().get(), acked);
    gateway.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_at_the_cursor_even_at_another_address() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let (gateway, session) = ten_delivered(&folder, &receiver).await;
    gateway.stop_with(session).await;
    // A run in which the sink is not configured keeps the sink's cursor.
    let gateway = Gateway::start(&folder, &[]);
    gateway.append(11..=20);
    gateway.stop().await;
    let other = Receiver::start().await;
    let gateway = Gateway::start(&folder, &[sink("a", &other, "ack = true\nstart = 'oldest'")]);
    let mut session = other.accept(Framing::Length).await;
    assert_eq!(session.seqs(10).await, (11..=20).collect::<Vec<_>>());
    gateway.running.log.delete_cursor(Cursors::Sinks, "a").unwrap();
    gateway.crash().await;
    drop(session);
    let gateway = Gateway::start(&folder, &[sink("a", &other, "ack = true\nstart = 'oldest'")]);
    let mut session = other.accept(Framing::Length).await;
    assert_eq!(session.seqs(1).await, [1], "a forgotten sink starts over");
    gateway.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_starts_at_the_oldest_event_or_at_the_head_of_its_first_start() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let sinks = [sink("now", &receiver, ""), sink("oldest", &receiver, "start = 'oldest'")];
    let gateway = Gateway::start(&folder, &[]);
    gateway.append(1..=10);
    gateway.stop().await;
    let address = receiver.address;
    drop(receiver);
    // Both sinks stay disconnected.
    let gateway = Gateway::start(&folder, &sinks);
    gateway.append(11..=15);
    assert_eq!((gateway.saved("now"), gateway.saved("oldest")), (10, 0));
    gateway.stop().await;
    let receiver = Receiver::on(address);
    for (sink, first) in sinks.iter().zip([11, 1]) {
        let gateway = Gateway::start(&folder, std::slice::from_ref(sink));
        assert_eq!(receiver.accept(Framing::Length).await.dates(1).await, [first]);
        gateway.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_delivers_the_rest_and_stores_the_cursor() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "ack = true")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=2_000);
    let received = tokio::spawn(async move {
        let mut last = 0;
        while let Some(seq) = session.next_seq().await {
            assert_eq!(seq, last + 1);
            session.ack(seq).await;
            last = seq;
        }
        last
    });
    gateway.stop().await;
    assert_eq!(received.await.unwrap(), 2_000);
    let gateway = Gateway::start(&folder, &[]);
    assert_eq!(gateway.saved("a"), 2_000);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_reads_nothing_does_not_delay_the_stop() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, "ack = true")]);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=5);
    session.seqs(5).await;
    session.ack(2).await;
    gateway.until_delivered(0, 2).await;
    let silent = tokio::spawn(async move { session.until_closed().await });
    within("the end", gateway.stop_within(Duration::from_millis(50))).await;
    silent.await.unwrap();
    let gateway = Gateway::start(&folder, &[]);
    assert_eq!(gateway.saved("a"), 2);
    gateway.stop().await;
}
