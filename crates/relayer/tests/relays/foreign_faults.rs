//! Faults that are not the relay's: malformed or oversized events signed by their authors, and
//! messages outside of Nostr. These faults do not count as offences, and do not block the events
//! stored after them.

use std::num::NonZeroU32;

use bytes::Bytes;
use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::config::Config;
use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::ConnectionState;
use relay_sim::{Fault, Poison, Sim, Who, oversized, poison};
use wire::{Signer, VerifiedEvent};

use crate::gateway::Gateway;
use crate::only;

const BASE: u64 = 1_700_000_000;

fn strict(config: &mut Config) {
    config.relay.max_offences_per_hour = NonZeroU32::new(5);
}

fn small(number: u64) -> VerifiedEvent {
    Signer::from_seed(number).sign(BASE + number, 1, &[] as &[Vec<String>], "small")
}

/// Asserts that all events came over one connection, and that the stored events are proven.
async fn assert_unharmed(gateway: &Gateway, relays: usize) {
    for relay in 0..relays {
        let is_proven = |gateway: &Gateway| {
            gateway.peer(relay).coverage().is_some_and(|coverage| coverage.gaps().is_empty())
        };
        gateway.until("its past is proven", is_proven).await;
        let peer = gateway.peer(relay);
        assert_eq!(peer.state().label(), "live", "relay {relay}");
        assert_eq!((peer.offences.quarantines(), peer.stats.connections.get()), (0, 1), "relay {relay}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_signed_and_malformed_are_no_offence() {
    let sim = Sim::builder().seed(70).relays(3).events(600).copies(2).stored(0.5).hold().cap(100);
    let sim = sim.fault(Fault::Poison, Who::All, 0.5).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, strict).await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_unharmed(&gateway, 3).await;
    for reason in [
        DropReason::MalformedKind,
        DropReason::MalformedTags,
        DropReason::MalformedContent,
        DropReason::NonStandardForm,
        DropReason::MissingField,
    ] {
        assert!(gateway.refused(reason) > 5, "{reason:?}");
    }
}

/// A relay's cap also counts events that we refuse, so an answer full of refused events does not
/// prove that the relay has no others. The refused events are dated from `BASE + 20` on.
async fn assert_hides_nothing(cap: usize, stretch: impl Iterator<Item = Bytes>) {
    let sim = Sim::builder().seed(71).scripted(1).cap(cap).start().await.expect("starts");
    let events: Vec<_> = (0..40).map(small).collect();
    for event in &events {
        sim.publish([0], event.json().clone());
    }
    stretch.for_each(|event| sim.publish([0], event));
    let gateway = Gateway::configured(&sim, strict).await;
    gateway.until_logged(events.iter().map(VerifiedEvent::id)).await;
    gateway.assert_holds_exactly(&events);
    assert_unharmed(&gateway, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_of_malformed_events_hides_nothing_behind_it() {
    let poisoner = Signer::from_seed(0x0BAD);
    let stretch = (0..400).map(|number| {
        let sort = Poison::ALL[number as usize % Poison::ALL.len()];
        poison(&poisoner, sort, BASE + 20 + number / 10, number)
    });
    assert_hides_nothing(50, stretch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_of_events_without_a_readable_id_hides_nothing_behind_it() {
    let stretch = (0..400).map(|number| {
        let event = poison(&Signer::from_seed(0x0BAD), Poison::Kind, BASE + 20 + number / 10, number);
        let text = String::from_utf8(event.to_vec()).expect("UTF-8");
        let id = text.split('"').nth(3).expect("an id");
        text.replacen(id, &id.to_uppercase(), 1).into()
    });
    assert_hides_nothing(50, stretch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_of_events_beyond_the_frame_limit_hides_nothing_behind_it() {
    let author = Signer::from_seed(9);
    let stretch = (0..12).map(|number| oversized(&author, BASE + 50 + number, 700_000, false));
    assert_hides_nothing(10, stretch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_beyond_the_frame_limit_is_skipped_and_the_rest_is_proven() {
    for content_first in [false, true] {
        let sim = Sim::builder().seed(72).scripted(1).start().await.expect("starts");
        let large = |at| oversized(&Signer::from_seed(9), BASE + at, 700_000, content_first);
        let stored: Vec<_> = (0..20).map(small).collect();
        stored.iter().for_each(|event| sim.publish([0], event.json().clone()));
        sim.publish([0], large(10));
        let gateway = Gateway::configured(&sim, strict).await;
        gateway.until_logged(stored.iter().map(VerifiedEvent::id)).await;
        gateway.until_in(0, "live").await;
        // A live event is treated the same way.
        sim.publish([0], large(100));
        let live = small(101);
        sim.publish([0], live.json().clone());
        gateway.until_logged([live.id()]).await;
        assert_eq!(gateway.logged().len(), 21);
        assert_unharmed(&gateway, 1).await;
        assert!(gateway.refused(DropReason::EventTooLarge) >= 2);
        let refused: Vec<_> = gateway.peer(0).stats.refused().map(|(reason, _)| reason).collect();
        assert_eq!(refused, [DropReason::EventTooLarge]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_by_chance_cost_nothing_else() {
    let sim = Sim::builder().seed(73).relays(2).events(200).copies(2).stored(0.5);
    let sim = sim.fault(Fault::Oversized, Who::All, 0.1).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, strict).await;
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    for relay in [0, 1] {
        gateway.until_in(relay, "live").await;
    }
    assert_unharmed(&gateway, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lenient_relay_sends_is_taken_or_passed_over() {
    let sim = Sim::builder().seed(74).scripted(1).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, strict).await;
    gateway.until_in(0, "live").await;
    for word in
        ["", " ", "ping", "PING", "\"ping\"", "{\"type\":\"ping\"}", "\n", "2", "heartbeat", "keepalive"]
    {
        sim.send_text(0, word);
    }
    // Builds frames with more than three elements and superfluous white space.
    let extended = |event: &VerifiedEvent, rest: &str| {
        format!(r#"["EVENT","r",{}{rest}]"#, String::from_utf8_lossy(event.json()))
    };
    let events: Vec<_> = (0..3).map(small).collect();
    sim.send_text(0, &extended(&events[0], r#",{"relay":"tells more"}"#));
    sim.send_text(0, &extended(&events[1], " , null , 7 "));
    // The author signed bytes that are not UTF-8. Some relays accept such an event.
    let mut broken = extended(&small(9), "").into_bytes();
    let place = broken.windows(5).position(|bytes| bytes == b"small").expect("the content");
    broken[place] = 0xff;
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(broken.len() as u16).to_be_bytes());
    frame.extend_from_slice(&broken);
    sim.send_bytes(0, frame);
    sim.send_text(0, &extended(&events[2], ""));
    gateway.until_logged(events.iter().map(VerifiedEvent::id)).await;
    gateway.until("it is counted", |gateway| gateway.refused(DropReason::NonStandardForm) == 1).await;
    assert_eq!(gateway.refused(DropReason::UnknownMessage), 10);
    assert_eq!(gateway.peer(0).stats.refused_total(), 11);
    assert_unharmed(&gateway, 1).await;
}

/// A connection that was useful is usually followed by a wait of at most a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_breaks_the_protocol_each_time_is_left_longer_though_it_is_useful() {
    let sim = Sim::builder().seed(76).scripted(1).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    let mut rest_ms = 0;
    for number in 0..10 {
        gateway.until("it is live", |gateway| gateway.peer(0).is_live()).await;
        let useful = small(number);
        sim.publish([0], useful.json().clone());
        gateway.until_logged([useful.id()]).await;
        // Reserved bits (RFC 6455).
        sim.send_bytes(0, vec![0xf1, 0]);
        gateway.until("it rests", |gateway| gateway.peer(0).state().label() == "backing_off").await;
        let ConnectionState::BackingOff { until_ms, .. } = gateway.peer(0).state() else { continue };
        rest_ms = until_ms.saturating_sub(unix_ms());
        if rest_ms > 1_000 {
            break;
        }
    }
    assert!(rest_ms > 1_000, "{rest_ms} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_relay_closes_is_shown() {
    let sim = Sim::builder().seed(75).relays(1).events(20).copies(1).stored(1.0);
    let sim = sim.fault(Fault::Close(4_000), only(0), 1.0).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    let reason = gateway.until_in(0, "backing_off").await;
    assert_eq!(reason, "the relay closed the connection: 4000 simulated: that was enough");
}
