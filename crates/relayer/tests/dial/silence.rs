//! Every step of a dial has a time-out.

use std::sync::{Arc, Barrier};

use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::relay::{DialOptions, Dialer, Reach};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{HOLD, Server};
use crate::{dialer, options, url};

/// One test covers all steps, because each waits for a time-out.
#[tokio::test]
async fn silence_ends_every_step() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nothing = listener.local_addr().expect("bound");
    let silent = Server::start(|_| HOLD.to_vec()).await;
    let unfinished =
        Server::start(|_| [&b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"[..], HOLD].concat()).await;
    let (dialer, trickle) = (dialer(), trickle().await);
    let fail = async |relay: String| {
        dialer.dial(&url(relay), Reach::Anywhere).await.expect_err("it says nothing").to_string()
    };
    let no_document = async |relay: String| {
        dialer.information(&url(relay), Reach::Anywhere).await.expect_err("it says nothing").to_string()
    };
    let (dns, tls, upgrade, head, body, trickled, before_http) = tokio::join!(
        dns(),
        fail(format!("wss://{nothing}")),
        fail(format!("ws://{}", silent.address)),
        no_document(format!("ws://{}", silent.address)),
        no_document(format!("ws://{}", unfinished.address)),
        no_document(trickle),
        no_document(format!("wss://{nothing}")),
    );
    assert_eq!(dns, "DNS: no answer within 10 s");
    assert_eq!(tls, "TLS: no answer within 10 s");
    assert_eq!(upgrade, "WebSocket upgrade: no answer within 10 s");
    for information in [head, body, trickled] {
        assert_eq!(information, "NIP-11: no document within 10 s");
    }
    // TLS and NIP-11 have equal time-outs, so either may end first.
    assert!(before_http.ends_with(" within 10 s"), "{before_http}");
}

/// Tests a look-up that never ends.
async fn dns() -> String {
    let never = Arc::new(Barrier::new(2));
    let resolver = {
        let never = Arc::clone(&never);
        Resolver::from_fn(move |_| {
            never.wait();
            Ok(Vec::new())
        })
    };
    let dialer = Dialer::new(DialOptions { resolver, ..options() }).expect("set up");
    let error = dialer.dial(&url("ws://a.example"), Reach::Anywhere).await.expect_err("no answer");
    // Ends the look-up thread.
    tokio::task::spawn_blocking(move || never.wait()).await.expect("let go");
    error.to_string()
}

/// Tests a server that sends a byte at intervals: it is never silent, but takes too long.
async fn trickle() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_u8().await.expect("a request");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n").await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    format!("ws://{address}")
}
