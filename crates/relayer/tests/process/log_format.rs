//! `[monitoring] log_format = "json"`: every line is a JSON object, whatever happens to the
//! program.

use std::collections::BTreeSet;
use std::net::TcpListener;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use relay_sim::{Fault, Garbage, Sim, Who};
use serde_json::Value;

use crate::program::Site;

const KEY: &str = "RELAYER_MONITORING__LOG_FORMAT";

/// What a sink answers: a line break, quotes, an escape sequence of terminals, and a character that
/// reverses text.
const HOSTILE: &str = "no\r\n{\"event\":\"forged\"} \u{1b}[31m \u{202e}txet";

/// Parses every line, checks its keys, and returns the lines.
#[track_caller]
fn parsed(log: &str) -> Vec<Value> {
    let parse = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut keys: BTreeSet<&str> =
            object.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.remove("event");
        assert_eq!(keys, BTreeSet::from(["fields", "level", "message", "target", "timestamp"]), "{line}");
        let timestamp = object["timestamp"].as_str().expect("a text");
        let shape: String =
            timestamp.chars().map(|digit| if digit.is_ascii_digit() { '0' } else { digit }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        object
    };
    log.lines().map(parse).collect()
}

fn events(lines: &[Value]) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line["event"].as_str()).collect()
}

#[track_caller]
fn only<'a>(lines: &'a [Value], event: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["event"] == event);
    found.next().unwrap_or_else(|| panic!("{event} is not among {:?}", events(lines)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_whole_run_is_json() {
    let sim = Sim::builder().seed(90).relays(3).events(300).copies(1).stored(1.0);
    let sim = sim.fault(Fault::Garbage(Garbage::InvalidJson), Who::These(vec![0]), 0.5);
    let sim = sim.start().await.expect("starts");
    let hooks = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hook = hooks.local_addr().expect("bound");
    let answers = Router::new()
        .route("/refuses", post(async || (StatusCode::BAD_REQUEST, HOSTILE)))
        .route("/gone", post(async || (StatusCode::GONE, HOSTILE)));
    let _hooks = tokio::spawn(async { axum::serve(hooks, answers).await });
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");

    let site = Site::empty().unset("RELAY_URLS").unset("RELAYER_RELAY__MAX_OFFENCES_PER_HOUR");
    let site = site.set("MOLTRADE_CRASH_POINT", "reload:3:panic");
    let configure = |batch: &str| {
        let (urls, text) = (sim.urls(), "log_format = \"json\"");
        let sinks = format!(
            "downstream_tcp = [\"{tcp}\"]\ndownstream_rest = [\"http://{hook}/refuses\", \"http://{hook}/gone\"]"
        );
        let text = format!(
            "[relay]\nbootstrap_relays = {urls:?}\nmax_offences_per_hour = 10\n[monitoring]\n{text}\n[output]\n{batch}\n{sinks}\n"
        );
        std::fs::write(site.folder().join("config.toml"), text).expect("written");
    };
    configure("batch_size = 50");
    let mut running = site.start().await;
    for event in ["relay_quarantined", "sink_parked", "dead_letter_written", "sink_retrying"] {
        running.until_stderr_contains(&format!("\"event\":\"{event}\"")).await;
    }
    configure("batch_size = 60");
    running.signal("HUP");
    running.until_stderr_contains("\"event\":\"restart_required\"").await;
    configure("batch_size = \"\u{1b}[31m\"");
    running.signal("HUP");
    running.until_stderr_contains("\"event\":\"reload_failed\"").await;
    running.signal("HUP");
    running.until_stderr_contains("\"event\":\"panic\"").await;
    running.until_stderr_contains("was not reloaded, the old one stays in effect: task").await;
    running.signal("TERM");
    assert!(running.ended().await.success());

    let lines = parsed(&running.stderr());
    let expected = [
        "starting",
        "log_opened",
        "relays_wanted",
        "listening",
        "relay_connected",
        "relay_quarantined",
        "sink_parked",
        "dead_letter_written",
        "sink_retrying",
        "config_reloaded",
        "restart_required",
        "reload_failed",
        "panic",
        "stopping",
        "sink_stopped",
        "stopped",
    ];
    let events = events(&lines);
    assert!(expected.iter().all(|event| events.contains(event)), "{events:?}");
    let parked = only(&lines, "sink_parked");
    assert_eq!(
        (&parked["level"], &parked["target"]),
        (&"ERROR".into(), &"moltrade_relayer::sink::worker".into())
    );
    assert!(parked["fields"]["reason"].as_str().is_some_and(|reason| reason.contains("410")), "{parked}");
    assert!(only(&lines, "log_opened")["fields"]["head"].is_u64(), "numbers are numbers");
}

/// Starts the program, which ends by itself, and returns the last line of its log.
#[track_caller]
fn last_line(site: &Site, arguments: &[&str], code: i32) -> Value {
    let output = site.run_with(arguments);
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{log}");
    parsed(&log).pop().expect("a line")
}

#[test]
fn a_failed_start_is_json_too() {
    let json = || Site::empty().set(KEY, "json");
    let site = json();
    let _taken = TcpListener::bind(("127.0.0.1", site.port())).expect("free");
    let line = last_line(&site, &[], 1);
    assert_eq!(line["event"], "failed", "{line}");
    assert!(line["message"].as_str().unwrap().starts_with("cannot listen on 127.0.0.1:"), "{line}");

    let line = last_line(&json().set("RELAYER_OUTPUT__BATCH_SIZE", "0"), &[], 78);
    assert_eq!(
        (&line["event"], &line["fields"]["key"]),
        (&"config_invalid".into(), &"output.batch_size".into())
    );
    let line = last_line(&json(), &["--config", "missing.toml"], 78);
    assert!(
        line["message"].as_str().unwrap().contains("missing.toml: the configuration file cannot be read")
    );

    // A file with broken syntax still says how it wants its problems to be reported.
    let site = Site::empty();
    let file = site.folder().join("config.toml");
    std::fs::write(&file, "[monitoring]\nlog_format = \"json\"\n[output]\nbatch_size = = 5\n")
        .expect("written");
    let line = last_line(&site, &[], 78);
    assert_eq!(
        (&line["event"], &line["fields"]["place"]),
        (&"config_invalid".into(), &"config.toml:4:16".into())
    );
    let text = site.run_with(&["check-config"]);
    assert!(text.stderr.starts_with(b"config.toml:4:14: "), "other commands report to people");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_panics_and_an_abort_are_json_too() {
    for (points, expected) in [
        ("before_commit:3:panic", ["panic", "stage_failed", "failed"]),
        ("before_commit:3:panic,panic:1:hang", ["starting", "listening", "aborting"]),
    ] {
        let sim = Sim::builder().seed(91).relays(1).events(2_000).copies(1).per_second(500.0);
        let sim = sim.start().await.expect("starts");
        let site = Site::on(&sim).set(KEY, "json");
        let mut running = site.start_with(&[("MOLTRADE_CRASH_POINT", points.to_owned())]).await;
        assert!(!running.ended().await.success());
        let lines = parsed(&running.stderr());
        for event in expected {
            assert_eq!(
                only(&lines, event)["target"].as_str().unwrap().split("::").next(),
                Some("moltrade_relayer")
            );
        }
    }
}
