//! Dead letters: stored before the cursor passes their events, replayed, dropped.

use moltrade_relayer::event_log::DeadLetter;
use moltrade_relayer::event_log::{Cursor, Seq};
use moltrade_relayer::sink::{Command, LetterSelector, SinkLabel, SinkState};
use tempfile::TempDir;

use crate::gateway::{Gateway, until};
use crate::hook::{Hook, Reply};

fn seq(number: u64) -> Seq {
    Cursor::from_number(number - 1).next()
}

fn kept(gateway: &Gateway) -> Vec<u64> {
    let letters = gateway.sink(0).dead_letters.page(Seq::FIRST, 100, usize::MAX).unwrap();
    letters.iter().map(|letter| letter.entry.seq.get()).collect()
}

/// A sink that has refused events 2, 4, 6, 8 and 10 of ten.
async fn refused() -> (TempDir, Hook, Gateway) {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output("start = 'oldest'"));
    gateway.append(1..=10);
    for expected in 1..=10 {
        let post = hook.next().await;
        assert_eq!(post.date(), expected, "refusals do not change the order");
        let status = if expected % 2 == 0 { 422 } else { 204 };
        post.answer(Reply::status(status));
    }
    gateway.until_delivered(0, 10).await;
    assert_eq!(kept(&gateway), [2, 4, 6, 8, 10]);
    (folder, hook, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_outlive_a_crash_and_the_log() {
    let (folder, hook, gateway) = refused().await;
    let output = hook.output("");
    gateway.crash().await;
    let gateway = Gateway::start_with(&folder, &output);
    assert_eq!(kept(&gateway), [2, 4, 6, 8, 10]);
    let all = moltrade_relayer::event_log::retention::Retention { bytes_max: 1, ..Default::default() };
    gateway.running.log.trim(all, 0).unwrap();
    assert_eq!(gateway.running.log.floor().get(), 11);
    let letter: DeadLetter = gateway.sink(0).dead_letters.get(seq(4)).unwrap().unwrap();
    assert_eq!((letter.entry.event.created_at(), letter.entry.received_at_ms), (4, 4_000));
    assert_eq!((&*letter.entry.relay, letter.tries), ("ws://relay.example", 1));
    assert_eq!(letter.reason, "it answered 422 Unprocessable Entity");
    assert_eq!(gateway.metrics.dead_letters.get_or_create(&SinkLabel::new("a")).get(), 5);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_the_cursor_passes_refused_events_only_when_they_are_stored() {
    let (folder, mut hook) = (TempDir::new().unwrap(), Hook::start().await);
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    gateway.append(1..=200);
    for date in 1..=50 {
        let post = hook.next().await;
        assert_eq!(post.date(), date);
        post.answer(Reply::status(400));
        // Every refused event before the cursor is a dead letter.
        let cursor = gateway.sink(0).cursor().get();
        let letters = gateway.sink(0).dead_letters.page(Seq::FIRST, 100, usize::MAX).unwrap().len() as u64;
        assert!(cursor <= letters, "{cursor} with {letters} letters");
    }
    gateway.crash().await;
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    let cursor = gateway.sink(0).cursor().get();
    assert!((kept(&gateway).len() as u64) >= cursor, "everything before the cursor is stored");
    gateway.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_letter_or_all_are_replayed() {
    let (_folder, mut hook, gateway) = refused().await;
    let sink = || gateway.sink(0);
    assert_eq!(sink().dead_letters.replay(LetterSelector::One(seq(3))), 0, "there is no such letter");
    assert_eq!(sink().dead_letters.replay(LetterSelector::One(seq(6))), 1);
    let post = hook.next().await;
    assert_eq!((post.date(), kept(&gateway).len()), (6, 5), "it is a letter until it is delivered");
    post.take();
    until("four letters", || sink().dead_letters.len() == 4).await;
    assert_eq!(kept(&gateway), [2, 4, 8, 10]);
    assert_eq!(sink().dead_letters.replay(LetterSelector::All), 4);
    // New events alternate with replays.
    gateway.append(11..=12);
    let mut dates = Vec::new();
    while dates.len() < 6 {
        let post = hook.next().await;
        dates.push(post.date());
        // One replayed event is refused again.
        let status = if post.date() == 8 { 400 } else { 204 };
        post.answer(Reply::status(status));
    }
    let old: Vec<u64> = dates.iter().copied().filter(|date| *date <= 10).collect();
    assert_eq!(old, [2, 4, 8, 10], "{dates:?}");
    until("one letter", || sink().dead_letters.len() == 1 && sink().dead_letters.replaying() == 0).await;
    gateway.until_delivered(0, 12).await;
    let letter = sink().dead_letters.get(seq(8)).unwrap().unwrap();
    assert_eq!((letter.tries, &*letter.reason), (2, "it answered 400 Bad Request"));
    hook.nothing().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_a_sink_that_fails() {
    let (_folder, mut hook, gateway) = refused().await;
    gateway.sink(0).dead_letters.replay(LetterSelector::All);
    hook.next().await.answer(Reply::status(503));
    let mut dates = Vec::new();
    while dates.len() < 5 {
        let post = hook.next().await;
        dates.push(post.date());
        post.take();
    }
    assert_eq!(dates, [2, 4, 6, 8, 10]);
    until("no letters", || gateway.sink(0).dead_letters.is_empty()).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_dropped_one_or_all() {
    let (folder, hook, gateway) = refused().await;
    assert_eq!(gateway.sink(0).dead_letters.delete(LetterSelector::One(seq(4))).unwrap(), 1);
    assert_eq!(gateway.sink(0).dead_letters.delete(LetterSelector::One(seq(4))).unwrap(), 0);
    assert_eq!(kept(&gateway), [2, 6, 8, 10]);
    assert_eq!(gateway.sink(0).dead_letters.delete(LetterSelector::All).unwrap(), 4);
    gateway.stop().await;
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    assert_eq!(kept(&gateway), [0_u64; 0]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_dropped_during_its_replay_stays_dropped() {
    let (_folder, mut hook, gateway) = refused().await;
    gateway.sink(0).dead_letters.replay(LetterSelector::One(seq(4)));
    let post = hook.next().await;
    assert_eq!(gateway.sink(0).dead_letters.delete(LetterSelector::One(seq(4))).unwrap(), 1);
    post.answer(Reply::status(400));
    gateway.append([11]);
    assert_eq!(hook.dates(1).await, [11]);
    gateway.until_delivered(0, 11).await;
    assert_eq!(kept(&gateway), [2, 6, 8, 10]);
    assert_eq!(gateway.sink(0).dead_letters.refused(), 5, "a repeated refusal does not count");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_a_long_retry_after_does_not_delay_new_events() {
    let (_folder, mut hook, gateway) = refused().await;
    gateway.sink(0).dead_letters.replay(LetterSelector::One(seq(4)));
    hook.next().await.answer(Reply::with(503, "retry-after: 0\r\n"));
    gateway.append([11]);
    assert_eq!(hook.dates(1).await, [11]);
    assert_eq!((kept(&gateway).len(), gateway.sink(0).dead_letters.replaying()), (5, 0));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_one_letter_is_replayed_or_after_one_is_dropped_loses_no_other() {
    let (folder, mut hook, gateway) = refused().await;
    until("the cursor is stored", || gateway.saved("a") == 10).await;
    assert_eq!(gateway.sink(0).dead_letters.delete(LetterSelector::One(seq(8))).unwrap(), 1);
    assert_eq!(gateway.sink(0).dead_letters.replay(LetterSelector::One(seq(4))), 1);
    // The sink has the event, but the gateway does not know that when it crashes.
    let post = hook.next().await;
    assert_eq!(post.date(), 4);
    gateway.crash().await;
    post.take();
    let gateway = Gateway::start_with(&folder, &hook.output(""));
    let letters = || std::sync::Arc::clone(&gateway.sink(0).dead_letters);
    assert_eq!((kept(&gateway), letters().replaying()), (vec![2, 4, 6, 10], 0));
    assert_eq!(letters().replay(LetterSelector::One(seq(4))), 1);
    assert!(letters().is_replaying(seq(4)) && !letters().is_replaying(seq(6)));
    assert_eq!(hook.dates(1).await, [4]);
    until("three letters", || letters().len() == 3).await;
    assert_eq!(kept(&gateway), [2, 6, 10]);
    hook.nothing().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlasts_the_parking_of_its_sink() {
    let (_folder, mut hook, gateway) = refused().await;
    gateway.sink(0).dead_letters.replay(LetterSelector::One(seq(6)));
    hook.next().await.answer(Reply::status(410));
    until("the sink is parked", || matches!(gateway.sink(0).state(), SinkState::Parked { .. })).await;
    assert_eq!((kept(&gateway).len(), gateway.sink(0).dead_letters.replaying()), (5, 1));
    gateway.sink(0).command(Command::Resume).await.unwrap();
    assert_eq!(hook.dates(1).await, [6]);
    until("four letters", || gateway.sink(0).dead_letters.len() == 4).await;
    assert_eq!(kept(&gateway), [2, 4, 8, 10]);
    gateway.stop().await;
}
