//! Invariant 8 for read tokens and tickets: a whole run at the most verbose log level.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::client::Api;
use crate::http::{Request, Response};
use crate::program::Site;
use crate::secrets::{Needles, rows};

const TOKEN: &str = "Read-T0ken-in-the-configuration-zq91";
const FILED: &str = "Read-T0ken-in-a-file-zq92";
const WRONG: &str = "Read-T0ken-of-nobody-zq93";
const ADMIN: &str = "Adm1n-T0ken-of-the-readers-zq94";

async fn ask(api: &Api, method: &str, path: &str, token: &str) -> Response {
    api.send(Request::new(method, path).header("Authorization", format!("Bearer {token}"))).await
}

/// Returns a new ticket.
async fn ticket(api: &Api, token: &str) -> String {
    let answer = ask(api, "POST", "/api/tickets", token).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    body["ticket"].as_str().expect("a ticket").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_no_token_and_no_ticket_of_a_reader_leaks() {
    for format in ["text", "json"] {
        let site = Site::empty().set("RELAYER_MONITORING__LOG_FORMAT", format);
        run(&site).await;
    }
}

async fn run(site: &Site) {
    // Outside of the folder that is searched.
    let secrets = tempfile::TempDir::new().expect("a folder");
    let file = secrets.path().join("token");
    fs::write(&file, FILED).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let readers = format!(
        "[{{ name = 'one', token = '{TOKEN}', kinds = [1] }}, {{ name = 'two', token_file = '{}' }}]",
        file.display()
    );
    let environment = [
        ("RUST_LOG", "trace".to_owned()),
        ("RELAYER_API__READERS", readers),
        ("RELAYER_API__ADMIN_TOKEN", ADMIN.to_owned()),
    ];
    let mut running = site.start_with(&environment).await;
    running.until_healthy().await;
    let api = Api::of(site);
    let mut answers = String::new();
    let mut needles = Needles::default();
    for (what, secret) in [
        ("the token", TOKEN),
        ("the filed token", FILED),
        ("the wrong token", WRONG),
        ("the admin token", ADMIN),
    ] {
        needles.add(what, secret.as_bytes());
    }
    let mut tickets = Vec::new();
    for token in [TOKEN, FILED, ADMIN] {
        let ticket = ticket(&api, token).await;
        for path in ["/api/events?cursor=0&", "/api/events?", "/ws?", "/status?x=1&"] {
            let target = format!("{path}ticket={ticket}");
            let answer = api.send(Request::upgrade(&target)).await;
            answers += &format!("{}\n{}\n", answer.head, answer.body);
        }
        // One that is used for the WebSocket, one in the wrong place, and one that stays unused.
        let used = self::ticket(&api, token).await;
        let answer = api.send(Request::upgrade(&format!("/ws?ticket={used}"))).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        let misplaced = self::ticket(&api, token).await;
        for answer in [
            ask(&api, "GET", "/api/events", &misplaced).await,
            api.send(Request::new("GET", &format!("/api/events?token={misplaced}"))).await,
        ] {
            assert_eq!(answer.status, 401);
            answers += &format!("{}\n{}\n", answer.head, answer.body);
        }
        tickets.extend([ticket, used, misplaced, self::ticket(&api, token).await]);
    }
    for token in [TOKEN, FILED, WRONG, ADMIN] {
        for path in ["/status", "/metrics", "/api/events?cursor=0", "/api/consumers"] {
            let answer = ask(&api, "GET", path, token).await;
            answers += &format!("{}\n{}\n", answer.head, answer.body);
        }
        for path in ["/api/events?token=", "/api/events?ticket="] {
            let answer = api.send(Request::new("GET", &format!("{path}{token}"))).await;
            assert_eq!(answer.status, 401);
            answers += &format!("{}\n{}\n", answer.head, answer.body);
        }
    }
    for ticket in &tickets {
        needles.add("a ticket", ticket.as_bytes());
    }
    // The output of `check-config`, and its errors.
    let printed = |readers: String| {
        let output = site.command().arg("check-config").env("RELAYER_API__READERS", readers).output();
        let output = output.expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let shown = printed(format!("[{{ name = 'one', token = '{TOKEN}' }}]"));
    assert!(shown.contains("token = \"***\""), "{shown}");
    answers += &shown;
    for wrong in [
        TOKEN.to_owned(),
        format!("['{TOKEN}']"),
        format!("[{{ name = 'a', token = ['{TOKEN}'] }}]"),
        format!("[{{ name = 'a', token = 'short {WRONG}' }}]"),
        format!("[{{ name = 'a', tokn = '{TOKEN}' }}]"),
        format!("[{{ name = 'a', token_file = '{WRONG}' }}]"),
        format!("[{{ name = 'a', token = '{TOKEN}' }}, {{ name = 'b', token = '{TOKEN}' }}]"),
        format!("[{{ name = 'a', token = '{TOKEN}'"),
    ] {
        let shown = printed(wrong.clone());
        assert!(shown.contains("api.readers"), "{wrong}: {shown}");
        answers += &shown;
    }
    assert!(answers.contains("reader_requests_total{reader=\"one\"}"), "the answers are not searched");
    needles.search("the answers", answers.as_bytes());
    running.signal("TERM");
    assert!(running.ended().await.success());
    let log = running.stderr();
    assert!(log.contains("wrong_ticket") && log.contains("wrong_token"), "the log is not searched");
    needles.search("the log", log.as_bytes());
    needles.search("rows of RocksDB", &rows(&site.log_path()));
}
