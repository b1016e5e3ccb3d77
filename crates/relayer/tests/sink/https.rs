//! HTTPS: the gateway uses HTTP/2 if the server offers it, and requires a valid certificate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Version};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use moltrade_relayer::config::Output;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::sink::SinkMetrics;
use moltrade_relayer::sink::Workers;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::bench::Running;
use crate::gateway::Gateway;
use crate::hook::output;

/// The certificate of an authority; a server certificate signed by this authority, and its key.
pub fn certificates(host: &str) -> (String, CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (key, server_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let pem = authority.self_signed(&key).unwrap().pem();
    let server = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &Issuer::new(authority, key)).unwrap();
    (pem, server.der().clone(), server_key.serialize_der().into())
}

/// The protocol of each connection to a server, and the version of each request.
#[derive(Default)]
struct Seen {
    protocols: Vec<Option<Vec<u8>>>,
    versions: Vec<Version>,
}

/// A TLS server configuration that offers these protocols.
pub fn acceptor(
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    protocols: &[&[u8]],
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that offers these protocols and accepts every event.
async fn server(
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    protocols: &[&[u8]],
) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let acceptor = acceptor(certificate, key, protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Seen>>::default();
    let shared = Arc::clone(&seen);
    let take = move |request: Request| {
        shared.lock().unwrap().versions.push(request.version());
        async { StatusCode::NO_CONTENT }
    };
    let service = TowerToHyperService::new(Router::new().route("/", post(take)));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            shared.lock().unwrap().protocols.push(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, seen)
}

pub fn sink(address: SocketAddr, ca_file: &std::path::Path) -> Output {
    output(&format!(
        "name = 'a'\naddress = 'https://localhost:{}/'\nca_file = '{}'\nstart = 'oldest'",
        address.port(),
        ca_file.display()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_used_if_the_server_offers_it_else_http_1() {
    let cases: [(&[&[u8]], Version); 2] =
        [(&[b"http/1.1"], Version::HTTP_11), (&[b"h2", b"http/1.1"], Version::HTTP_2)];
    for (protocols, version) in cases {
        let (folder, (pem, certificate, key)) = (TempDir::new().unwrap(), certificates("localhost"));
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, pem).unwrap();
        let (address, seen) = server(certificate, key, protocols).await;
        let log = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&log, &sink(address, &ca_file));
        gateway.append(1..=20);
        gateway.until_delivered(0, 20).await;
        assert_eq!(seen.lock().unwrap().protocols, [Some(protocols[0].to_vec())], "one connection for all");
        assert_eq!(seen.lock().unwrap().versions, [version; 20]);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let (folder, (pem, certificate, key)) = (TempDir::new().unwrap(), certificates("other.example"));
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let (address, _) = server(certificate, key, &[b"http/1.1"]).await;
    let log = TempDir::new().unwrap();
    let gateway = Gateway::start_with(&log, &sink(address, &ca_file));
    gateway.append([1]);
    let reason = gateway.until_away(0).await;
    assert!(reason.starts_with("it cannot be connected to: ") && reason.contains("certificate"), "{reason}");
    assert_eq!(gateway.sink(0).cursor().get(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_ca_file_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let running = Running::open(folder.path());
    let ca_file = folder.path().join("ca.pem");
    let start = || {
        let output = sink("127.0.0.1:1".parse().unwrap(), &ca_file);
        let started =
            Workers::start(&output, &running.log, Resolver::system(), &Arc::<SinkMetrics>::default());
        started.map(|_| ()).unwrap_err().to_string()
    };
    let named = format!("ca_file of the sink a = \"{}\": the file ", ca_file.display());
    assert!(start().starts_with(&format!("{named}cannot be read")), "{}", start());
    std::fs::write(&ca_file, "nothing").unwrap();
    assert!(start().starts_with(&format!("{named}contains no certificate")), "{}", start());
}
