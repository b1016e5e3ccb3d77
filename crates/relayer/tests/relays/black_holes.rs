//! Relays that fail at every step before the first event. Each is retried, and its state shows the
//! reason.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use moltrade_relayer::net::resolver::Resolver;
use relay_sim::{Fault, Sim};

use crate::gateway::Gateway;
use crate::only;

/// A single test covers all failures, because several wait for a time-out.
#[tokio::test(flavor = "multi_thread")]
async fn black_holes_of_every_depth_are_left_and_tried_again() {
    let sim = Sim::builder().seed(120).scripted(9).deaf(only(0));
    let sim = sim.fault(Fault::Refuse, only(1), 1.0).fault(Fault::RefuseUpgrade, only(2), 1.0);
    let sim = sim.fault(Fault::NeverUpgrade, only(3), 1.0).fault(Fault::Mute, only(4), 1.0);
    let sim = sim.start().await.expect("starts");
    let tls = Sim::builder().seed(121).scripted(1).tls().deaf(only(0)).start().await.expect("starts");
    let never = Arc::new(Barrier::new(2));
    let gateway = Gateway::resolving(&sim, resolver(&never), |config| {
        config.relay.health_check_interval = Duration::from_millis(500);
        let relays = &mut config.relay.bootstrap_relays;
        relays[5] = sim.url_with_host(5, "nowhere.example").parse().expect("a URL");
        relays[6] = sim.url_with_host(6, "unanswered.example").parse().expect("a URL");
        relays[7] = tls.url(0).parse().expect("a URL");
        // Nothing listens at this address, because the TLS relays use this port at a different
        // address.
        relays[8] = format!("ws://127.1.2.3:{}", tls.address().port()).parse().expect("a URL");
    })
    .await;
    for (relay, expected) in [
        "WebSocket upgrade: no answer within 10 s",
        "WebSocket upgrade: ",
        "WebSocket upgrade: the server answers 503 Service Unavailable instead of 101",
        "WebSocket upgrade: no answer within 10 s",
        "the relay did not answer a ping",
        "DNS: nowhere.example does not exist or has no address",
        "DNS: no answer within 10 s",
        "TLS: no answer within 10 s",
        "TCP: Connection refused",
    ]
    .into_iter()
    .enumerate()
    {
        let reason = gateway.until_in(relay, "backing_off").await;
        assert!(reason.starts_with(expected), "relay {relay}: {reason}");
    }
    for relay in [1, 2, 4, 5, 8] {
        let tries = |gateway: &Gateway| {
            let history = gateway.peer(relay).history();
            history.iter().filter(|past| past.status == "backing_off").count()
        };
        gateway.until("it is tried again", |gateway| tries(gateway) >= 2).await;
    }
    // Ends the look-up threads: the pending one, and that of a retry that may have begun.
    std::thread::spawn(move || {
        loop {
            never.wait();
        }
    });
}

/// A resolver with a name that does not exist and a name that gets no answer.
fn resolver(never: &Arc<Barrier>) -> Resolver {
    let never = Arc::clone(never);
    Resolver::from_fn(move |name| {
        if name == "unanswered.example" {
            never.wait();
        }
        Err(std::io::ErrorKind::NotFound.into())
    })
}
