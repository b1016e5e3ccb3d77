//! `moltrade-relayer health` asks the gateway that the same configuration describes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::program::Site;

/// The exit status and standard error.
fn health(site: &Site) -> (Option<i32>, String) {
    let output = site.run_with(&["health"]);
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_the_configured_port() {
    let site = Site::empty();
    let (status, said) = health(&site);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("does not answer"), "{said}");
    let running = site.start().await;
    let (status, said) = health(&site);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{} is healthy", running.address().port())), "{said}");
    // As in the container: the gateway listens on all addresses, and the file sets the port.
    drop(running);
    let port = site.port();
    let site = site.unset("RELAYER_OUTPUT__WEBSOCKET_PORT").set("RELAYER_OUTPUT__BIND_ADDRESS", "0.0.0.0");
    let file = site.folder().join("config.toml");
    std::fs::write(file, format!("[output]\nwebsocket_port = {port}")).expect("written");
    let _running = site.start().await;
    assert_eq!(health(&site).0, Some(0));
}

#[test]
fn another_server_an_unknown_port_and_a_wrong_configuration_are_unhealthy() {
    let site = Site::empty();
    let listener = TcpListener::bind(("127.0.0.1", site.port())).expect("the port is free");
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        // A socket that is closed with unread bytes may lose the answer.
        let request: Vec<_> = BufReader::new(&socket).lines().map_while(Result::ok).take(4).collect();
        assert_eq!(request[0], "GET /health HTTP/1.1");
        socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").expect("written");
    });
    let (status, said) = health(&site);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("503 Service Unavailable"), "{said}");
    server.join().expect("it answered");
    let site = site.set("RELAYER_OUTPUT__WEBSOCKET_PORT", "0");
    let (status, said) = health(&site);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("websocket_port is 0"), "{said}");
    let site = site.set("RELAYER_OUTPUT__WEBSOCKET_PORT", "x");
    assert_eq!(health(&site).0, Some(78));
}
