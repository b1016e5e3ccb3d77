//! Relays that cap their answers in different ways: every event arrives, with only a few more
//! requests than necessary.

use relay_sim::{Cap, Count, Information, Order, Sim, Who};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, now, past_requests, until_complete};

/// A relay's behaviour. The maximum number of requests is a multiple of the minimum for the relay's
/// cap.
struct Behaviour {
    name: &'static str,
    cap: Cap,
    information: Information,
    requests_max: f64,
}

/// If the newest events come first, a truncated answer proves its span. Each request repeats one
/// second, and an unknown cap costs one request.
const ABOUT_AS_MANY: f64 = 1.5;
/// If a truncated answer proves nothing, the gateway halves windows until their events fit. Each
/// final window then costs two requests and is three quarters full on average. Refused windows are
/// requested twice.
const HALVES: f64 = 5.0;

const EVENTS_EACH: usize = 1_000;
const CAP: usize = 50;

fn behaviours() -> Vec<Behaviour> {
    let behaviour = |name, cap, information, requests_max| Behaviour { name, cap, information, requests_max };
    let unstated = Information::without_limits;
    vec![
        behaviour("clamps and says so", Cap::clamping(CAP), Information::True, ABOUT_AS_MANY),
        behaviour("clamps and does not say so", Cap::clamping(CAP), unstated(), ABOUT_AS_MANY),
        behaviour("clamps and has no NIP-11", Cap::clamping(CAP), Information::NotFound, ABOUT_AS_MANY),
        behaviour("clamps at an odd number in secret", Cap::clamping(CAP + 3), unstated(), ABOUT_AS_MANY),
        behaviour("says more than is true", Cap::clamping(CAP), Information::claiming_max_limit(5_000), 2.0),
        behaviour("says less than is true", Cap::clamping(CAP), Information::claiming_max_limit(45), 2.0),
        behaviour("refuses larger limits and says so", Cap::refusing(CAP), Information::True, ABOUT_AS_MANY),
        // The last limit is 31, the first value below 50 if 500 is halved repeatedly.
        behaviour("refuses larger limits in secret", Cap::refusing(CAP), unstated(), 2.5),
        behaviour("oldest first", Cap::clamping(CAP).order(Order::OldestFirst), Information::True, HALVES),
        behaviour("no order", Cap::clamping(CAP).order(Order::Unordered), unstated(), HALVES),
        behaviour("refuses what is too much", Cap::too_many(CAP), Information::True, HALVES),
        behaviour("refuses it in secret", Cap::too_many(CAP), unstated(), HALVES),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_whatever_its_cap_everything_of_a_relay_arrives_and_is_proven() {
    let behaviours = behaviours();
    let mut sim = Sim::builder().seed(61).relays(behaviours.len()).events(behaviours.len() * EVENTS_EACH);
    sim = sim.copies(1).stored(1.0);
    for (relay, behaviour) in behaviours.iter().enumerate() {
        sim = sim.caps(Who::These(vec![relay]), behaviour.cap);
        sim = sim.information(Who::These(vec![relay]), behaviour.information.clone());
    }
    let sim = sim.start().await.expect("starts");
    let started = now();
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    gateway.until_logged(sim.ids()).await;
    let all: Vec<usize> = (0..behaviours.len()).collect();
    until_complete(&gateway, &all, started).await;
    gateway.assert_holds_exactly(&sim.events());
    for (relay, behaviour) in behaviours.iter().enumerate() {
        let least = sim.events_on(&[relay]).len().div_ceil(CAP) as f64;
        let requests = past_requests(&sim, relay) as f64;
        println!("{}: {requests} requests, at least {least}", behaviour.name);
        assert!(requests <= least * behaviour.requests_max, "{}: {requests} of {least}", behaviour.name);
    }
    assert_eq!(sim.stats().get(Count::Upgrades), all.len() as u64, "each on one connection");
}

/// A relay that refuses large requests gets smaller requests as long as those return events.
#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_relay_refuses_what_is_too_much_it_is_asked_in_pieces() {
    let sim = Sim::builder().seed(62).relays(1).events(1_300).copies(1).stored(1.0);
    let sim = sim.caps(Who::All, Cap::too_many(25)).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], 0).await;
    assert!(sim.stats().get(Count::RequestsRefused) > 64, "it never refused often, so nothing was shown");
}

/// A cap below 20 events looks like a small answer, unless the relay states that it has more
/// (NIP-67).
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_relay_that_says_that_there_is_more_is_asked_for_it() {
    let sim = Sim::builder()
        .seed(67)
        .relays(1)
        .events(60)
        .stored(1.0)
        .caps(Who::All, Cap::clamping(15).says_more());
    let sim = sim.information(Who::All, Information::without_limits()).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], 0).await;
    gateway.assert_holds_exactly(&sim.events());
}
