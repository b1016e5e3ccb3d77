//! Delivery: every sink gets every event, in order, in its framing, independently of other sinks.

use moltrade_relayer::config::{Config, Framing};
use moltrade_relayer::sink::SinkState;
use tempfile::TempDir;

use crate::bench::event;
use crate::gateway::{Gateway, framing_option, sink, until};
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_a_sink_gets_the_bare_events_in_order() {
    for framing in [Framing::Length, Framing::Ndjson] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &framing_option(framing))]);
        let mut session = receiver.accept(framing).await;
        gateway.append(1..=3_000);
        assert_eq!(session.dates(3_000).await, (1..=3_000).collect::<Vec<_>>(), "{framing:?}");
        gateway.append([3_001]);
        let found = session.next().await.unwrap();
        let sent: serde_json::Value = serde_json::from_slice(event(3_001).event.json()).unwrap();
        assert_eq!(found, sent, "the event as it was signed, and nothing else");
        gateway.until_delivered(0, 3_001).await;
        until("live", || matches!(gateway.sink(0).state(), SinkState::Live { .. })).await;
        assert_eq!(gateway.sink(0).delivered.get(), 3_001);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_acks_a_sink_gets_envelopes_in_order() {
    for framing in [Framing::Length, Framing::Ndjson] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let options = framing_option(framing) + "ack = true\nmax_unacked = 7";
        let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
        let mut session = receiver.accept(framing).await;
        gateway.append(1..=500);
        for expected in 1..=500 {
            let envelope = session.next().await.unwrap();
            assert_eq!(envelope["seq"], expected);
            assert_eq!(envelope["event"]["created_at"], expected);
            assert_eq!(envelope["relay"], "ws://relay.example");
            assert_eq!(envelope["received_at"], expected * 1000);
            session.ack(expected).await;
        }
        gateway.until_delivered(0, 500).await;
        assert_eq!((gateway.sink(0).delivered.get(), gateway.sink(0).ack_errors.get()), (500, 0));
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_the_events_it_selects_and_its_cursor_passes_the_rest() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
    let options = "framing = 'ndjson'\nack = true\nkinds = [1]\nfilter = '{\"since\":10,\"until\":12}'";
    let other = sink("b", &receiver, "kinds = [7]");
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, options)]);
    let mut session = receiver.accept(Framing::Ndjson).await;
    gateway.append(1..=20);
    assert_eq!(session.seqs(3).await, [10, 11, 12]);
    gateway.until_delivered(0, 9).await;
    session.ack(11).await;
    gateway.until_delivered(0, 11).await;
    session.ack(12).await;
    gateway.until_delivered(0, 20).await;
    gateway.stop().await;
    // A sink counts as up to date if its selection matches none of the events.
    let gateway = Gateway::start(&folder, &[other]);
    let _session = receiver.accept(Framing::Length).await;
    gateway.append(21..=30);
    gateway.until_delivered(0, 30).await;
    assert_eq!(gateway.sink(0).delivered.get(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_that_are_slow_frozen_or_away_delay_nobody() {
    const EVENTS: u64 = 20_000;
    let folder = TempDir::new().unwrap();
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let away = Receiver::start().await;
    let sinks = [
        sink("frozen", &receivers[0], ""),
        sink("silent", &receivers[1], "ack = true"),
        sink("away", &away, "ack = true"),
        sink("good", &receivers[2], "ack = true\nframing = 'ndjson'"),
    ];
    let away_address = away.address;
    drop(away);
    let gateway = Gateway::start(&folder, &sinks);
    let mut frozen = receivers[0].accept(Framing::Length).await;
    let mut silent = receivers[1].accept(Framing::Length).await;
    let mut good = receivers[2].accept(Framing::Ndjson).await;
    // More events than the tail and all sockets hold, so that slow sinks read from RocksDB.
    gateway.append(1..=EVENTS);
    for expected in 1..=EVENTS {
        assert_eq!(good.next_seq().await, Some(expected));
        if expected % 100 == 0 {
            good.ack(expected).await;
        }
    }
    gateway.until_delivered(3, EVENTS).await;
    assert!(gateway.sink(0).cursor().get() < EVENTS, "so much fits into a socket?");
    assert_eq!(gateway.sink(1).cursor().get(), 0);
    assert_eq!(gateway.sink(2).cursor().get(), 0);
    // The other sinks still get every event.
    assert_eq!(frozen.dates(EVENTS as usize).await, (1..=EVENTS).collect::<Vec<_>>());
    for expected in 1..=EVENTS {
        assert_eq!(silent.next_seq().await, Some(expected));
        silent.ack(expected).await;
    }
    let mut back = Receiver::on(away_address).accept(Framing::Length).await;
    for expected in 1..=EVENTS {
        assert_eq!(back.next_seq().await, Some(expected));
        back.ack(expected).await;
    }
    for index in 0..4 {
        gateway.until_delivered(index, EVENTS).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_again_and_again_misses_nothing() {
    killed_again_and_again("", |receiver| receiver).await;
}

/// Kills a receiver repeatedly. `ready` prepares each new receiver.
pub async fn killed_again_and_again(options: &str, ready: impl Fn(Receiver) -> Receiver) {
    const EVENTS: u64 = 5_000;
    const WINDOW: u64 = 50;
    let (folder, mut receiver) = (TempDir::new().unwrap(), ready(Receiver::start().await));
    let (address, options) = (receiver.address, format!("{options}ack = true\nmax_unacked = {WINDOW}"));
    let gateway = Gateway::start(&folder, &[sink("a", &receiver, &options)]);
    gateway.append(1..=EVENTS);
    let (mut highest, mut repeats, mut lives) = (0, 0, 0_u64);
    while highest < EVENTS {
        let mut session = receiver.accept(Framing::Length).await;
        lives += 1;
        // The last receiver stays. Earlier receivers die after some events, and may leave the last
        // of these events unacknowledged.
        let (life, unacked) = if lives > 20 { (u64::MAX, 0) } else { (37 * lives % 113 + 60, lives % 17) };
        let mut previous = None;
        for nth in 0..life {
            let Some(seq) = session.next_seq().await else { break };
            assert!(previous.is_none_or(|previous| seq == previous + 1), "in order, without gap");
            assert!(seq <= highest + 1, "{seq} after {highest}: something is missing");
            repeats += u64::from(seq <= highest);
            highest = highest.max(seq);
            previous = Some(seq);
            if nth + unacked < life {
                session.ack(seq).await;
            }
            if highest == EVENTS {
                break;
            }
        }
        if highest < EVENTS {
            drop((session, receiver));
            receiver = ready(Receiver::on(address));
        }
    }
    assert!(lives > 20, "it was not killed");
    assert!(repeats <= lives * WINDOW, "{repeats} repeats in {lives} lives");
    gateway.until_delivered(0, EVENTS).await;
    assert!(gateway.sink(0).reconnects.get() >= 20);
    gateway.stop().await;
}

#[test]
fn the_seeds_form_is_a_sink_named_by_its_address() {
    let text = "output.downstream_tcp = ['Localhost:9000']";
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), text)), []).unwrap();
    let sinks = loaded.config.output.tcp_sinks();
    assert_eq!((sinks[0].name.as_str(), sinks[0].address.host()), ("localhost:9000", "localhost"));
    assert!(!sinks[0].options.ack);
}
