//! Invariant 9, over real sockets and with all shards: live and stored events of one author and
//! second keep their order.

use std::collections::HashMap;

use moltrade_relayer::config::Config;
use relay_sim::{Cap, Negentropy, Sim, SimBuilder, Who};
use wire::{EventId, PublicKey, Signer, VerifiedEvent};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, now};

const RELAYS: usize = 3;
const AUTHORS: u64 = 4;
const EVENTS_OF_A_SECOND: usize = 8;
const SECONDS: u64 = 6;
/// A cap that cuts answers in the middle of a second.
const CAP: usize = 75;

/// Events of several seconds in the order of publication. Within a second the ids descend. Relays
/// sort equal dates by ascending id, so their answers reverse the order of publication.
fn published(first: u64) -> Vec<VerifiedEvent> {
    let mut events = Vec::new();
    for second in first..first + SECONDS {
        let mut of_the_second: Vec<VerifiedEvent> = (1..=AUTHORS)
            .flat_map(|author| (0..EVENTS_OF_A_SECOND).map(move |number| (author, number)))
            .map(|(author, number)| {
                Signer::from_seed(author).sign(second, 1, &[] as &[Vec<String>], &format!("{number}"))
            })
            .collect();
        of_the_second.sort_by_key(|event| std::cmp::Reverse(event.id()));
        events.append(&mut of_the_second);
    }
    events
}

/// The events, grouped by author and second, in order.
fn by_author_and_second(events: &[VerifiedEvent]) -> HashMap<(PublicKey, u64), Vec<EventId>> {
    let mut sorted: HashMap<_, Vec<EventId>> = HashMap::new();
    for event in events {
        sorted.entry((*event.pubkey(), event.created_at())).or_default().push(event.id());
    }
    sorted
}

fn relays() -> SimBuilder {
    Sim::builder().seed(9).relays(RELAYS).events(0).caps(Who::All, Cap::clamping(CAP))
}

fn publish(sim: &Sim, events: &[VerifiedEvent]) {
    for event in events {
        sim.publish(0..RELAYS, event.json().clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_events_of_one_second_keep_their_order_live_and_after_an_outage() {
    keep_their_order(relays(), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_events_of_one_second_keep_their_order_by_nip_77() {
    keep_their_order(relays().negentropy(Who::All, Negentropy::served()), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_events_of_one_second_keep_their_order_in_batches_of_three() {
    keep_their_order(relays(), |config| config.output.batch_size = 3.try_into().expect("not 0")).await;
}

async fn keep_their_order(sim: SimBuilder, change: impl FnOnce(&mut Config)) {
    let sim = sim.start().await.expect("starts");
    let now = now();
    let mut gateway = Gateway::configured(&sim, |config| {
        an_hour_back(config);
        change(config);
    })
    .await;
    gateway
        .until("all are live", |gateway| {
            (0..RELAYS).all(|relay| gateway.peer(relay).state().label() == "live")
        })
        .await;
    let live = published(now);
    publish(&sim, &live);
    gateway.until_logged(live.iter().map(VerifiedEvent::id)).await;
    let missed = published(now - 60);
    gateway.restart(|_| publish(&sim, &missed)).await;
    gateway.until_logged(missed.iter().map(VerifiedEvent::id)).await;
    let logged = by_author_and_second(&gateway.logged());
    let all = [live, missed].concat();
    for (of, published) in by_author_and_second(&all) {
        assert_eq!(logged[&of], published, "{of:?}");
    }
}
