//! Which certificates are trusted, and that a reconnect resumes the TLS session.

use std::path::PathBuf;

use moltrade_relayer::net::ConnectError;
use moltrade_relayer::net::handshake::HandshakeError;
use moltrade_relayer::relay::{DialError, DialOptions, Dialer, Reach};
use rustls::HandshakeKind;

use crate::authority::{Authority, file};
use crate::server::{Server, upgrades};
use crate::{options, url};

/// A dialer that also trusts the authorities in a file.
fn trusting(path: &std::path::Path) -> Dialer {
    Dialer::new(DialOptions { extra_ca_file: Some(path.to_owned()), ..options() }).expect("a good file")
}

/// Dials. The error is the reported fault of the certificate.
async fn dial(dialer: &Dialer, host: &str, server: &Server) -> Result<(), String> {
    let dialled = dialer.dial(&url(format!("wss://{host}:{}", server.port())), Reach::Anywhere).await;
    dialled.map(drop).map_err(|error| {
        assert!(
            matches!(error, DialError::Connect(ConnectError::Tls(HandshakeError::Certificate(_)))),
            "{error}"
        );
        assert!(error.is_permanent());
        error.to_string()
    })
}

#[tokio::test]
async fn the_authorities_of_the_file_are_trusted() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let both = file(&format!("# two authorities\n{}\n{}", other.pem, ours.pem));
    let dialer = trusting(both.path());
    for host in ["relay.example", "127.0.0.1"] {
        let server = Server::start_tls(ours.server(host), upgrades).await;
        assert_eq!(dial(&dialer, host, &server).await, Ok(()), "{host}");
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn bad_certificates_are_refused_before_anything_is_sent() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let ca_file = ours.file();
    let dialer = trusting(ca_file.path());
    for (config, fault) in [
        (other.server("relay.example"), "UnknownIssuer"),
        (ours.server("else.example"), "not valid for name"),
        (ours.expired_server("relay.example"), "expired"),
    ] {
        let server = Server::start_tls(config, upgrades).await;
        let refused = dial(&dialer, "relay.example", &server).await.expect_err(fault);
        assert!(
            refused.starts_with("TLS: invalid peer certificate: ") && refused.contains(fault),
            "{refused}"
        );
        assert_eq!(server.heads(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn without_the_file_only_the_system_is_trusted() {
    let server = Server::start_tls(Authority::new("ours").server("relay.example"), upgrades).await;
    let refused = dial(&crate::dialer(), "relay.example", &server).await.expect_err("nobody knows it");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_reconnect_resumes_the_session() {
    let ours = Authority::new("ours");
    let ca_file = ours.file();
    for config in [ours.server("relay.example"), ours.old_server("relay.example")] {
        let server = Server::start_tls(config, upgrades).await;
        let dialer = trusting(ca_file.path());
        for _ in 0..4 {
            dial(&dialer, "relay.example", &server).await.expect("dialled");
        }
        let [first, rest @ ..] = &server.handshakes()[..] else { panic!("no handshakes") };
        assert_eq!(*first, HandshakeKind::Full);
        assert_eq!(rest, [HandshakeKind::Resumed; 3]);
    }
}

#[tokio::test]
async fn without_sessions_every_handshake_is_full() {
    let ours = Authority::new("ours");
    let ca_file = ours.file();
    let server = Server::start_tls(ours.server("relay.example"), upgrades).await;
    let extra_ca_file = Some(ca_file.path().to_owned());
    let dialer = Dialer::new(DialOptions { extra_ca_file, tls_sessions_max: 0, ..options() });
    let dialer = dialer.expect("set up");
    for _ in 0..2 {
        dial(&dialer, "relay.example", &server).await.expect("dialled");
    }
    assert_eq!(server.handshakes(), [HandshakeKind::Full; 2]);
}

#[tokio::test]
async fn trouble_that_is_not_the_certificates_may_pass() {
    // This server answers the handshake with plain HTTP, as if the ports were mixed up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let dialled = crate::dialer().dial(&url(format!("wss://relay.example:{port}")), Reach::Anywhere).await;
    let error = dialled.expect_err("that is no TLS");
    assert!(
        matches!(error, DialError::Connect(ConnectError::Tls(HandshakeError::NotTls)))
            && !error.is_permanent(),
        "{error}"
    );
}

#[test]
fn an_invalid_ca_file_is_named_with_the_reason() {
    let ours = Authority::new("ours");
    let broken = ours.pem.replace("-----END CERTIFICATE-----", "");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, reason) in [
        ("", "contains no certificate; add those of your authorities"),
        ("not a certificate", "contains no certificate"),
        (&broken, "is not PEM ("),
        (no_certificate, "contains an invalid certificate, number 1 ("),
        (&format!("{}{no_certificate}", ours.pem), "contains an invalid certificate, number 2 ("),
    ] {
        let file = file(text);
        let extra_ca_file = Some(file.path().to_owned());
        let error = Dialer::new(DialOptions { extra_ca_file, ..options() }).expect_err(reason).to_string();
        let begin = format!("[relay] extra_ca_file = \"{}\": the file {reason}", file.path().display());
        assert!(error.starts_with(&begin), "{error}");
    }
    let extra_ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
    let error = Dialer::new(DialOptions { extra_ca_file, ..options() }).expect_err("no file").to_string();
    assert!(
        error.starts_with("[relay] extra_ca_file = \"/nowhere/ca.pem\": the file cannot be read ("),
        "{error}"
    );
}
