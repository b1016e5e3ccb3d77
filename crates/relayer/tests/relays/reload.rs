//! Reloading the configuration while the gateway runs.

use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::Changes;
use relay_sim::{Behaviour, Count, Limits, Sim};
use std::collections::HashSet;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::only;

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_relays_that_stay_are_kept_and_asked_for_the_new_kinds() {
    let sim = Sim::builder().seed(100).relays(4).kinds([1, 7]).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.bootstrap_relays.truncate(3);
        config.filters.allowed_kinds = [1].into();
    })
    .await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    // Stored events of both kinds.
    let before = sim.publish_many(&[0, 1, 2], 3, &[1_700_000_000; 40]);
    let of = |events: &[wire::VerifiedEvent], kind| -> Vec<_> {
        events.iter().filter(|event| event.kind() == kind).map(wire::VerifiedEvent::id).collect()
    };
    gateway.until_logged(of(&before, 1)).await;
    let others: Vec<_> = sim.urls().into_iter().skip(1).map(|url| url.parse().expect("a URL")).collect();
    let changes = gateway
        .reload(|config| {
            config.relay.bootstrap_relays = others;
            config.filters.allowed_kinds = [7].into();
        })
        .await;
    assert_eq!(changes, Changes { added: 1, removed: 1 });
    gateway.until("who is not on the list is left", |_| sim.open_connections(0) == 0).await;
    let live = r#"["REQ","r",{"kinds":[7],"limit":0}]"#;
    let is_renewed = |relay| sim.requests(relay).iter().any(|request| request == live);
    gateway.until("all are asked for the new kind", |_| (1..4).all(is_renewed)).await;
    let after = sim.publish_many(&[0, 1, 2, 3], 4, &[1_700_000_100; 40]);
    // The gateway also requests the stored events of the new kind.
    gateway.until_logged([of(&before, 7), of(&after, 7)].concat()).await;
    let connections = [0, 1, 2, 3].map(|relay| sim.stats().of(relay, Count::Connections));
    assert_eq!(connections, [1; 4], "nobody was connected to anew");
    // A relay sends an event of a kind that the gateway no longer requests.
    let old = after.iter().find(|event| event.kind() == 1).expect("one of many");
    sim.send_text(1, &format!(r#"["EVENT","r",{}]"#, String::from_utf8_lossy(old.json())));
    gateway.until("it is refused", |gateway| gateway.refused(DropReason::KindNotAllowed) == 1).await;
    let logged = gateway.logged();
    assert_eq!(logged.len(), of(&before, 1).len() + of(&before, 7).len() + of(&after, 7).len());
}

/// The gateway closes the open backfill request. So a relay that allows few subscriptions accepts
/// the next request, and a late answer to the old request does not count as an answer to the new
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_broken_off_leaves_no_subscription_behind() {
    let sim = Sim::builder().seed(101).relays(1).kinds([1, 7]).events(600).stored(1.0).cap(40);
    let sim = sim.limits(only(0), Limits::new().subscriptions(2)).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| config.filters.allowed_kinds = [1].into()).await;
    let asked = |gateway: &Gateway| gateway.peer(0).stats.requests.get();
    let past_requests = || -> Vec<String> {
        let ids = sim.requests(0).into_iter().filter_map(|text| text.split('"').nth(3).map(str::to_owned));
        ids.filter(|id| id.starts_with('p')).collect()
    };
    let (mut broken_off, mut before) = (0, 0);
    for kind in [7, 1].into_iter().cycle().take(40) {
        gateway.until("the past is asked for", |_| past_requests().len() > before).await;
        // The stall may begin before the relay reads a request, during an answer or, if this task
        // had to wait for a CPU, after the last answer.
        sim.behave(0, Behaviour::Stalled);
        broken_off += usize::from(gateway.peer(0).repair().is_some());
        let requests = asked(&gateway);
        gateway.reload(|config| config.filters.allowed_kinds = [kind].into()).await;
        gateway.until("something else is asked for", |gateway| asked(gateway) > requests).await;
        before = past_requests().len();
        sim.behave(0, Behaviour::Normal);
        if broken_off == 3 {
            break;
        }
    }
    assert_eq!(broken_off, 3, "no repair was under way");
    gateway.reload(|config| config.filters.allowed_kinds = [1, 7].into()).await;
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!(sim.stats().of(0, Count::RequestsRefused), 0);
    assert_eq!(gateway.peer(0).stats.connections.get(), 1);
    // All backfill requests have different ids.
    let past = past_requests();
    let different: HashSet<&String> = past.iter().collect();
    assert_eq!(different.len(), past.len(), "{past:?}");
}

/// The relay is pinged at the new interval over the connection that was open before.
#[tokio::test(flavor = "multi_thread")]
async fn open_connections_take_over_the_limits() {
    let sim = Sim::builder().seed(102).relays(3).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = Duration::from_secs(86_400);
    })
    .await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    assert_eq!(gateway.peer(0).rtt(), None);
    let changes = gateway
        .reload(|config| {
            config.relay.health_check_interval = Duration::from_millis(50);
            config.relay.max_connections = std::num::NonZeroUsize::new(2).expect("not zero");
        })
        .await;
    assert_eq!(changes, Changes { added: 0, removed: 1 }, "the third is beyond the maximum");
    gateway.until("the relay answers a ping", |gateway| gateway.peer(0).rtt().is_some()).await;
    assert_eq!([0, 1].map(|relay| sim.stats().of(relay, Count::Connections)), [1, 1]);
}
