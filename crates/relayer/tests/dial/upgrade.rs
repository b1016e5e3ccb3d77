//! The upgrade request to a relay's server, and the server's possible responses.

use std::ops::ControlFlow;

use moltrade_relayer::relay::{DialError, DialOptions, DialSetupError, Dialer, InstanceId, Reach};
use wire::websocket::Message;

use crate::server::{HOLD, Server, header, switching_protocols, upgrades};
use crate::{dialer, options, url};

#[tokio::test]
async fn a_request_says_who_asks() {
    let server = Server::start(upgrades).await;
    let options = options();
    let (user_agent, instance) = (options.user_agent.clone(), options.instance);
    let dialer = Dialer::new(options).expect("set up");
    let relay = url(format!("ws://relay.example:{}/nostr?x=1", server.port()));
    dialer.dial(&relay, Reach::Anywhere).await.expect("dialled");
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /nostr?x=1 HTTP/1.1\r\n"), "{head}");
    let host = format!("relay.example:{}", server.port());
    assert_eq!(header(head, "Host"), Some(host.as_str()));
    assert_eq!(header(head, "User-Agent"), Some(user_agent.as_str()));
    assert!(instance.is(header(head, InstanceId::HEADER).expect("an instance").as_bytes()));
}

#[tokio::test]
async fn what_comes_with_the_answer_is_not_lost() {
    let server =
        Server::start(|head| [&switching_protocols(head), &b"\x81\x05hello"[..], HOLD].concat()).await;
    let dialled = dialer().dial(&url(format!("ws://{}", server.address)), Reach::Anywhere).await;
    let mut socket = dialled.expect("dialled");
    let read = socket.read(|message| match message {
        Message::Text(text) => ControlFlow::Break(text.to_vec()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(read.await.expect("open"), ControlFlow::Break(b"hello".to_vec()));
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let answer = b"HTTP/1.1 429 Slow down\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(|_| answer.to_vec()).await;
    let dialled = dialer().dial(&url(format!("ws://{}", server.address)), Reach::Anywhere).await;
    let error = dialled.expect_err("refused");
    assert_eq!(error.to_string(), "WebSocket upgrade: the server answers 429 Slow down instead of 101");
    assert_eq!(error.retry_after_secs(), Some(90));
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn we_notice_that_we_dialled_ourselves() {
    let options = options();
    let instance = options.instance;
    // The gateway's own server responds like this.
    let server = Server::start(move |head| {
        let id = header(head, InstanceId::HEADER).expect("an instance");
        if instance.is(id.as_bytes()) {
            b"HTTP/1.1 508 Loop Detected\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            upgrades(head)
        }
    })
    .await;
    let ours = Dialer::new(options).expect("set up");
    let relay = url(format!("ws://{}", server.address));
    let error = ours.dial(&relay, Reach::Anywhere).await.expect_err("that is us");
    assert!(matches!(error, DialError::Ourselves) && error.is_permanent(), "{error}");
    dialer().dial(&relay, Reach::Anywhere).await.expect("another process may connect");
}

#[test]
fn a_user_agent_cannot_add_headers() {
    for bad in ["a\r\nX: y", "a\nb", "a\0", "é", "a\tb"] {
        let error = Dialer::new(DialOptions { user_agent: bad.to_owned(), ..options() }).expect_err(bad);
        assert!(matches!(error, DialSetupError::UserAgent), "{error}");
    }
}
