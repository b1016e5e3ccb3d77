//! Events given to running relays: many at once, or from clients.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::collections::HashSet;

use relay_sim::{Fault, Sim, Who};
use support::{Client, Seen, id};
use wire::{EventId, Filter, Signer, VerifiedEvent};

const BASE: u64 = 1_700_000_000;

fn ids(events: &[VerifiedEvent]) -> HashSet<EventId> {
    events.iter().map(|event| event.id()).collect()
}

#[tokio::test]
async fn many_events_are_shared_by_the_relays_that_are_named() {
    let sim = Sim::builder().seed(7).scripted(4).start().await.expect("started");
    let dates: Vec<u64> = (0..1_000).map(|number| BASE + number / 10).collect();
    let events = sim.publish_many(&[1, 2, 3], 2, &dates);
    assert!(events.iter().map(|event| event.created_at()).eq(dates.iter().copied()));
    assert_eq!((ids(&events).len(), sim.ids()), (1_000, ids(&events)));
    let authors: HashSet<_> = events.iter().map(|event| *event.pubkey()).collect();
    assert!(authors.len() > 50, "{}", authors.len());
    let held: Vec<_> = (0..4).map(|relay| sim.holds(relay, &Filter::new())).collect();
    assert_eq!((held[0].len(), held[1].len() + held[2].len() + held[3].len()), (0, 2_000));
    assert!(held[1..].iter().all(|held| (550..800).contains(&held.len())));
    let all: HashSet<_> = held.iter().flat_map(|held| ids(held)).collect();
    assert_eq!(all, ids(&events));
    assert!(held[1].is_sorted_by_key(|event| std::cmp::Reverse(event.created_at())));
    let stored = Client::connect(&sim.url(1)).await.ask("{}").await.expect("an answer");
    assert!(stored.iter().map(|event| id(event)).eq(held[1].iter().map(|event| event.id().to_string())));
    // A second call creates new events; a sim with the same seed, the same ones.
    assert!(ids(&sim.publish_many(&[0], 1, &dates)).is_disjoint(&ids(&events)));
    let again = Sim::builder().seed(7).scripted(4).start().await.expect("started");
    assert_eq!(again.publish_many(&[1, 2, 3], 2, &dates), events);
}

#[tokio::test]
async fn subscriptions_get_them_live_beside_what_is_planned() {
    let sim = Sim::builder().seed(7).relays(1).events(10).copies(1).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert_eq!(client.take(11).await.len(), 11);
    // More events than a buffer holds, so the connection sends them in several rounds.
    let published = sim.publish_many(&[0], 1, &[BASE; 1_000]);
    let mut seen = HashSet::new();
    for message in client.take(1_000).await {
        let Seen::Event(event) = message else { panic!("{message:?}") };
        seen.insert(id(&event));
    }
    assert_eq!(seen, published.iter().map(|event| event.id().to_string()).collect());
    assert_eq!((sim.events().len(), sim.stats().unsent), (1_010, 0));
}

/// Publishes an event. Returns the id, whether the relay accepted the event, and the reason.
async fn publish(client: &mut Client, event: &str) -> (String, bool, String) {
    client.say(&format!("[\"EVENT\",{event}]")).await;
    loop {
        match client.next().await {
            Seen::Text(text) if text.starts_with("[\"OK\"") => {
                let (_, id, accepted, reason): (String, String, bool, String) =
                    serde_json::from_str(&text).expect("an OK");
                return (id, accepted, reason);
            }
            // A challenge may precede the answer.
            Seen::Text(text) if text.starts_with("[\"AUTH\"") => {}
            other => panic!("{other:?}"),
        }
    }
}

fn text(event: &VerifiedEvent) -> &str {
    std::str::from_utf8(event.json()).expect("text")
}

#[tokio::test]
async fn clients_publish_events() {
    let sim = Sim::builder().seed(7).scripted(2).start().await.expect("started");
    let event = Signer::from_seed(1).sign(BASE, 30_931, &[["d", "1"]], "long");
    let mut reader = Client::subscribe(&sim.url(0)).await;
    assert_eq!(reader.next().await, Seen::Eose);
    let mut client = Client::connect(&sim.url(0)).await;
    let id = event.id().to_string();
    assert_eq!(publish(&mut client, text(&event)).await, (id.clone(), true, String::new()));
    assert_eq!(reader.next().await, Seen::Event(text(&event).to_owned()), "live");
    let again = publish(&mut client, text(&event)).await;
    assert_eq!(again, (id.clone(), true, "duplicate: this event is held".to_owned()));
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(1), "stored, once");
    let altered = text(&event).replace("long", "sell");
    let (told, accepted, reason) = publish(&mut client, &altered).await;
    assert!(told == id && !accepted && reason.starts_with("invalid: "), "{reason}");
    assert!(!publish(&mut client, "{}").await.1);
    let elsewhere = Client::connect(&sim.url(1)).await.ask("{}").await;
    assert_eq!(elsewhere, Ok(Vec::new()), "of one relay");
}

#[tokio::test]
async fn a_relay_that_replaces_keeps_the_newest_of_an_address() {
    let sim = Sim::builder().seed(7).scripted(1).replacing(Who::All).start().await.expect("started");
    let (bot, other) = (Signer::from_seed(1), Signer::from_seed(2));
    let signed = |key: &Signer, date, kind, name: &str| key.sign(BASE + date, kind, &[["d", name]], "");
    let mut client = Client::connect(&sim.url(0)).await;
    let kept = [
        signed(&bot, 3, 30_931, "a"),
        signed(&bot, 1, 30_931, "b"),
        signed(&bot, 1, 30_932, "a"),
        signed(&other, 1, 30_931, "a"),
        signed(&bot, 2, 1, "a"),
        signed(&bot, 1, 1, "a"),
        signed(&bot, 2, 0, ""),
    ];
    let replaced = [signed(&bot, 2, 30_931, "a"), signed(&bot, 1, 0, "x")];
    for event in replaced.iter().chain(&kept) {
        assert!(publish(&mut client, text(event)).await.1);
    }
    let outdated = publish(&mut client, text(&signed(&bot, 1, 30_931, "a"))).await;
    assert_eq!((outdated.1, &*outdated.2), (false, "replaced: a newer event is held"));
    let held: HashSet<_> = client.ask("{}").await.expect("an answer").iter().map(|event| id(event)).collect();
    assert_eq!(held, kept.iter().map(|event| event.id().to_string()).collect());
}

#[tokio::test]
async fn a_relay_that_wants_a_key_takes_no_events_without() {
    let builder = Sim::builder().seed(7).scripted(1).fault(Fault::AuthRequired, Who::All, 1.0);
    let sim = builder.start().await.expect("started");
    let mut client = Client::connect(&sim.url(0)).await;
    let (_, accepted, reason) =
        publish(&mut client, text(&Signer::from_seed(1).sign(BASE, 1, &[["d", "1"]], ""))).await;
    assert!(!accepted && reason.starts_with("auth-required: "), "{reason}");
}
