//! The prefixes of refusals in `CLOSED` and `NOTICE`.

use std::time::Duration;

use moltrade_relayer::ingest::DropReason;
use relay_sim::{Cap, Count, Ending, EndingPlace, Limits, RateLimit, Refusal, Saying, Sim};

use crate::gateway::Gateway;
use crate::only;

/// Two relays that allow one request per second: one refuses by CLOSED, one by NOTICE. Their events
/// take several requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_limits_our_rate_sees_it_fall_and_loses_us_nothing() {
    let limit = || RateLimit::new(1, Duration::from_secs(1));
    let sim = Sim::builder().seed(20).relays(2).events(220).copies(1).stored(1.0).cap(50);
    let sim = sim.rate_limits(only(0), limit()).rate_limits(only(1), limit().by_notice());
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    for relay in [0, 1] {
        let refused = sim.stats().of(relay, Count::RateLimited);
        // The second request comes too early. A third refusal depends on milliseconds.
        assert!((1..=3).contains(&refused), "relay {relay} refused {refused}");
        assert!(gateway.peer(relay).stats.rate_limited.get() >= 1, "relay {relay}");
        let times = &sim.request_times(relay)[1..];
        let (first, last) = (times[0], times[times.len() - 1]);
        // The value is rounded, because the transit times of two requests differ.
        let secs = (last - first + 500) / 1000;
        assert!(times.len() >= 3 && secs >= times.len() as u64 - 1, "relay {relay}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_want_us_is_left_alone_and_its_words_are_shown() {
    let words = ["restricted: not on the list", "blocked: you are not welcome here"];
    let sim = Sim::builder().seed(21).scripted(4);
    let sim = sim.refusals(only(0), Refusal::always(words[0])).refusals(only(1), Refusal::always(words[1]));
    let sim = sim.refusals(only(2), Refusal::always(words[0]).by_notice());
    let sim = sim.refusals(only(3), Refusal::always(words[1]).by_notice());
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for relay in 0..4 {
        assert_eq!(gateway.until_in(relay, "refused").await, words[relay % 2]);
        assert_eq!(sim.requests(relay).len(), 1, "it was asked once");
        gateway.until("it is left", |_| sim.open_connections(relay) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_could_not_this_time_is_tried_again() {
    let sim = Sim::builder().seed(22).relays(3).events(30).copies(1).stored(1.0);
    let sim = sim.refusals(only(0), Refusal::times(1, "error: database is locked"));
    let sim = sim.refusals(only(1), Refusal::times(1, "something that nobody has defined"));
    let sim = sim.refusals(only(2), Refusal::times(1, "error: database is locked").by_notice());
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for (relay, word) in ["database", "nobody", "database"].into_iter().enumerate() {
        let reason = gateway.until_in(relay, "backing_off").await;
        assert!(reason.contains(word), "{reason}");
    }
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
}

/// The relay refuses `"limit":0`, 1 and `"since"` once each, and accepts a request without kinds.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_calls_invalid_is_made_simpler_until_it_takes_it() {
    let sim = Sim::builder().seed(23).relays(2).scripted(1).kinds([1, 7]).events(80).copies(1).stored(0.5);
    let sim = sim.hold().refusals(only(0), Refusal::times(3, "invalid: what is that?"));
    let sim = sim.limits(only(1), Limits::new().refuse_limit_zero());
    let sim = sim.refusals(only(2), Refusal::times(1, "invalid: what is that?").by_notice());
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| config.filters.allowed_kinds = [1].into()).await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    let wanted: Vec<_> = sim.events().into_iter().filter(|event| event.kind() == 1).collect();
    gateway.until_logged(wanted.iter().map(wire::VerifiedEvent::id)).await;
    let has_others = |gateway: &Gateway| gateway.refused(DropReason::KindNotAllowed) > 0;
    gateway.until("relay 0 sends everything", has_others).await;
    gateway.assert_holds_exactly(&wanted);

    let live = |relay: usize| -> Vec<String> {
        let asked = sim.requests(relay).into_iter().filter(|text| text.starts_with(r#"["REQ","r""#));
        asked.collect()
    };
    assert_eq!(
        live(0)[..2],
        [r#"["REQ","r",{"kinds":[1],"limit":0}]"#, r#"["REQ","r",{"kinds":[1],"limit":1}]"#]
    );
    assert!(live(0)[2].starts_with(r#"["REQ","r",{"kinds":[1],"since":"#), "{}", live(0)[2]);
    assert!(live(0)[3].starts_with(r#"["REQ","r",{"since":"#), "{}", live(0)[3]);
    assert_eq!(live(0).len(), 4);
    for relay in [1, 2] {
        assert_eq!(live(relay)[1..], [r#"["REQ","r",{"kinds":[1],"limit":1}]"#], "relay {relay}");
    }
}

/// As long as the relay calls the limit invalid, the gateway requests the window with smaller
/// limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_a_relay_does_not_take_is_lowered() {
    let sim = Sim::builder().seed(24).relays(1).events(150).stored(1.0);
    let sim = sim.caps(only(0), Cap::refusing(130));
    let sim = sim.information(only(0), relay_sim::Information::NotFound).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    gateway.until_in(0, "live").await;
    let limits = [500, 250, 125].map(|limit| format!(r#""limit":{limit}}}"#));
    let asked = sim.requests(0);
    for (request, limit) in asked[1..].iter().zip(&limits) {
        assert!(request.contains(limit), "{request}");
    }
    assert_eq!(sim.stats().of(0, Count::RequestsRefused), 2);
}

/// The relays refuse `limit: 0` by `error:`, an undefined prefix or a NOTICE, or accept it and
/// close at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_take_limit_zero_is_asked_in_another_way_whatever_its_words() {
    let words = ["error: limit must be a positive number", "bad filter: limit must be at least 1"];
    let refusing = |words: &str, saying| Limits::new().refuse_limit_zero_with(words, saying);
    let sim = Sim::builder().seed(25).relays(4).events(120).copies(1).stored(0.5).hold();
    let sim = sim.limits(only(0), refusing(words[0], Saying::Closed));
    let sim = sim.limits(only(1), refusing(words[1], Saying::Closed));
    let sim = sim.limits(only(2), refusing("ERROR: bad req", Saying::Notice));
    let sim = sim.endings(only(3), Ending::times(1, EndingPlace::BehindEose, ""));
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for relay in 0..4 {
        gateway.until_in(relay, "live").await;
    }
    let live = |relay: usize| -> Vec<String> {
        let asked = sim.requests(relay).into_iter().filter(|text| text.starts_with(r#"["REQ","r""#));
        asked.collect()
    };
    gateway.until("it has been asked again", |_| live(3).len() == 2).await;
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let expected = [r#"["REQ","r",{"limit":0}]"#, r#"["REQ","r",{"limit":1}]"#];
    for relay in 0..4 {
        assert_eq!(live(relay), expected, "relay {relay}");
    }
}

/// A live subscription that the relay closes at any point is reopened, and no event is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_a_relay_ends_is_asked_for_again_wherever_it_ends() {
    use EndingPlace::{AtFirstEvent, BeforeEose, BehindEose, InsteadOfEose};
    let places = [InsteadOfEose, BeforeEose, BehindEose, AtFirstEvent];
    let mut sim = Sim::builder().seed(26).relays(8).events(400).copies(1).stored(0.5).hold();
    for (relay, place) in places.into_iter().enumerate() {
        sim = sim.endings(only(relay), Ending::times(1, place, "error: it is over"));
        sim = sim.endings(only(relay + 4), Ending::times(1, place, "rate-limited: one at a time"));
    }
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for relay in 0..8 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
}
