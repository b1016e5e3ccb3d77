//! An operator's commands to a sink: pause, resume and seek.

use std::time::Duration;

use moltrade_relayer::config::Framing;
use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::sink::{Command, SinkState};
use tempfile::TempDir;

use crate::gateway::{Gateway, sink, ten_delivered, until};
use crate::hook::{Hook, Reply};
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_gets_nothing_also_after_a_restart_until_it_is_resumed() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let config = [sink("a", &receiver, "ack = true")];
    let gateway = Gateway::start(&folder, &config);
    let mut session = receiver.accept(Framing::Length).await;
    gateway.append(1..=10);
    session.seqs(10).await;
    session.ack(4).await;
    gateway.until_delivered(0, 4).await;
    let closed = tokio::spawn(async move { session.until_closed().await });
    gateway.sink(0).command(Command::Pause).await.unwrap();
    closed.await.unwrap();
    assert!(matches!(gateway.sink(0).state(), SinkState::Paused { .. }));
    gateway.sink(0).command(Command::Pause).await.unwrap();
    assert_eq!(gateway.saved("a"), 4);
    gateway.crash().await;

    let gateway = Gateway::start(&folder, &config);
    until("paused", || matches!(gateway.sink(0).state(), SinkState::Paused { .. })).await;
    gateway.append(11..=12);
    let early = tokio::time::timeout(Duration::from_millis(100), receiver.accept(Framing::Length)).await;
    assert!(early.is_err(), "it was connected to");
    gateway.sink(0).command(Command::Resume).await.unwrap();
    let mut session = receiver.accept(Framing::Length).await;
    assert_eq!(session.seqs(8).await, (5..=12).collect::<Vec<_>>());
    session.ack(12).await;
    gateway.until_delivered(0, 12).await;
    gateway.stop_with(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_continues_after_the_cursor_that_it_is_moved_to() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let (gateway, mut session) = ten_delivered(&folder, &receiver).await;
    for (cursor, expected) in [(3, 4..=10), (8, 9..=10), (0, 1..=10)] {
        let closed = tokio::spawn(async move { session.until_closed().await });
        gateway.sink(0).command(Command::Seek(Cursor::from_number(cursor))).await.unwrap();
        closed.await.unwrap();
        session = receiver.accept(Framing::Length).await;
        let expected: Vec<u64> = expected.collect();
        assert_eq!(session.seqs(expected.len()).await, expected, "after {cursor}");
    }
    // An acknowledgement on the previous connection does not count.
    assert_eq!(gateway.sink(0).cursor().get(), 0);
    session.ack(10).await;
    gateway.until_delivered(0, 10).await;
    gateway.stop_with(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_apply_to_a_sink_that_is_not_connected() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let config = [sink("a", &receiver, "ack = true")];
    drop(receiver);
    let gateway = Gateway::start(&folder, &config);
    gateway.append(1..=10);
    gateway.until_away(0).await;
    gateway.sink(0).command(Command::Seek(Cursor::from_number(7))).await.unwrap();
    assert_eq!((gateway.sink(0).cursor().get(), gateway.saved("a")), (7, 7));
    gateway.sink(0).command(Command::Seek(Cursor::END)).await.unwrap();
    assert_eq!(gateway.sink(0).cursor().get(), 10, "nothing beyond the head");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_may_end_before_a_pause() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    gateway.append(1..=3);
    let post = hook.next().await;
    let sink = gateway.sink(0);
    let paused = tokio::spawn(async move { sink.command(Command::Pause).await });
    hook.nothing().await;
    post.take();
    paused.await.unwrap().unwrap();
    assert_eq!(gateway.saved("a"), 1);
    hook.nothing().await;
    gateway.sink(0).command(Command::Resume).await.unwrap();
    hook.next().await.answer(Reply::Hang);
    // A hanging request does not delay a command for long.
    gateway.sink(0).command(Command::Seek(Cursor::from_number(2))).await.unwrap();
    assert_eq!(hook.dates(1).await, [3]);
    gateway.until_delivered(0, 3).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_starts_over_loses_nothing_to_retention() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    gateway.append(1..=20);
    assert_eq!(hook.dates(20).await, (1..=20).collect::<Vec<_>>());
    gateway.until_delivered(0, 20).await;
    let by_age = moltrade_relayer::event_log::retention::Retention { age_ms_max: 1, ..Default::default() };
    gateway.running.log.trim(by_age, 15_001).unwrap();
    gateway.sink(0).command(Command::Seek(Cursor::START)).await.unwrap();
    assert_eq!(gateway.sink(0).cursor().get(), 14);
    assert_eq!(hook.dates(6).await, (15..=20).collect::<Vec<_>>());
    gateway.until_delivered(0, 20).await;
    assert_eq!(gateway.sink(0).lost.get(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hangs_limits_how_many_follow_it() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("concurrency = 2"));
    gateway.append(1..=200);
    // The two requests in flight may arrive in either order.
    let (one, other) = (hook.next().await, hook.next().await);
    let (hangs, next) = if one.date() == 1 { (one, other) } else { (other, one) };
    assert_eq!((hangs.date(), next.date()), (1, 2));
    next.take();
    let mut taken = 1;
    while let Ok(post) = tokio::time::timeout(Duration::from_millis(300), hook.next()).await {
        taken += 1;
        post.take();
    }
    assert_eq!(taken, 31, "sixteen for each request that may be in flight");
    hangs.take();
    let mut rest = hook.dates(168).await;
    rest.sort_unstable();
    assert_eq!(rest, (33..=200).collect::<Vec<_>>());
    gateway.until_delivered(0, 200).await;
    gateway.stop().await;
}
