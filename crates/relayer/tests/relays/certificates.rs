//! Relays with certificates of a private authority, and with certificates that clients must refuse.

use std::path::PathBuf;

use moltrade_relayer::config::Config;
use moltrade_relayer::relay::DialFailure;
use relay_sim::{Certificate, Count, Sim};
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::only;

fn authority_of(sim: &Sim, folder: &TempDir) -> PathBuf {
    let path = folder.path().join("authority.pem");
    std::fs::write(&path, sim.ca_pem().expect("it has TLS")).expect("written");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_for_what_it_signed_and_bad_certificates_are_named() {
    let sim = Sim::builder().seed(130).relays(4).events(200).copies(1).stored(0.5).hold().tls();
    let sim = sim.certificates(only(1), Certificate::Expired).certificates(only(2), Certificate::WrongHost);
    let sim = sim.certificates(only(3), Certificate::SelfSigned).start().await.expect("starts");
    let folder = TempDir::new().expect("a folder");
    let file = authority_of(&sim, &folder);
    let trusting = |config: &mut Config| config.relay.extra_ca_file = Some(file.clone());
    let mut gateway = Gateway::configured(&sim, trusting).await;
    gateway.until_in(0, "live").await;
    sim.go();
    gateway.until_logged(sim.events_on(&[0]).iter().map(wire::VerifiedEvent::id)).await;
    for (relay, word) in [(1, "expired"), (2, "another-host.invalid"), (3, "UnknownIssuer")] {
        let reason = gateway.until_in(relay, "backing_off").await;
        assert!(reason.starts_with("TLS: invalid peer certificate: "), "{reason}");
        assert!(reason.contains(word), "{reason}");
        assert_eq!(sim.stats().of(relay, Count::Connections), 0, "nothing was said to it");
    }
    gateway.assert_holds_exactly(&sim.events_on(&[0]));
    let failures = &gateway.metrics.relay.relay_dial_failures;
    assert!(failures[DialFailure::Certificate].get() >= 3);
    assert_eq!(failures.total(), failures[DialFailure::Certificate].get(), "nothing else failed");
    // Without the file, the gateway does not trust the authority.
    gateway.restart(|config| config.relay.extra_ca_file = None).await;
    let reason = gateway.until_in(0, "backing_off").await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}
