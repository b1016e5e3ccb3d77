//! NIP-11 documents from correct and from faulty servers.

use moltrade_relayer::limits::INFORMATION_BYTES_MAX;
use moltrade_relayer::net::ConnectError;
use moltrade_relayer::net::handshake::HandshakeError;
use moltrade_relayer::relay::{
    DialError, DialOptions, Dialer, Information, InformationError, InstanceId, Reach,
};

use crate::authority::Authority;
use crate::server::{HOLD, Server, header};
use crate::{dialer, options, url};

const DOCUMENT: &str = r#"{"name": "a relay", "supported_nips": [1, 77], "software": "test",
    "limitation": {"max_limit": 500, "max_subscriptions": "many"}}"#;

async fn fetch(server: &Server) -> Result<Information, InformationError> {
    dialer().information(&url(format!("ws://{}", server.address)), Reach::Anywhere).await
}

async fn answered(answer: impl Into<Vec<u8>>) -> Result<Information, InformationError> {
    let answer = answer.into();
    fetch(&Server::start(move |_| answer.clone()).await).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n", body.len())
}

#[track_caller]
fn assert_is_document(fetched: Result<Information, InformationError>) {
    let information = fetched.expect("a document");
    assert_eq!(information.max_limit.map(u32::from), Some(500));
    assert_eq!(information.max_subscriptions, None);
    assert!(information.negentropy);
}

#[tokio::test]
async fn a_document_is_asked_for_at_the_relays_url() {
    let server = Server::start(|_| ok(DOCUMENT).into_bytes()).await;
    let relay = url(format!("ws://relay.example:{}/nostr?x=1", server.port()));
    assert_is_document(dialer().information(&relay, Reach::Anywhere).await);
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /nostr?x=1 HTTP/1.1\r\n"), "{head}");
    let host = format!("relay.example:{}", server.port());
    assert_eq!(header(head, "Host"), Some(host.as_str()));
    assert_eq!(header(head, "Accept"), Some("application/nostr+json"));
    assert_eq!(header(head, "User-Agent"), Some(options().user_agent.as_str()));
    assert!(header(head, InstanceId::HEADER).is_some());
}

#[tokio::test]
async fn a_body_may_end_in_any_way_that_http_knows() {
    assert_is_document(answered(ok(DOCUMENT)).await);
    assert_is_document(answered([ok(DOCUMENT).as_bytes(), HOLD].concat()).await);
    assert_is_document(answered(format!("HTTP/1.1 200 OK\r\n\r\n{DOCUMENT}")).await);
    assert_is_document(answered(format!("HTTP/1.0 200 OK\r\n\r\n{DOCUMENT}")).await);
    let (first, second) = DOCUMENT.split_at(20);
    let chunks = chunk(first) + &chunk(second) + &chunk("");
    assert_is_document(
        answered(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await,
    );
}

#[tokio::test]
async fn a_document_comes_over_tls() {
    let ours = Authority::new("ours");
    let ca_file = ours.file();
    let server = Server::start_tls(ours.server("relay.example"), |_| ok(DOCUMENT).into_bytes()).await;
    let extra_ca_file = Some(ca_file.path().to_owned());
    let relay = url(format!("wss://relay.example:{}", server.port()));
    let trusting = Dialer::new(DialOptions { extra_ca_file, ..options() }).expect("set up");
    assert_is_document(trusting.information(&relay, Reach::Anywhere).await);
    let refused = dialer().information(&relay, Reach::Anywhere).await.expect_err("unknown");
    assert!(
        matches!(
            refused,
            InformationError::Dial(DialError::Connect(ConnectError::Tls(HandshakeError::Certificate(_))))
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn garbage_is_refused() {
    for body in ["", "null", "[1]", "<html></html>", "{\"a\":", "{} trailing"] {
        let error = answered(ok(body)).await.expect_err(body);
        assert!(matches!(error, InformationError::NotAnObject(_)), "{error}");
    }
    for answer in ["SSH-2.0-x\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"] {
        let error = answered(answer).await.expect_err(answer);
        assert!(matches!(error, InformationError::Http(_)), "{error}");
    }
    let headers = "X: y\r\n".repeat(10_000);
    let error = answered(format!("HTTP/1.1 200 OK\r\n{headers}\r\n{{}}")).await.expect_err("a long head");
    assert!(matches!(error, InformationError::Http(_)), "{error}");
}

#[tokio::test]
async fn a_document_that_is_too_long_is_not_read() {
    let room = INFORMATION_BYTES_MAX - "{}".len();
    assert!(answered(ok(&format!("{{{}}}", " ".repeat(room)))).await.is_ok(), "just short enough");
    let long = " ".repeat(INFORMATION_BYTES_MAX + 1);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &chunk(&long);
    for answer in [ok(&long), format!("HTTP/1.1 200 OK\r\n\r\n{long}"), chunked] {
        // The server holds the connection open. The dialer does not wait for the end of a document
        // that is too long.
        let error = answered([answer.as_bytes(), HOLD].concat()).await.expect_err("too long");
        assert!(matches!(error, InformationError::TooLong), "{error}");
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let elsewhere = Server::start(|_| ok(DOCUMENT).into_bytes()).await;
    let location = format!("http://{}/", elsewhere.address);
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let error = answered(answer).await.expect_err("a redirection");
        assert!(matches!(error, InformationError::Status(code) if code == status), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
    let error = answered("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n").await.expect_err("nothing there");
    assert_eq!(error.to_string(), "the server answers 404 instead of 200");
}

#[tokio::test]
async fn our_own_document_is_none_of_a_relay() {
    let error = answered("HTTP/1.1 508 Loop Detected\r\nContent-Length: 0\r\n\r\n").await.expect_err("us");
    assert!(matches!(error, InformationError::Dial(DialError::Ourselves)), "{error}");
}
