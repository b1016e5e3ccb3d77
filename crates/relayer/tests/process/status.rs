//! `moltrade-relayer status` with a gateway that is up, degraded, down, or something else.

use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use relay_sim::Sim;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::program::{PATIENCE, Running, Site};

/// Runs the command without blocking servers of the test.
async fn status(site: &Site, arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = site.command();
    command.arg("status").args(arguments);
    if let Some(token) = token {
        command.env("MOLTRADE_RELAYER_TOKEN", token);
    }
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
}

#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(code), ""), "{text}");
    text
}

async fn until_connected(running: &Running, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while running.json("/status").await["active_connections"].as_u64() != Some(count) {
        assert!(Instant::now() < deadline, "{}", running.json("/status").await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_degraded_and_down() {
    let sim = Sim::builder().seed(1).relays(2).events(5).start().await.expect("starts");
    let site = Site::on(&sim);
    let running = site.start().await;
    until_connected(&running, 2).await;
    let text = said(&status(&site, &[], None).await, 0);
    let address = format!("http://127.0.0.1:{}", site.port());
    assert!(text.starts_with(&format!("the gateway at {address} is healthy\n")), "{text}");
    for line in
        ["\nversion   0.1.0, up ", "\nlog       ", "\nrelays    2 of 2 connected: ", "\nclients   0 of /ws"]
    {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert!(!text.contains("\nproblem"), "{text}");
    // Another folder, and no configuration.
    let elsewhere = Site::empty();
    let text = said(&status(&elsewhere, &["--url", &format!("{address}/")], None).await, 0);
    assert!(text.starts_with(&format!("the gateway at {address} is healthy\n")), "{text}");

    drop(sim);
    until_connected(&running, 0).await;
    let text = said(&status(&site, &[], None).await, 1);
    assert!(text.contains(" is degraded\nproblem   no relay is connected (2 wanted)\n"), "{text}");

    drop(running);
    let text = said(&status(&site, &[], None).await, 2);
    assert!(text.contains("is down or cannot be reached\n  cannot connect: "), "{text}");
}

/// A server that answers every request with these bytes, or never. Returns its URL, and what the
/// last request was.
async fn impostor(answer: Option<Vec<u8>>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (requests, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, requests) = (answer.clone(), requests.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let _ = requests.send(String::from_utf8_lossy(&request[..read]).into_owned());
                match answer {
                    Some(answer) => drop(stream.write_all(&answer).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    (url, heard)
}

fn answer(status: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    Some((head + body).into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_are_not_believed() {
    let site = Site::empty();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 9 << 20]].concat();
    let evil = r#"{"error":"x","message":"\u001b[31mred\nline"}"#;
    for (sent, told) in [
        (answer("200 OK", "hello"), "its answer is invalid: "),
        (
            answer("200 OK", r#"{"service":"\u001b]0;evil\u0007"}"#),
            "`\u{fffd}]0;evil\u{fffd}` answers there, not a gateway",
        ),
        (answer("401 Unauthorized", evil), "\u{fffd}[31mred\u{fffd}line"),
        (answer("302 Found", ""), "it answered 302 Found"),
        (Some(endless), "its answer to /health is longer than "),
        (Some(b"nonsense\r\n\r\n".to_vec()), "the request failed: "),
        (None, "it does not answer in time"),
    ] {
        let (url, _heard) = impostor(sent).await;
        let began = Instant::now();
        let text = said(&status(&site, &["--url", &url], None).await, 2);
        assert!(text.contains(told) && text.lines().count() == 2, "{told:?} is not in {text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(began.elapsed() < PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_environment_is_sent_and_no_other() {
    let site = Site::empty().set("RELAYER_API__ADMIN_TOKEN", "admin-token-of-the-gateway");
    let (url, mut heard) = impostor(answer("401 Unauthorized", "")).await;
    let text = said(&status(&site, &["--url", &url], Some("read-token")).await, 2);
    assert!(text.contains("it answered 401") && !text.contains("read-token"), "{text}");
    let request = heard.recv().await.expect("a request");
    assert!(request.contains("authorization: Bearer read-token\r\n"), "{request}");
    said(&status(&site, &["--url", &url], None).await, 2);
    let request = heard.recv().await.expect("a request").to_lowercase();
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_explained() {
    let site = Site::empty();
    let text = said(&status(&site, &["--url", "127.0.0.1:8080"], None).await, 2);
    assert!(text.starts_with("--url: "), "{text}");
    let any_port = Site::empty().set("RELAYER_OUTPUT__WEBSOCKET_PORT", "0");
    let text = said(&status(&any_port, &[], None).await, 2);
    assert!(text.contains("use --url"), "{text}");
    let invalid = Site::empty().set("RELAYER_OUTPUT__BATCH_SIZE", "0");
    let output = status(&invalid, &[], None).await;
    assert_eq!(output.status.code(), Some(78));
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let text = said(&status(&invalid, &["--url", &format!("http://{free}")], None).await, 2);
    assert!(text.contains("cannot connect"), "{text}");
}

/// The commands get a token from the environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_readers_wants_a_token() {
    const TOKEN: &str = "token-of-the-status-test";
    let site = Site::empty();
    let narrow = "{ name = 'narrow', token = 'token-of-the-narrow-reader', kinds = [1] }";
    let site =
        site.set("RELAYER_API__READERS", format!("[{{ name = 'status', token = '{TOKEN}' }}, {narrow}]"));
    let running = site.start().await;
    running.until_healthy().await;
    for wrong in [None, Some("token-of-somebody-else")] {
        let text = said(&status(&site, &[], wrong).await, 2);
        let told = "; set MOLTRADE_RELAYER_TOKEN to the token of one of [[api.readers]], or to the admin_token of [api]";
        assert!(text.contains(told), "{text}");
    }
    let text = said(&status(&site, &[], Some("token-of-the-narrow-reader")).await, 2);
    assert!(text.contains("no state; use the token of a reader without them"), "{text}");
    let text = said(&status(&site, &[], Some(TOKEN)).await, 0);
    assert!(!text.contains(TOKEN), "{text}");
    let health = site.command().arg("health").output().expect("it runs");
    assert!(health.status.success(), "{health:?}");
}
