//! `[[api.readers]]`: every path without, with a wrong, with a narrower and with the right token.

use std::collections::BTreeSet;

use moltrade_relayer::config::{Config, ReaderConfig};
use relay_sim::wait::{until, within};
use serde_json::{Value, json};
use tokio_websockets::ClientBuilder;
use wire::Signer;

use crate::described::operations;
use crate::event_client::EventClient;
use crate::gateway::{Gateway, Response, Setup, request};

pub const ADMIN: &str = "token-of-the-operator";
pub const WHOLE: &str = "token-of-the-reader-of-all";
/// The reader of kind 7, and of one author.
pub const NARROW: &str = "token-of-the-narrow-reader";

/// The routes that serve callers without a token.
const OPEN: [(&str, &str); 9] = [
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/fanout"),
    ("GET", "/api/identity"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/docs"),
    ("GET", "/api/docs/{version}/{name}"),
    ("GET", "/"),
    ("GET", "/page/{version}/{file}"),
];

pub fn author() -> Signer {
    Signer::from_seed(1)
}

pub fn configured() -> String {
    format!(
        "[[api.readers]]\nname = 'whole'\ntoken = '{WHOLE}'\n[[api.readers]]\nname = 'narrow'\ntoken = '{NARROW}'\n\
         kinds = [7]\nauthors = ['{}']",
        author().pubkey()
    )
}

/// The readers in a configuration.
pub fn readers(text: &str) -> Vec<ReaderConfig> {
    let file = (std::path::Path::new("config.toml"), text);
    Config::parse(Some(file), []).unwrap_or_else(|errors| panic!("{errors}")).config.api.readers
}

pub async fn start() -> Gateway {
    let setup = Setup { api: configured(), admin_token: Some(ADMIN), ..Setup::default() };
    Gateway::start_with(setup).await
}

pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Sends a request, with a token unless it is empty.
pub async fn ask(gateway: &Gateway, method: &str, target: &str, token: &str) -> Response {
    let token = if token.is_empty() { "x-none: 1".to_owned() } else { bearer(token) };
    gateway.call(method, target, &["host: x", &token, "content-type: application/json"], "").await
}

pub async fn ticket(gateway: &Gateway, token: &str) -> String {
    let answer = ask(gateway, "POST", "/api/tickets", token).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["expires_in_seconds"], 30);
    answer["ticket"].as_str().unwrap().to_owned()
}

/// A route that is new must be in the right group of the route table, or in `OPEN`.
#[tokio::test(flavor = "multi_thread")]
async fn every_path_needs_the_right_token() {
    let gateway = start().await;
    let (mut reading, mut streams) = (0, 0);
    for (method, path, operation) in operations() {
        let route = (method.as_str(), path);
        let Some(security) = operation["security"].as_array() else {
            assert!(OPEN.contains(&route), "{route:?} serves anyone");
            continue;
        };
        assert!(!OPEN.contains(&route), "{route:?}");
        let schemes: BTreeSet<&str> =
            security.iter().flat_map(|one| one.as_object().unwrap().keys().map(String::as_str)).collect();
        if !schemes.contains("readToken") {
            // The operator's routes, and routes that require a proof.
            assert!(schemes.contains("adminToken"), "{route:?}");
            for token in ["", WHOLE, NARROW] {
                let answer = ask(&gateway, &method, &target(path), token).await;
                assert!([401, 403, 400].contains(&answer.status), "{route:?}: {}", answer.status);
            }
            continue;
        }
        reading += 1;
        let is_stream = operation["responses"]["200"]["content"]["text/event-stream"].is_object();
        streams += i32::from(is_stream);
        let target = target(path);
        for (token, code) in
            [("", "unauthorized"), ("token-of-somebody-else", "unauthorized"), ("é", "unauthorized")]
        {
            let answer = ask(&gateway, &method, &target, token).await;
            answer.error(401, code);
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"moltrade-relayer\""),
                "{route:?}"
            );
        }
        // A token has no place in the URL.
        for parameter in ["token", "access_token", "ticket"] {
            let separator = if target.contains('?') { '&' } else { '?' };
            let answer = ask(&gateway, &method, &format!("{target}{separator}{parameter}={WHOLE}"), "").await;
            assert_eq!(answer.status, 401, "{route:?}");
        }
        let narrow = ask(&gateway, &method, &target, NARROW).await;
        let codes = &operation["responses"]["403"]["content"]["application/json"]["schema"]["allOf"][1];
        let is_state = codes["properties"]["error"]["enum"].to_string().contains("reader_of_events_only");
        if is_state {
            narrow.error(403, "reader_of_events_only");
        } else {
            assert!(![401, 403, 429].contains(&narrow.status), "{route:?}: {}", narrow.text);
        }
        for token in [WHOLE, ADMIN] {
            let answer = ask(&gateway, &method, &target, token).await;
            assert!(![401, 403, 429].contains(&answer.status), "{route:?}: {}", answer.text);
            if method == "GET" {
                let separator = if target.contains('?') { '&' } else { '?' };
                let target = format!("{target}{separator}ticket={}", ticket(&gateway, token).await);
                let with_ticket = ask(&gateway, &method, &target, "").await;
                assert_eq!(with_ticket.status, answer.status, "{route:?}: {}", with_ticket.text);
                ask(&gateway, &method, &target, "").await.error(401, "ticket_invalid");
            }
        }
    }
    assert!(reading >= 15 && streams >= 1, "only {reading} routes are for readers");
}

fn target(path: &str) -> String {
    path.replace("{url}", "wss%3A%2F%2Frelay.example").replace(['{', '}'], "")
}

/// `/metrics` on its own port is for programs on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_port_needs_no_token_on_this_machine() {
    let gateway = start().await;
    let get = async |headers: &str| {
        request(gateway.metrics_address, &format!("GET /metrics HTTP/1.1\r\n{headers}\r\n")).await
    };
    assert_eq!(get("host: localhost:9090\r\n").await.status, 200);
    let whole = format!("{}\r\n", bearer(WHOLE));
    for foreign in ["host: gateway.example\r\n", "host: localhost\r\nx-forwarded-for: 192.0.2.1\r\n"] {
        get(foreign).await.error(401, "unauthorized");
        get(&format!("{foreign}{}\r\n", bearer(NARROW))).await.error(403, "reader_of_events_only");
        assert_eq!(get(&format!("{foreign}{whole}")).await.status, 200);
    }
    let setup = Setup { api: configured(), bind_address: [0, 0, 0, 0].into(), ..Setup::default() };
    let gateway = Gateway::start_with(setup).await;
    let get = async |headers: &str| {
        request(
            gateway.metrics_address,
            &format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"),
        )
        .await
    };
    get("").await.error(401, "unauthorized");
    assert_eq!(get(&whole).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_readers_nobody_needs_a_token() {
    let gateway = Gateway::start().await;
    for token in ["", "any"] {
        assert_eq!(ask(&gateway, "GET", "/status", token).await.status, 200);
        let ticket = ticket(&gateway, token).await;
        for _ in 0..2 {
            let target = format!("/api/events?ticket={ticket}");
            assert_eq!(ask(&gateway, "GET", &target, token).await.status, 200, "it is not needed");
        }
    }
    gateway.connect("?ticket=nonsense").await;
}

/// Appends events of two kinds and two authors. The narrow reader may see numbers 2 and 6.
async fn append_various(gateway: &Gateway) {
    let other = Signer::from_seed(2);
    let events = (1..=6u64).map(|seq| {
        let signer = if seq == 4 { &other } else { &gateway.signer };
        signer.sign(seq, if seq % 2 == 0 { 7 } else { 1 }, &[] as &[[&str; 0]], &format!("event {seq}"))
    });
    gateway.append(events.collect()).await;
}

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_reader_gets_only_what_it_may_see() {
    let gateway = start().await;
    append_various(&gateway).await;
    let author = gateway.signer.pubkey();
    let everyone = format!("&authors={author},{}", Signer::from_seed(2).pubkey());
    for (query, expected) in [
        ("", vec![2, 6]),
        ("&kinds=1,7", vec![2, 6]),
        ("&kinds=1", vec![]),
        (&everyone, vec![2, 6]),
        ("&filter=%7B%22kinds%22:[1,7]%7D", vec![2, 6]),
        ("&filter=%7B%22since%22:3%7D", vec![6]),
    ] {
        let page = ask(&gateway, "GET", &format!("/api/events?cursor=0{query}"), NARROW).await.json();
        assert_eq!((seqs(&page), &page["next_cursor"]), (expected.clone(), &json!(6)), "{query}");
        let headers = [bearer(NARROW)];
        let query = format!("?cursor=0{query}&format=envelope");
        let mut stream = EventClient::open(gateway.address, &query, &[&headers[0]]).await;
        assert_eq!(stream.block().await.unwrap().id, Some(0));
        stream.expect(expected.clone()).await;
        let mut socket = connect(&gateway, &query, &bearer(NARROW)).await.unwrap();
        for seq in expected {
            assert_eq!(next(&mut socket).await["seq"], seq, "{query}");
        }
    }
    // The selection also applies to live events: no other event came before this one.
    let mut socket = connect(&gateway, "?format=envelope", &bearer(NARROW)).await.unwrap();
    append_various(&gateway).await;
    assert_eq!([next(&mut socket).await["seq"].clone(), next(&mut socket).await["seq"].clone()], [8, 12]);

    let ids = ask(&gateway, "GET", "/api/events?cursor=0&limit=6", WHOLE).await.json();
    for event in ids["events"].as_array().unwrap() {
        let target = format!("/api/events/{}", event["event"]["id"].as_str().unwrap());
        assert_eq!(ask(&gateway, "GET", &target, WHOLE).await.status, 200);
        let answer = ask(&gateway, "GET", &target, NARROW).await;
        let unknown = ask(&gateway, "GET", &format!("/api/events/{}", "0".repeat(64)), NARROW).await;
        match event["seq"].as_u64().unwrap() {
            2 | 6 => assert_eq!(answer.status, 200),
            _ => assert_eq!((answer.status, &answer.text), (404, &unknown.text), "they look the same"),
        }
    }
}

pub type Socket = tokio_websockets::WebSocketStream<tokio_websockets::MaybeTlsStream<tokio::net::TcpStream>>;

/// Opens `/ws` with a further header.
pub async fn connect(
    gateway: &Gateway,
    query: &str,
    header: &str,
) -> Result<Socket, tokio_websockets::Error> {
    let (name, value) = header.split_once(": ").unwrap();
    let url = format!("ws://{}/ws{query}", gateway.address);
    let builder = ClientBuilder::new().uri(&url).unwrap();
    let builder = builder.add_header(name.parse().unwrap(), value.parse().unwrap()).unwrap();
    within("the handshake", builder.connect()).await.map(|(socket, _)| socket)
}

/// The next message.
pub async fn next(socket: &mut Socket) -> Value {
    use futures_util::StreamExt;
    let message = within("a message", socket.next()).await.unwrap().unwrap();
    serde_json::from_str(message.as_text().unwrap_or_else(|| panic!("{:?}", message.as_close()))).unwrap()
}

/// Reads until the close, and returns its code and reason.
pub async fn closed(socket: &mut Socket) -> (u16, String) {
    use futures_util::StreamExt;
    loop {
        let message = within("a close", socket.next()).await.unwrap().unwrap();
        if let Some((code, reason)) = message.as_close() {
            return (code.into(), reason.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_a_websocket_and_a_stream() {
    let gateway = start().await;
    append_various(&gateway).await;
    let query = format!("?cursor=0&ticket={}&format=envelope", ticket(&gateway, NARROW).await);
    let mut socket = connect(&gateway, &query, "x-none: 1").await.unwrap();
    assert_eq!(next(&mut socket).await["seq"], 2, "the ticket is as narrow as its token");
    gateway.refused(&format!("/ws{query}")).await.error(401, "ticket_invalid");
    let query = format!("?ticket={}&cursor=0", ticket(&gateway, WHOLE).await);
    let mut stream = EventClient::open(gateway.address, &query, &[]).await;
    assert_eq!(stream.block().await.unwrap().id, Some(0));
    stream.expect(1..=6).await;
    // A ticket permits only reading, and cannot be used to get further tickets.
    let unused = ticket(&gateway, WHOLE).await;
    for (method, path) in
        [("POST", "/api/tickets"), ("POST", "/api/config/reload"), ("DELETE", "/api/consumers/a")]
    {
        ask(&gateway, method, &format!("{path}?ticket={unused}"), "").await.error(401, "unauthorized");
    }
    // Only the first one counts, and the second one is no parameter.
    let two = format!("/api/events?ticket={unused}&ticket={unused}");
    ask(&gateway, "GET", &two, "").await.error(400, "unknown_parameter");
    let other = start().await;
    let foreign = ticket(&other, WHOLE).await;
    ask(&gateway, "GET", &format!("/api/events?ticket={foreign}"), "").await.error(401, "ticket_invalid");
    assert_eq!(ask(&other, "GET", &format!("/api/events?ticket={foreign}"), "").await.status, 200);
}

/// A ticket does not replace the check of the page's origin.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_needs_an_allowed_origin_as_before() {
    let api = "allowed_origins = ['https://app.example']\n".to_owned() + &configured();
    let gateway = Gateway::start_with(Setup {
        api,
        admin_token: Some(ADMIN),
        api_origins: vec!["https://app.example"],
        ..Setup::default()
    })
    .await;
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\norigin: https://evil.example";
    let target = format!("/ws?consumer=a&ticket={}", ticket(&gateway, WHOLE).await);
    let answer = gateway.call("GET", &target, &["host: x", upgrade], "").await;
    answer.error(403, "origin_not_allowed");
    // The preflight of a listed page, and a refusal that it can read.
    let preflight = [
        "host: x",
        "origin: https://app.example",
        "access-control-request-method: POST",
        "access-control-request-headers: authorization",
    ];
    let answer = gateway.call("OPTIONS", "/api/tickets", &preflight, "").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    let allowed = answer.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(allowed.contains("authorization"), "{allowed}");
    let answer = gateway.call("POST", "/api/tickets", &["host: x", "origin: https://app.example"], "").await;
    answer.error(401, "unauthorized");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
}

/// Replacing the readers closes the connections of removed readers and anonymous clients only.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_changed_readers_are_closed() {
    let gateway = start().await;
    let mut kept = connect(&gateway, "", &bearer(NARROW)).await.unwrap();
    let mut removed = connect(&gateway, "?consumer=a", &bearer(WHOLE)).await.unwrap();
    let mut stream = EventClient::open(gateway.address, "", &[&bearer(WHOLE)]).await;
    until("they are counted", || {
        let text = gateway.metrics_text();
        text.contains("reader_connections{reader=\"whole\"} 2")
            && text.contains("reader_connections{reader=\"narrow\"} 1")
    })
    .await;
    let narrow = configured().split_off(configured().rfind("[[").unwrap());
    let replaced = gateway.readers.replace(&readers(&narrow));
    assert_eq!((replaced.added, replaced.changed, replaced.removed), (0, 0, 1));
    let reason = "reading needs a token that is valid now";
    assert_eq!(closed(&mut removed).await, (1008, reason.to_owned()));
    stream.block().await.unwrap();
    let (_, close, _) = stream.until_closed().await;
    assert_eq!(close.unwrap().json()["close"], json!({ "code": 1008, "reason": reason }));
    ask(&gateway, "GET", "/status", WHOLE).await.error(401, "unauthorized");
    assert!(!gateway.metrics_text().contains("reader=\"whole\""));
    gateway.append(vec![author().sign(7, 7, &[] as &[[&str; 0]], "still there")]).await;
    assert_eq!(next(&mut kept).await["content"], "still there");

    let gateway = Gateway::start().await;
    let mut anonymous = connect(&gateway, "", "x-none: 1").await.unwrap();
    gateway.readers.replace(&readers(&narrow));
    assert_eq!(closed(&mut anonymous).await, (1008, reason.to_owned()));
    assert!(gateway.metrics_text().contains("websocket_clients_closed_total{reason=\"revoked\"} 1"));
}

/// A stream that ignored its reader's removal would never end.
#[tokio::test(flavor = "multi_thread")]
async fn every_stream_ends_with_its_reader() {
    let is_stream =
        |operation: &Value| operation["responses"]["200"]["content"]["text/event-stream"].is_object();
    for (_, path, _) in operations().filter(|(_, _, operation)| is_stream(operation)) {
        let gateway = start().await;
        let mut stream = EventClient::open_path(gateway.address, path, &[&bearer(WHOLE)]).await;
        gateway.readers.replace(&[]);
        let ended = async { while stream.raw_block().await.is_ok() {} };
        within(&format!("the end of {path}"), ended).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted() {
    let gateway = start().await;
    ask(&gateway, "GET", "/status", "").await.error(401, "unauthorized");
    ask(&gateway, "GET", "/api/events", "token-of-somebody-else").await.error(401, "unauthorized");
    ask(&gateway, "GET", "/api/events?ticket=x", WHOLE).await.error(401, "ticket_invalid");
    ask(&gateway, "GET", "/status", NARROW).await.error(403, "reader_of_events_only");
    ask(&gateway, "GET", "/status", WHOLE).await;
    let text = gateway.metrics_text();
    for line in [
        "reads_refused_total{reason=\"no_token\"} 1",
        "reads_refused_total{reason=\"wrong_token\"} 1",
        "reads_refused_total{reason=\"wrong_ticket\"} 1",
        "reads_refused_total{reason=\"events_only\"} 1",
        "reads_refused_total{reason=\"too_many_requests\"} 0",
        "reader_requests_total{reader=\"whole\"} 1",
        "reader_requests_total{reader=\"narrow\"} 1",
        "reader_connections{reader=\"whole\"} 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
}
