//! Relays with IPv4 and IPv6 addresses, some of which do not answer.

use std::net::SocketAddr;
use std::time::Duration;

use moltrade_relayer::net::ConnectError;
use moltrade_relayer::relay::{DialError, DialOptions, Dialer, Reach};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::server::{Server, upgrades};
use crate::{dialer, names, options, url};

#[tokio::test]
async fn an_ipv6_address_is_dialled() {
    let Ok(server) = Server::listen("[::1]:0", None, upgrades).await else {
        eprintln!("not tested: this system has no IPv6");
        return;
    };
    dialer().dial(&url(format!("ws://[::1]:{}", server.port())), Reach::Anywhere).await.expect("dialled");
    assert!(server.heads()[0].contains(&format!("\r\nHost: [::1]:{}\r\n", server.port())));
}

#[tokio::test]
async fn the_family_that_answers_is_used() {
    let server = Server::start(upgrades).await;
    for addresses in [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let resolver = names(&[("relay.example", &addresses)]);
        let dialer = Dialer::new(DialOptions { resolver, ..options() }).expect("set up");
        let relay = url(format!("ws://relay.example:{}", server.port()));
        dialer.dial(&relay, Reach::Anywhere).await.expect("dialled");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_silent_address_does_not_keep_the_others_waiting() {
    let server = Server::start(upgrades).await;
    let silent: SocketAddr = format!("127.0.0.2:{}", server.port()).parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(silent).expect("the same port");
    let _listener = socket.listen(1).expect("listens");
    // Connections that are not accepted fill the system's queue. After that, the system does not
    // answer.
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(silent)).await {
        queue.push(stream.expect("connected"));
    }
    let resolver = names(&[("relay.example", &["127.0.0.2", "127.0.0.1"])]);
    let dialer = Dialer::new(DialOptions { resolver, ..options() }).expect("set up");
    // The TCP step has one time-out for all addresses. The first address alone could use it up.
    let relay = url(format!("ws://relay.example:{}", server.port()));
    dialer.dial(&relay, Reach::Anywhere).await.expect("dialled");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn names_without_addresses_and_ports_without_servers_are_told_apart() {
    let gone = dialer().dial(&url("ws://nobody.example"), Reach::Anywhere).await.expect_err("no such name");
    assert!(
        matches!(&gone, DialError::Connect(ConnectError::NoSuchName(name)) if name == "nobody.example"),
        "{gone}"
    );
    assert_eq!(gone.to_string(), "DNS: nobody.example does not exist or has no address");
    assert!(gone.is_permanent());
    // The server's port is open only at the server's own address.
    let server = Server::start(upgrades).await;
    let relay = url(format!("ws://127.0.0.3:{}", server.port()));
    let refused = dialer().dial(&relay, Reach::Anywhere).await.expect_err("nobody is there");
    assert!(
        matches!(refused, DialError::Connect(ConnectError::Tcp(_))) && !refused.is_permanent(),
        "{refused}"
    );
}
