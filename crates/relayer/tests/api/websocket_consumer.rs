//! Named consumers: the events that they get, and the effect of their acknowledgements.

use std::time::Duration;

use futures_util::SinkExt;
use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::config::Output;
use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::serve::ClientRefusal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_websockets::{ClientBuilder, Message};

use crate::consumer_client::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_url_goes_on_where_the_acknowledgements_end() {
    let gateway = start(Output::default()).await;
    gateway.append_numbered(10).await;
    let url = "?consumer=indexer&cursor=0";
    let mut client = Client::connect(&gateway, url).await;
    client.expect(1..=10).await;
    client.ack(4).await;
    client.ack(4).await;
    client.ack(7).await;
    client.leave(&gateway, "indexer").await;
    assert_eq!(stored_cursor(&gateway, "indexer"), 7);
    let mut client = Client::connect(&gateway, url).await;
    client.expect(8..=10).await;
    client.leave(&gateway, "indexer").await;
    let mut client = Client::connect(&gateway, "?consumer=indexer").await;
    client.expect(8..=10).await;
    gateway.append_numbered(1).await;
    client.expect([11]).await;
    client.ack(11).await;
    // Acknowledgements are soon stored, even while the client stays connected.
    until(|| stored_cursor(&gateway, "indexer") == 11).await;
    assert!(is_connected(&gateway, "indexer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consumer_starts_now_and_is_stored() {
    let gateway = start(Output::default()).await;
    gateway.append_numbered(5).await;
    let client = Client::connect(&gateway, "?consumer=late").await;
    assert_eq!(stored_cursor(&gateway, "late"), 5, "stored before the client is let in");
    client.leave(&gateway, "late").await;
    gateway.append_numbered(5).await;
    // The stored cursor applies, not the one in the URL.
    for query in ["?consumer=late", "?consumer=late&cursor=0", "?consumer=late&cursor=1000"] {
        let mut client = Client::connect(&gateway, query).await;
        client.expect(6..=10).await;
        client.leave(&gateway, "late").await;
    }
}

#[test]
fn a_cursor_lasts_over_a_restart() {
    let folder = TempDir::new().unwrap();
    in_a_process(folder.path(), async |gateway| {
        gateway.append_numbered(20).await;
        let mut client = Client::connect(&gateway, "?consumer=indexer&cursor=0").await;
        client.expect(1..=20).await;
        client.ack(12).await;
        client.is_read().await;
        // When the gateway stops, it stores acknowledgements before it closes the client.
        let (end, left) = tokio::join!(client.end(), gateway.drain_clients(LONG));
        assert_eq!((end.as_str(), left), ("1001 the gateway is stopping", 0));
        assert_eq!(stored_cursor(&gateway, "indexer"), 12);
    });
    in_a_process(folder.path(), async |gateway| {
        assert_eq!(gateway.metrics.websocket.consumers.get(), 1);
        let mut client = Client::connect(&gateway, "?consumer=indexer&cursor=0").await;
        client.expect(13..=20).await;
        client.ack(20).await;
        until(|| stored_cursor(&gateway, "indexer") == 20).await;
        assert_eq!(stored(&gateway, "indexer").unwrap().unused_since_ms, 0);
        // Simulates a crash while a client is connected.
    });
    in_a_process(folder.path(), async |gateway| {
        let row = stored(&gateway, "indexer").unwrap();
        assert_eq!(row.cursor.get(), 20);
        assert!(row.unused_since_ms.abs_diff(unix_ms()) < 60_000, "nobody is connected since the start");
        gateway.append_numbered(1).await;
        Client::connect(&gateway, "?consumer=indexer&cursor=0").await.expect([21]).await;
    });
}

/// Random acknowledgements and disconnects while events arrive: the stored cursor never exceeds the
/// last acknowledgement, and all events after the cursor are delivered again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_the_cursor_of_a_consumer_is_never_ahead_of_its_acks() {
    let gateway = start(Output::default()).await;
    let mut random = StdRng::seed_from_u64(4);
    let mut acked = 0;
    for _ in 0..30 {
        gateway.append_numbered(20).await;
        let head = gateway.log.head().get();
        let mut client = Client::connect(&gateway, "?consumer=a&cursor=0").await;
        let last = random.random_range(acked + 1..=head);
        for seq in acked + 1..=last {
            assert_eq!(client.next().await, Ok(seq), "after {acked}");
            assert!(stored_cursor(&gateway, "a") <= acked, "it is ahead of {acked}");
            if random.random_bool(0.1) {
                acked = seq;
                client.ack(seq).await;
            }
        }
        until(|| stored_cursor(&gateway, "a") == acked).await;
        // Even long after delivery, events do not count as acknowledged.
        client.is_read().await;
        sleep(Duration::from_millis(150)).await;
        assert_eq!(stored_cursor(&gateway, "a"), acked);
        if random.random_bool(0.5) {
            drop(client);
        } else {
            client.leave(&gateway, "a").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_acknowledgement_closes_and_moves_nothing() {
    let gateway = start(Output::default()).await;
    gateway.append_numbered(10).await;
    let not_an_ack = "bad ack: it is not {\"ack\":N}";
    let wrong = [
        (Message::text("hello"), not_an_ack),
        (Message::text(""), not_an_ack),
        (Message::text("[7]"), not_an_ack),
        (Message::text("{\"ack\":\"7\"}"), not_an_ack),
        (Message::text("{\"ack\":7,\"x\":1}"), not_an_ack),
        (Message::binary(&b"{\"ack\":7}"[..]), "bad ack: it is binary; send {\"ack\":N} as text"),
        (Message::text("{\"ack\":4}"), "bad ack: 4 is below your cursor, which is 5"),
        (Message::text("{\"ack\":0}"), "bad ack: 0 is below your cursor, which is 5"),
        (Message::text("{\"ack\":11}"), "bad ack: 11 was not sent to you on this connection; the last is 10"),
        (
            Message::text("{\"ack\":18446744073709551615}"),
            "bad ack: 18446744073709551615 was not sent to you on this connection; the last is 10",
        ),
    ];
    let count = wrong.len() as u64;
    for (message, told) in wrong {
        let mut client = Client::connect(&gateway, "?consumer=a&cursor=0").await;
        if shown(&gateway, "a").unwrap().cursor == Cursor::START {
            client.expect(1..=5).await;
            client.ack(5).await;
        }
        client.expect(6..=10).await;
        client.say(message).await;
        assert_eq!(client.end().await, format!("1008 {told}"));
        assert_eq!(stored_cursor(&gateway, "a"), 5, "{told}");
    }
    assert_eq!(closed(&gateway, "bad_ack"), count);
}

/// Acknowledging an event that was sent on an earlier connection is an error of the client.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_on_this_connection_cannot_be_acknowledged() {
    let gateway = start(Output::default()).await;
    gateway.append_numbered(10).await;
    let mut client = Client::connect(&gateway, "?consumer=a&cursor=0&kinds=1").await;
    client.expect(1..=10).await;
    client.leave(&gateway, "a").await;
    let mut client = Client::connect(&gateway, "?consumer=a&kinds=7").await;
    client.ack(0).await;
    client.ack(1).await;
    let told = "1008 bad ack: 1 was not sent to you on this connection; the last is 0";
    assert_eq!(client.end().await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_other_clients_are_ignored() {
    let gateway = start(Output::default()).await;
    let mut client = Client::connect(&gateway, "?cursor=0").await;
    client.say(Message::text("{\"ack\":18446744073709551615}")).await;
    client.say(Message::binary(&b"\0"[..])).await;
    client.is_read().await;
    gateway.append_numbered(1).await;
    client.expect([1]).await;
    assert!(gateway.consumers.list().is_empty());
}

/// Only acknowledgements move the cursor, so events that the selection skips are not lost.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_selection_the_acknowledgement_is_what_counts() {
    let gateway = start(Output::default()).await;
    let kinds = [1, 7, 1, 7, 1, 1, 1, 1];
    let event = |(at, kind): (usize, &u16)| gateway.signer.sign(at as u64, *kind, &[] as &[[&str; 0]], "");
    gateway.append(kinds.iter().enumerate().map(event).collect()).await;
    let mut client = Client::connect(&gateway, "?consumer=a&cursor=0&kinds=7").await;
    client.expect([2, 4]).await;
    client.ack(2).await;
    client.leave(&gateway, "a").await;
    assert_eq!(stored_cursor(&gateway, "a"), 2);
    // The next connection may select other events, and gets those after the cursor.
    let mut client = Client::connect(&gateway, "?consumer=a&filter=%7B%22kinds%22:[1]%7D").await;
    client.expect([3, 5, 6, 7, 8]).await;
    // A sequence between two delivered events may be acknowledged.
    client.ack(4).await;
    client.leave(&gateway, "a").await;
    let mut client = Client::connect(&gateway, "?consumer=a&kinds=7").await;
    client.is_read().await;
    client.leave(&gateway, "a").await;
    assert_eq!(stored_cursor(&gateway, "a"), 4, "skipped events are not acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_bare_events_if_it_insists() {
    let gateway = start(Output::default()).await;
    gateway.append_numbered(1).await;
    let mut client = gateway.connect("?consumer=a&cursor=0&format=event").await;
    assert_eq!(client.next().await.unwrap().seq, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_connection_wins_though_the_earlier_one_is_being_sent_something() {
    const EVENTS: u64 = 300;
    let gateway = start(Output::default()).await;
    let content = "x".repeat(64 << 10); // 20 MiB in total, more than the sockets buffer.
    for n in 1..=EVENTS / 10 {
        let large = (0..10).map(|m| gateway.signer.sign(10 * n + m, 1, &[] as &[[&str; 0]], &content));
        gateway.append(large.collect()).await;
    }
    let mut earlier = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    earlier.expect(1..=20).await;
    // The client stops reading. The gateway waits for the socket, but still reads the client's
    // messages.
    sleep(Duration::from_millis(300)).await;
    earlier.ack(17).await;
    until(|| stored_cursor(&gateway, "a") == 17).await;
    earlier.ack(19).await;
    until(|| shown(&gateway, "a").unwrap().cursor.get() == 19).await;
    let mut later = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    later.expect(20..=40).await;
    // Messages on the earlier connection no longer have an effect. The close frame states the
    // reason.
    drop(earlier.0.send(Message::text("{\"ack\":25}")).await);
    assert_eq!(earlier.end().await, "1008 another connection took over this consumer");
    assert_eq!(shown(&gateway, "a").unwrap().cursor.get(), 19);
    later.ack(40).await;
    until(|| stored_cursor(&gateway, "a") == 40).await;
    assert_eq!(closed(&gateway, "replaced"), 1);
}

/// Many acknowledgements, each immediately followed by a takeover: no acknowledgement is lost or
/// undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_acknowledgement_that_is_not_written_yet_survives_a_takeover() {
    const ROUNDS: u64 = 200;
    let gateway = start(Output::default()).await;
    gateway.append_numbered(ROUNDS).await;
    let mut client = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    for seq in 1..=ROUNDS {
        assert_eq!(client.next().await, Ok(seq));
        client.ack(seq).await;
        until(|| shown(&gateway, "a").unwrap().cursor.get() == seq).await;
        let mut later = Client::connect(&gateway, "?consumer=a").await;
        assert_eq!(stored_cursor(&gateway, "a"), seq, "stored before the later one is let in");
        std::mem::swap(&mut client, &mut later);
        if seq % 10 == 0 {
            assert_eq!(later.end().await, "1008 another connection took over this consumer");
        }
    }
}

/// Of many concurrent connections, one keeps the name. The others are closed or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_connections_one_keeps_the_name() {
    let gateway = std::sync::Arc::new(start(Output::default()).await);
    gateway.append_numbered(1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let gateway = std::sync::Arc::clone(&gateway);
        tasks.spawn(async move {
            let url = format!("ws://{}/ws?consumer=a&cursor=0", gateway.address);
            let connected = ClientBuilder::new().uri(&url).unwrap().connect().await;
            connected.ok().map(|(socket, _)| Client(socket))
        });
    }
    let mut connected: Vec<Client> = Vec::new();
    while let Some(client) = tasks.join_next().await {
        connected.extend(client.unwrap());
    }
    let closed_or_refused = || {
        closed(&gateway, "replaced") + gateway.metrics.websocket.refused[ClientRefusal::ConsumerBusy].get()
    };
    until(|| closed_or_refused() == 39).await;
    assert!(is_connected(&gateway, "a"));
    until(|| gateway.clients.connected() == 1).await;
}

/// A client's messages do not prove that it keeps up with delivery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_acknowledges_but_reads_nothing_is_too_slow() {
    let output = Output { slow_client: Duration::from_secs(1), slow_client_lag: 10, ..Output::default() };
    let gateway = start(output).await;
    let content = "x".repeat(64 << 10);
    for n in 1..=30 {
        let large = (0..10).map(|m| gateway.signer.sign(10 * n + m, 1, &[] as &[[&str; 0]], &content));
        gateway.append(large.collect()).await;
    }
    let mut client = Client::connect(&gateway, "?consumer=a&cursor=0").await;
    client.expect([1]).await;
    let talking = async {
        while closed(&gateway, "slow") == 0 {
            drop(client.0.send(Message::text("{\"ack\":1}")).await);
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, talking).await.expect("it is closed");
    assert_eq!(client.end().await, "1008 slow: resume with consumer=a");
    assert_eq!(stored_cursor(&gateway, "a"), 1);
}
