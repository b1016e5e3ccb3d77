//! `wss://`: relays with valid and defective certificates of a private authority.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::io;
use std::sync::Arc;

use relay_sim::wait::{settled, until, within};
use relay_sim::{Certificate, Count, Fault, Sim, SimBuilder, Who};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use support::{Client, Seen};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::Signer;

/// A client that trusts only the simulation's authority.
fn connector(sim: &Sim) -> TlsConnector {
    let pem = sim.ca_pem().expect("TLS");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn dial(connector: &TlsConnector, url: &str) -> io::Result<TlsStream<TcpStream>> {
    let host = url.strip_prefix("wss://").and_then(|rest| rest.split('/').next()).expect("wss");
    let (name, _) = host.rsplit_once(':').expect("a port");
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).expect("a name");
    connector.connect(name, TcpStream::connect(host).await?).await
}

async fn connect(connector: &TlsConnector, url: &str) -> Client {
    let stream = dial(connector, url).await.expect("a good certificate");
    Client::upgrade(url, stream).await.expect("the relay takes us")
}

fn one() -> SimBuilder {
    Sim::builder().seed(7).relays(1).events(3_000).copies(1).stored(0.5).tls()
}

#[tokio::test]
async fn relays_serve_the_same_over_tls() {
    let sim = one().fault(Fault::Fragment, Who::All, 0.1).start().await.expect("started");
    let mut client = connect(&connector(&sim), &sim.url(0)).await;
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(1_500));
    assert_eq!(client.take(1_500).await.len(), 1_500);
    assert!(client.ping().await && client.is_silent().await);
    within("all is sent", sim.wait_sent()).await;
    let event = Signer::from_seed(1).sign(1, 1, &[] as &[Vec<String>], &"x".repeat(300_000));
    sim.publish([0], event.json().clone());
    assert!(matches!(client.next().await, Seen::Event(text) if text.len() > 300_000));
    assert_eq!(sim.stop().await.get(Count::Genuine), 3_001);
    assert_eq!(client.next().await, Seen::Closed(Some(1001)));
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all() {
    // More than socket buffers can hold, so that the relay must wait in the middle of a record.
    let sim = Sim::builder().relays(1).events(2_000).sizes(relay_sim::Sizes::Exactly(20_000)).copies(1);
    let sim = sim.stored(1.0).tls().start().await.expect("started");
    let mut client = connect(&connector(&sim), &sim.url(0)).await;
    client.say(r#"["REQ","s",{}]"#).await;
    let written = async || sim.stats().get(Count::Bytes);
    until("it writes", || sim.stats().get(Count::Bytes) > 0).await;
    let bytes = settled("the socket is full", std::time::Duration::from_millis(50), written).await;
    assert!(bytes < 20_000 * 2_000, "it does not wait");
    assert_eq!(client.stored().await.len(), 2_000);
}

#[tokio::test]
async fn the_authority_vouches_for_every_name_of_the_loopback() {
    let sim = Sim::builder().scripted(1).tls().start().await.expect("started");
    let trusting = connector(&sim);
    for url in [sim.url(0), sim.url_with_host(0, "localhost")] {
        assert!(url.starts_with("wss://"));
        assert_eq!(connect(&trusting, &url).await.ask("{}").await, Ok(vec![]));
    }
    let other = Sim::builder().scripted(1).tls().ipv6().start().await.expect("started");
    assert!(other.url(0).starts_with("wss://[::1]:"));
    assert_eq!(connect(&connector(&other), &other.url(0)).await.ask("{}").await, Ok(vec![]));
    // Every simulation has its own authority.
    assert!(dial(&trusting, &other.url(0)).await.is_err());
}

#[tokio::test]
async fn bad_certificates_are_bad_for_the_reason_that_they_name() {
    let sim = Sim::builder()
        .scripted(4)
        .certificates(Who::These(vec![1]), Certificate::Expired)
        .certificates(Who::These(vec![2]), Certificate::WrongHost)
        .certificates(Who::These(vec![3]), Certificate::SelfSigned)
        .tls();
    let sim = sim.start().await.expect("started");
    let connector = connector(&sim);
    for (relay, reason) in [(1, "certificate expired"), (2, "not valid for name"), (3, "UnknownIssuer")] {
        let error = dial(&connector, &sim.url(relay)).await.expect_err("refused").to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert_eq!(connect(&connector, &sim.url(0)).await.ask("{}").await, Ok(vec![]));
    let without = Sim::builder().scripted(1).certificates(Who::All, Certificate::Expired);
    assert!(without.start().await.expect_err("refused").to_string().contains("TLS only"));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let sim = Sim::builder().scripted(1).tls().start().await.expect("started");
    let connector = connector(&sim);
    for _ in 0..3 {
        // Tickets arrive after the handshake, with the first bytes.
        assert_eq!(connect(&connector, &sim.url(0)).await.ask("{}").await, Ok(vec![]));
    }
    assert_eq!((sim.stats().get(Count::TlsFull), sim.stats().get(Count::TlsResumed)), (1, 2));
}

#[tokio::test]
async fn who_speaks_no_tls_is_not_served_and_the_deaf_hear_no_handshake() {
    let sim = Sim::builder().scripted(2).deaf(Who::These(vec![1])).tls().start().await.expect("started");
    assert!(Client::try_connect(&sim.url(0).replace("wss:", "ws:")).await.is_err());
    let connector = connector(&sim);
    let url = sim.url(1);
    let dialling = dial(&connector, &url);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), dialling).await.is_err());
    assert_eq!(sim.stats().get(Count::Connections), 0);
}
