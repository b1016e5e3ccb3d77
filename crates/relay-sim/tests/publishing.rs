//! Many events that relays get at once while they run.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::collections::HashSet;

use relay_sim::Sim;
use support::{Client, Seen, id};
use wire::{EventId, Filter, VerifiedEvent};

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
    // Another call makes other events, and a seed makes the same ones again.
    assert!(ids(&sim.publish_many(&[0], 1, &dates)).is_disjoint(&ids(&events)));
    let again = Sim::builder().seed(7).scripted(4).start().await.expect("started");
    assert_eq!(again.publish_many(&[1, 2, 3], 2, &dates), events);
}

#[tokio::test]
async fn subscriptions_get_them_live_beside_what_is_planned() {
    let sim = Sim::builder().seed(7).relays(1).events(10).copies(1).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert_eq!(client.take(11).await.len(), 11);
    // More than a buffer, so that the connection takes them in several rounds.
    let published = sim.publish_many(&[0], 1, &[BASE; 1_000]);
    let mut seen = HashSet::new();
    for message in client.take(1_000).await {
        let Seen::Event(event) = message else { panic!("{message:?}") };
        seen.insert(id(&event));
    }
    assert_eq!(seen, published.iter().map(|event| event.id().to_string()).collect());
    assert_eq!((sim.events().len(), sim.stats().unsent), (1_010, 0));
}
