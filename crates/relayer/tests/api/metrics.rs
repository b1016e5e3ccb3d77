//! `/metrics`, and the same metrics as JSON.

use std::collections::BTreeSet;

use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::{ConnectionState, Coverage};
use relay_sim::wait::until_async;
use serde_json::Value;

use crate::gateway::{Gateway, Setup, next, request};

const API: &str = include_str!("../../../../docs/API.md");
const FANOUT: &str = include_str!("../../../../docs/fanout.md");

/// The metrics that exist are exactly those in docs/API.md.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_the_documentation_says() {
    let section = API.split("<!-- metrics -->").nth(1).expect("the table of metrics");
    let mut documented: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let api = crate::readers::configured();
    let gateway = Gateway::start_with(Setup { api, ..Setup::default() }).await;
    let text = gateway.metrics_text();
    let mut there: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    documented.sort_unstable();
    there.sort_unstable();
    assert_eq!(there, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_label_is_there_from_the_beginning() {
    let gateway = Gateway::start_with(Setup { supervised: false, ..Setup::default() }).await;
    let answer = gateway.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = answer.text;
    assert!(text.ends_with("# EOF\n"));
    for reason in DropReason::ALL {
        let line = format!("\nevents_dropped_total{{reason=\"{}\"}} 0\n", reason.label());
        assert!(text.contains(&line), "{line}");
    }
    let listed = documented_labels();
    assert!(listed.len() >= 7, "{listed:?}");
    for (metric, label, values) in &listed {
        let prefix = format!("{metric}{{{label}=\"");
        let there = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
        assert_eq!(there.collect::<BTreeSet<_>>(), *values, "{metric}");
    }
    for state in [
        "connecting",
        "backfilling",
        "live",
        "backing_off",
        "needs_authentication",
        "refused",
        "quarantined",
        "stopped",
    ] {
        let line = format!("\nrelays{{state=\"{state}\"}} {}\n", u8::from(state == "connecting"));
        assert!(text.contains(&line), "{line}");
    }
    for (figure, _) in gateway.log.store().figures() {
        assert!(text.contains(&format!("\nrocksdb{{figure=\"{figure}\"}} ")), "{figure}");
    }
}

/// The label values that docs/API.md lists: metric, label, values.
fn documented_labels() -> Vec<(&'static str, &'static str, BTreeSet<&'static str>)> {
    let table = API.split("<!-- metrics -->").nth(1).expect("the table of metrics");
    let of_row = |row: &'static str| {
        let (metric, meaning) = row.strip_prefix("| `")?.split_once("` | ")?;
        let (label, values) = meaning.split_once(" by `")?.1.split_once("`: ")?;
        // Every second part is in backticks; remarks in brackets explain a value.
        let words = values.split(['(', ')']).step_by(2).flat_map(|part| part.split('`').skip(1).step_by(2));
        Some((metric, label, words.collect()))
    };
    table.lines().filter_map(of_row).collect()
}

/// A refusal is counted under the `error` code of its response, so a label that is not a code would
/// count nothing.
#[test]
fn the_reasons_of_refused_clients_are_error_codes() {
    let refused: Vec<_> =
        documented_labels().into_iter().filter(|row| row.0.ends_with("clients_refused_total")).collect();
    assert_eq!(refused.len(), 2);
    let is_status = |cell: &str| cell.len() == 3 && cell.parse::<u16>().is_ok();
    let rows =
        API.lines().chain(FANOUT.lines()).filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let codes = rows.filter(|(first, _)| is_status(first)).filter_map(|(_, rest)| rest.split(" | ").next());
    let codes: String = codes.collect();
    for (metric, _, reasons) in refused {
        for reason in reasons {
            assert!(codes.contains(&format!("`{reason}`")), "{metric}: {reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_the_coverage_of_relays() {
    let relays = vec!["wss://a.example", "wss://b.example", "wss://c.example", "wss://d.example"];
    let gateway = Gateway::start_with(Setup { relays, supervised: false, ..Setup::default() }).await;
    let now = unix_ms() / 1000;
    let (live, away) = (
        ConnectionState::Live { since_ms: 1 },
        ConnectionState::BackingOff { until_ms: 1, reason: "closed".to_owned() },
    );
    // One relay is complete, one has two gaps, one was complete long ago and is disconnected, and
    // one is unknown.
    let mut whole = Coverage::first_contact([], now - 900, now - 10);
    whole.prove(now - 900, now - 10);
    let mut torn = Coverage::first_contact([], now - 900, now - 10);
    torn.prove(now - 900, now - 600);
    torn.prove(now - 500, now - 400);
    let mut old = Coverage::first_contact([], now - 9_000, now - 8_000);
    old.prove(now - 9_000, now - 8_000);
    let peers = gateway.pool.peers();
    for (peer, (state, coverage)) in peers.iter().zip([(&live, whole), (&live, torn), (&away, old)]) {
        peer.set_state(state.clone());
        peer.restore_coverage(coverage, gateway.log.clock().now());
    }
    let text = gateway.get("/metrics").await.text;
    for line in [
        "active_connections 2",
        "relays{state=\"live\"} 2",
        "relays{state=\"backing_off\"} 1",
        "relays{state=\"connecting\"} 1",
        "relay_gaps 2",
        "relays_with_gaps 1",
        "relays_proven 2",
        "relays_silent 0",
        "repairs 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    let lag = text.lines().find_map(|line| line.strip_prefix("relays_lag_seconds "));
    let lag: u64 = lag.expect("it is there").parse().unwrap();
    assert!((600..=600 + unix_ms() / 1000 - now).contains(&lag), "{lag}: since the first gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_counted() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(10).await;
    let mut client = gateway.connect("?cursor=5&format=event").await;
    gateway.append_numbered(10).await;
    for _ in 6..=20 {
        next(&mut client).await;
    }
    // Events are counted after they are sent, so the client may receive an event before it is
    // counted.
    let mut metrics = String::new();
    until_async("15 messages are counted", async || {
        metrics = gateway.get("/metrics").await.text;
        metrics.contains("\nwebsocket_messages_total 15\n")
    })
    .await;
    assert!(metrics.contains("\nwebsocket_clients 1\n"), "{metrics}");
    assert!(metrics.contains("\nlog_head_seq 20\n") && metrics.contains("\nlog_floor_seq 1\n"));
    let observed = metrics.lines().find_map(|line| line.strip_prefix("delivery_latency_seconds_count "));
    assert_ne!(observed, Some("0"), "live events are measured");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_port_has_metrics_and_nothing_else() {
    let gateway = Gateway::start().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let metrics = request(gateway.metrics_address, &get("/metrics")).await;
    assert!(metrics.status == 200 && metrics.text.contains("\nevents_processed_total 0\n"));
    for path in ["/", "/health", "/ws", "/api/events"] {
        request(gateway.metrics_address, &get(path)).await.error(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_come_as_json_too() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(10).await;
    let summary = gateway.get("/api/metrics/summary").await.json();
    for key in ["duplicates_filtered_total", "events_in_queue", "active_connections"] {
        assert_eq!(summary[key], 0, "{key}");
    }
    assert_eq!(summary["events_processed_total"], 10);
    assert!(summary["memory_usage_mb"].as_f64().unwrap() > 1.0);
    assert_eq!(summary["log_head_seq"], 10);
    let memory = gateway.get("/api/metrics/memory").await.json();
    assert!(memory["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(memory["tail"]["events"], 10);
    assert_eq!(memory["bloom"]["generations"], 1);
    for (part, figure) in
        [("tail", "bytes"), ("bloom", "bytes"), ("hotset", "bytes"), ("rocksdb", "memtables_bytes")]
    {
        assert!(memory[part][figure].as_u64().unwrap() > 0, "{part}.{figure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_the_memory_add_up_to_the_resident_memory() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(10).await;
    let _client = gateway.connect("?cursor=0").await;
    let memory = gateway.get("/api/metrics/memory").await.json();
    let bytes = |path: &str| {
        memory.pointer(path).and_then(Value::as_i64).unwrap_or_else(|| panic!("{path} is not in {memory}"))
    };
    let parts: i64 = [
        "/program/bytes",
        "/tail/bytes",
        "/bloom/bytes",
        "/hotset/bytes",
        "/lru/bytes",
        "/in_flight/bytes",
        "/queue/bytes",
        "/relay_connections/bytes",
        "/websocket_clients/bytes",
        "/fanout/bytes",
        "/rocksdb/block_cache_bytes",
        "/rocksdb/memtables_bytes",
        "/rocksdb/table_readers_bytes",
    ]
    .map(bytes)
    .iter()
    .sum();
    assert_eq!(parts, bytes("/accounted_bytes"));
    assert_eq!(parts + bytes("/unaccounted_bytes"), bytes("/resident_bytes"));
    assert_eq!(bytes("/websocket_clients/bytes"), 20 << 10);
    assert!(bytes("/rocksdb/block_cache_pinned_bytes") <= bytes("/rocksdb/block_cache_bytes"));
    assert!(bytes("/limit_bytes") >= bytes("/resident_bytes"));

    let text = gateway.get("/metrics").await.text;
    let value = |name: &str| -> i64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    let parts: i64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("memory_part_bytes{")?.split(' ').nth(1))
        .map(|bytes| bytes.parse::<i64>().unwrap())
        .sum();
    assert_eq!(parts + value("memory_unaccounted_bytes"), value("memory_usage_bytes"));
    assert_eq!(value("memory_part_bytes{part=\"websocket_clients\"}"), 20 << 10);
    assert!(value("memory_limit_bytes") >= value("memory_usage_bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_have_their_figures_of_disk_and_process() {
    let gateway = Gateway::start().await;
    let text = gateway.get("/metrics").await.text;
    let value = |name: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    assert!(value("disk_free_bytes") > value("disk_min_free_bytes"), "{text}");
    let started = value("process_start_time_seconds");
    assert!((unix_ms() / 1000 - 600..=unix_ms() / 1000).contains(&started), "{started}");
}
