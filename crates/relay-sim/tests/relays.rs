//! Well-behaved relays: REQ, EOSE, limits, live events, and storing events while nobody is
//! connected.

mod support;

use std::collections::HashSet;

use relay_sim::wait::within;
use relay_sim::{Behaviour, Count, Sim};
use support::{Client, Seen, created_at, id};
use wire::Signer;

const BASE: u64 = 1_700_000_000;

#[tokio::test]
async fn stored_events_come_newest_first_then_eose_then_live_ones() {
    let sim = Sim::builder().seed(7).relays(1).events(100).copies(1).stored(0.6).hold().base(BASE);
    let sim = sim.start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    let stored = client.stored().await;
    assert_eq!(stored.len(), 60);
    assert!(stored.is_sorted_by_key(|event| std::cmp::Reverse(created_at(event))));
    assert!(client.is_silent().await);
    sim.go();
    let live = client.take(40).await;
    assert!(live.iter().all(|seen| matches!(seen, Seen::Event(event) if created_at(event) >= BASE)));
    within("all is sent", sim.wait_sent()).await;
    let stats = sim.stop().await;
    assert_eq!((stats.get(Count::Genuine), stats.get(Count::First), stats.get(Count::Eose)), (100, 100, 1));
    assert_eq!(client.next().await, Seen::Closed(Some(1001)));
}

#[tokio::test]
async fn a_seed_gives_the_same_events_and_copies() {
    let sim = async |seed| {
        let sim = Sim::builder().seed(seed).relays(5).events(200).copies(3).stored(1.0).base(BASE).forge(0.3);
        let sim = sim.start().await.expect("started");
        let mut texts = Vec::new();
        for url in sim.urls() {
            texts.push(Client::subscribe(&url).await.stored().await);
        }
        (sim.stop().await.get(Count::Genuine), texts)
    };
    let (first, again, other) = (sim(7).await, sim(7).await, sim(8).await);
    assert_eq!(first, again);
    assert_ne!(first.1, other.1);
    assert_eq!(first.0, 600);
}

#[tokio::test]
async fn filters_limits_and_the_cap_hold() {
    let sim = Sim::builder().seed(7).relays(1).events(300).copies(1).stored(1.0).cap(50).base(BASE);
    let sim = sim.start().await.expect("started");
    let events = sim.events();
    let author = events[0].pubkey();
    let mut client = Client::connect(&sim.url(0)).await;
    let mut newest: Vec<u64> = events.iter().map(|event| event.created_at()).collect();
    newest.sort_unstable();
    newest.reverse();
    let sevens = events.iter().filter(|event| event.kind() == 7).count();
    let own = events.iter().filter(|event| event.pubkey() == author).count();
    for (filters, expected) in [
        ("{}".to_owned(), 50),
        (r#"{"limit":7}"#.to_owned(), 7),
        (r#"{"limit":0}"#.to_owned(), 0),
        (r#"{"kinds":[7]}"#.to_owned(), sevens.min(50)),
        (format!(r#"{{"authors":["{author}"]}}"#), own.min(50)),
        (format!(r#"{{"ids":["{}"]}}"#, events[9].id()), 1),
        (format!(r#"{{"since":{}}}"#, newest[9]), 10),
        (format!(r#"{{"since":{},"until":{}}}"#, newest[20], newest[15]), 6),
        (r#"{"kinds":[9999]},{"limit":3}"#.to_owned(), 3),
        (r##"{"#d":["signal-0","none"]}"##.to_owned(), (events[0].kind() > 30_000).into()),
    ] {
        client.say(&format!(r#"["REQ","s",{filters}]"#)).await;
        assert_eq!(client.stored().await.len(), expected, "{filters}");
    }
    assert!(sim.requests(0)[1].contains(r#""limit":7"#));
}

#[tokio::test]
async fn subscriptions_are_separate_and_close_is_honoured() {
    let sim = Sim::builder().scripted(1).start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    client.say(r#"["REQ","ones",{"kinds":[1]}]"#).await;
    client.say(r#"["REQ","s",{"kinds":[7]}]"#).await;
    assert_eq!(client.take(2).await, [Seen::Eose, Seen::Eose]);
    let event = |kind| Signer::from_seed(1).sign(BASE, kind, &[] as &[Vec<String>], "").json().clone();
    sim.publish([0], event(1));
    sim.publish([0], event(7));
    assert!(matches!(client.next().await, Seen::Text(text) if text.starts_with(r#"["EVENT","ones""#)));
    assert!(matches!(client.next().await, Seen::Event(_)));
    client.say(r#"["CLOSE","ones"]"#).await;
    client.say(r#"["REQ","t",{"limit":0}]"#).await;
    assert_eq!(client.next().await, Seen::Eose);
    sim.publish([0], event(1).slice(..).to_vec().into_iter().chain(*b" ").collect::<Vec<u8>>());
    assert!(matches!(client.next().await, Seen::Text(text) if text.starts_with(r#"["EVENT","t""#)));
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn what_comes_while_nobody_is_there_is_stored() {
    let sim = Sim::builder().seed(7).relays(1).events(2_000).copies(1).start().await.expect("started");
    let mut ids = HashSet::new();
    let mut client = Client::subscribe(&sim.url(0)).await;
    for _ in 0..100 {
        if let Seen::Event(event) = client.next().await {
            ids.insert(id(&event));
        }
    }
    sim.drop_connections(0);
    assert!(matches!(client.rest().await.pop(), Some(Seen::Gone(_))));
    let event = Signer::from_seed(1).sign(BASE, 1, &[] as &[Vec<String>], "");
    sim.publish([0], event.json().clone());
    let mut client = Client::subscribe(&sim.url(0)).await;
    while ids.len() < 2_001 {
        if let Seen::Event(event) = client.next().await {
            ids.insert(id(&event));
        }
    }
    let expected: HashSet<_> = sim.ids().iter().map(ToString::to_string).collect();
    assert_eq!(ids, expected);
    assert_eq!((sim.stats().get(Count::Drops), sim.stats().unsent), (1, 0));
}

#[tokio::test]
async fn live_events_keep_their_pace_and_tell_their_time() {
    let sim = Sim::builder().seed(7).relays(4).events(50).copies(2).per_second(500.0).spread_ms(20).stamp();
    let sim = sim.start().await.expect("started");
    assert!(sim.events().is_empty(), "events are made when they are sent");
    let mut clients = Vec::new();
    for url in sim.urls() {
        clients.push(Client::subscribe(&url).await);
    }
    within("all is sent", sim.wait_sent()).await;
    let events = sim.events();
    assert_eq!(events.len(), 50);
    for event in &events {
        let tags = event.tags();
        let stamp: u64 = tags.last().expect("a tag")[1].parse().expect("a time");
        assert!(sim.first_sent_us(&event.id().into()).expect("sent").abs_diff(stamp) < 1_000_000);
    }
    assert_eq!(sim.stats().get(Count::Genuine), 100);
}

#[tokio::test]
async fn a_test_steers_a_relay() {
    let sim = Sim::builder().scripted(2).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(1)).await;
    assert_eq!(client.next().await, Seen::Eose);
    sim.send_text(1, r#"["NOTICE","hello"]"#);
    assert_eq!(client.next().await, Seen::Text(r#"["NOTICE","hello"]"#.to_owned()));
    sim.behave(1, Behaviour::Stalled);
    sim.send_text(1, "late");
    assert!(client.is_silent().await);
    sim.behave(1, Behaviour::Normal);
    assert_eq!(client.next().await, Seen::Text("late".to_owned()));
    sim.behave(1, Behaviour::Refusing);
    assert!(Client::try_connect(&sim.url(1)).await.is_err());
    assert!(Client::try_connect(&sim.url(2)).await.is_err(), "there is no such relay");
    assert!(Client::try_connect(&sim.url(0)).await.is_ok());
    sim.send_bytes(1, &b"\x81\x7e\xff"[..]);
    sim.drop_connections(1);
    assert!(matches!(client.next().await, Seen::Gone(_)));
}

#[tokio::test]
async fn wrong_values_are_refused_with_a_reason() {
    for (builder, reason) in [
        (Sim::builder(), "at least one relay"),
        (Sim::builder().relays(1).forge(1.5), "forged share"),
        (Sim::builder().relays(1).stored(-0.1), "stored share"),
        (Sim::builder().relays(1).per_second(0.0), "rate"),
        (Sim::builder().relays(1).per_second(9.0).rounds(2), "rounds"),
        (Sim::builder().relays(1).file("/nonexistent.jsonl"), "/nonexistent.jsonl"),
    ] {
        let error = builder.start().await.expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn rounds_repeat_the_live_events() {
    let sim = Sim::builder().seed(7).relays(2).events(30).copies(2).stored(0.5).rounds(3).base(BASE);
    let sim = sim.start().await.expect("started");
    let mut ids = HashSet::new();
    for url in sim.urls() {
        let mut client = Client::subscribe(&url).await;
        assert_eq!(client.stored().await.len(), 15);
        let live = client.take(45).await;
        assert!(client.is_silent().await);
        ids.extend(
            live.iter().map(|seen| if let Seen::Event(event) = seen { id(event) } else { String::new() }),
        );
    }
    within("all is sent", sim.wait_sent()).await;
    assert_eq!((ids.len(), sim.stats().get(Count::Genuine), sim.stats().get(Count::First)), (15, 120, 30));
}
