//! Relays that send forgeries and garbage: no forgery passes, no event is lost, and every refusal
//! is counted.

use moltrade_relayer::ingest::DropReason;
use relay_sim::wait::within;
use relay_sim::{Count, Fault, Garbage, Sim, Who};

use crate::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_forged_copies_on_all_connections_never_suppress() {
    let sim = Sim::builder().seed(4).relays(20).events(2_000).copies(5).base(1_700_000_000);
    let sim = sim.forge(0.3).forgers(Who::Share(0.5)).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    within("all is sent", sim.wait_sent()).await;
    gateway.until("all frames are handled", |gateway| frames(gateway) >= sent(&sim)).await;
    gateway.assert_holds_exactly(&sim.events());

    let stats = sim.stats();
    assert!(stats.get(Count::Forged) > 500, "the simulator forges");
    // A forged copy that follows the genuine event is dropped as a duplicate without a check, so
    // not every forger is blamed. But no relay is blamed for another relay's forgery.
    for relay in 0..20 {
        let (forged, blamed) = (stats.of(relay, Count::Forged), gateway.peer(relay).stats.forgeries());
        assert!(blamed <= forged, "relay {relay} is blamed for {blamed} of {forged}");
    }
    let blamed: u64 = (0..20).map(|relay| gateway.peer(relay).stats.forgeries()).sum();
    assert!(blamed > 0);
    let refused = gateway.refused(DropReason::IdMismatch) + gateway.refused(DropReason::BadSignature);
    assert_eq!(refused, blamed);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_7_garbage_is_counted_by_its_reason_and_blamed() {
    for (garbage, reason) in [
        (Garbage::InvalidJson, DropReason::MalformedFrame),
        (Garbage::InvalidUtf8, DropReason::WebSocketProtocol),
        (Garbage::Binary, DropReason::BinaryFrame),
        (Garbage::HugeString, DropReason::FrameTooLarge),
        (Garbage::DeepNesting, DropReason::MalformedFrame),
        (Garbage::WrongSubscription, DropReason::WrongSubscription),
        (Garbage::UnknownType, DropReason::UnknownMessage),
    ] {
        let sim = Sim::builder().seed(5).relays(3).events(60).copies(3).base(1_700_000_000);
        let sim = sim.fault(Fault::Garbage(garbage), Who::These(vec![1]), 0.1).start().await.expect("starts");
        let gateway = Gateway::on(&sim).await;
        gateway.until_logged(sim.ids()).await;
        gateway.assert_holds_exactly(&sim.events());
        gateway.until(reason.label(), |gateway| gateway.refused(reason) > 0).await;
        let blamed: Vec<_> = gateway.peer(1).stats.refused().collect();
        assert_eq!(blamed.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [reason], "{garbage:?}");
        assert_eq!(gateway.peer(0).stats.refused().count(), 0, "{garbage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_every_sort_costs_the_good_relays_nothing() {
    let third = Who::Share(0.34);
    let sim = Sim::builder().seed(6).relays(30).events(2_000).copies(12).base(1_700_000_000);
    let sim = sim
        .garbage(&third, 0.02)
        .fault(Fault::Drop, third.clone(), 0.01)
        .fault(Fault::HalfOpen, third.clone(), 0.002)
        .fault(Fault::Refuse, third.clone(), 0.1)
        .fault(Fault::RefuseUpgrade, third, 0.1);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    let good = sim.events_on(&sim.clean_relays());
    assert!(good.len() > 1_900, "nearly every event is on a good relay, too");
    gateway.until_logged(good.iter().map(wire::VerifiedEvent::id)).await;
    let expected: std::collections::HashSet<_> = sim.ids();
    assert!(gateway.logged().iter().all(|event| expected.contains(&event.id())), "nothing else passes");
}

fn frames(gateway: &Gateway) -> u64 {
    gateway.metrics.relay.frames_received.get()
}

/// The number of event frames that the relays have sent, including forged ones.
fn sent(sim: &Sim) -> u64 {
    let stats = sim.stats();
    stats.total.copies() + stats.get(Count::Forged)
}
