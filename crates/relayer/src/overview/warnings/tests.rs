//! Each warning appears for its cause, and disappears with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use strum::IntoEnumIterator;

use super::*;
use crate::event_log::{Cursor, LogId, Seq};
use crate::overview::reading::{Interval, Latencies};
use crate::relay::{Census, ConnectionState};

const RULES: &str = include_str!("../../../../../deploy/prometheus/rules.yml");

/// The figures of a gateway that needs nothing.
fn healthy() -> Figures {
    Figures {
        interval: Interval::default(),
        not_ready: None,
        log: LogId::random(),
        head: Cursor::from_number(20_000),
        floor: Seq::FIRST,
        log_bytes: 1 << 20,
        is_write_stopped: false,
        free_bytes: Some(100 << 20),
        min_free_bytes: 50 << 20,
        resident_bytes: Some(90),
        memory_limit_bytes: Some(100),
        is_clock_in_doubt: false,
        queue: (10, QUEUE_LONG_BYTES),
        relays: Census { total: 10, connected: 7, lag_secs: RELAYS_LAG_SECS_MAX, ..Census::default() },
        sinks: vec![sink("archive"), SinkFigures { lag: SINK_LAG_MAX, ..sink("live") }],
        clients: 0,
        event_streams: 0,
        consumers: 0,
        fanout: None,
        registry: Health::Up,
        panics: 0,
        log_lines_lost: 0,
    }
}

fn sink(name: &str) -> SinkFigures {
    SinkFigures {
        name: name.into(),
        state: SinkState::Live { since_ms: 0 },
        lag: 0,
        lost: 0,
        dead_letters: 0,
        dead_letters_dropped: 0,
    }
}

fn relay(name: &str) -> Arc<Peer> {
    Arc::new(Peer::new(format!("wss://{name}.example").parse().expect("a URL")))
}

fn quarantined(reason: &str) -> Group {
    let relay = relay("forger");
    relay.set_state(ConnectionState::Quarantined { until_ms: 0, reason: reason.to_owned() });
    Group { count: 1, first: Some(relay) }
}

fn slow(p99_ms: f64) -> Latency {
    Latency { p50_ms: Some(1.0), p99_ms: Some(p99_ms), samples: 100 }
}

type Cause = fn(&mut Figures);

/// A cause of each warning, and the warning in words.
const CAUSES: &[(Code, Cause, &str)] = &[
    (Code::Stopping, |figures| figures.not_ready = Some(NotReady::Stopping), "the gateway is stopping"),
    (
        Code::DiskFull,
        |figures| {
            figures.not_ready = Some(NotReady::DiskFull);
            // Says nothing else about the disk.
            figures.free_bytes = Some(0);
        },
        "the disk is full: ingest is paused and resumes by itself when there is room ([storage] min_free_bytes)",
    ),
    (
        Code::DiskLow,
        |figures| figures.free_bytes = Some((100 << 20) - 1),
        "the disk is almost full: 99 MiB are free, and ingest pauses below 50 MiB",
    ),
    (
        Code::DatabaseStalls,
        |figures| figures.is_write_stopped = true,
        "the database accepts no writes until it has compacted: the disk is too slow",
    ),
    (
        Code::MemoryHigh,
        |figures| (figures.resident_bytes, figures.memory_limit_bytes) = (Some(91 << 20), Some(100 << 20)),
        "the process uses 91 of the 100 MiB of memory that it may use",
    ),
    (Code::NoRelayConnected, |figures| figures.relays.connected = 0, "no relay is connected (10 wanted)"),
    (
        Code::SinkParked,
        |figures| {
            let reason = "it answered 401 Unauthorized".to_owned();
            figures.sinks[0].state = SinkState::Parked { since_ms: 0, reason };
        },
        "sink archive is parked: it answered 401 Unauthorized",
    ),
    (
        Code::SinkRetrying,
        |figures| {
            let reason = "connection refused".to_owned();
            figures.sinks[0].state = SinkState::Retrying { until_ms: 0, reason };
        },
        "sink archive is retrying: connection refused",
    ),
    (
        Code::RegistryDown,
        |figures| {
            figures.registry = Health::Down { since_ms: 0, reason: "it is unreachable", is_transient: true };
        },
        "the registry's database is down: nobody can register or subscribe (it is unreachable)",
    ),
    (
        Code::RegistryReadOnly,
        |figures| figures.registry = Health::ReadOnly { since_ms: 0 },
        "the registry's database is read-only: nobody can register or subscribe",
    ),
    (
        Code::ClockInDoubt,
        |figures| figures.is_clock_in_doubt = true,
        "the clock is in doubt, so nothing is deleted because of its age",
    ),
    (Code::RelaysDisconnected, |figures| figures.relays.connected = 6, "only 6 of 10 relays are connected"),
    (
        Code::RelaysSilent,
        |figures| figures.relays.silent = Group { count: 3, first: Some(relay("mute")) },
        "3 relays are silent: they are connected but send no events, while others do",
    ),
    (
        Code::RelaysSilent,
        |figures| figures.relays.silent = Group { count: 1, first: Some(relay("mute")) },
        "relay wss://mute.example is silent: it is connected but sends no events, while others do",
    ),
    (
        Code::RelaysQuarantined,
        |figures| figures.relays.states[StateName::Quarantined] = quarantined("bad signature"),
        "relay wss://forger.example is quarantined: bad signature",
    ),
    (
        Code::RelaysRefused,
        |figures| figures.relays.states[StateName::Refused].count = 2,
        "2 relays do not serve us, or may not be dialled",
    ),
    (
        Code::RelaysNeedAuthentication,
        |figures| figures.relays.states[StateName::NeedsAuthentication].count = 2,
        "2 relays require authentication that we cannot give",
    ),
    (
        Code::RelaysWithGaps,
        |figures| figures.relays.with_gaps.count = 4,
        "4 relays have gaps: spans of time whose events are not proven complete",
    ),
    (
        Code::RelaysLag,
        |figures| figures.relays.lag_secs = 30 * 3_600,
        "the watermark of a connected relay is 30 hours old",
    ),
    (
        Code::SinkPaused,
        |figures| figures.sinks[0].state = SinkState::Paused { since_ms: 0 },
        "sink archive is paused",
    ),
    (
        Code::SinkLags,
        |figures| figures.sinks[0].lag = SINK_LAG_MAX + 1,
        "sink archive is 10001 events behind",
    ),
    (
        Code::SinkLostEvents,
        |figures| figures.sinks[0].lost = 5,
        "sink archive lost 5 events: retention deleted them before it had them",
    ),
    (Code::DeadLetters, |figures| figures.sinks[0].dead_letters = 4, "sink archive has 4 dead letters"),
    (
        Code::DeadLettersDropped,
        |figures| figures.sinks[0].dead_letters_dropped = 2,
        "sink archive had 2 dead letters dropped for lack of space",
    ),
    (
        Code::CommitsSlow,
        |figures| figures.interval.latency.commit = slow(COMMITS_SLOW_MS + 1.0),
        "events are committed slowly (p99 of the last seconds: 501 ms)",
    ),
    (
        Code::DeliverySlow,
        |figures| figures.interval.latency.delivery = slow(DELIVERY_SLOW_MS + 1.0),
        "clients get events slowly (p99 of the last seconds: 1001 ms)",
    ),
    (
        Code::FanoutSlow,
        |figures| figures.interval.latency.fanout = slow(DELIVERY_SLOW_MS + 1.0),
        "followers get signals slowly (p99 of the last seconds: 1001 ms)",
    ),
    (
        Code::IngestBacklog,
        |figures| figures.queue = (9_000, QUEUE_LONG_BYTES + 1),
        "9000 events (23 MiB) wait to be committed; relays are read more slowly",
    ),
    (Code::Panics, |figures| figures.panics = 2, "panics, each a bug: 2; the log says where"),
    (
        Code::LogLinesLost,
        |figures| figures.log_lines_lost = 8,
        "8 log lines were lost: standard error is not read fast enough",
    ),
];

#[test]
fn each_warning_appears_for_its_cause_and_disappears_with_it() {
    let mut figures = healthy();
    assert_eq!(of(&figures), []);
    for (code, cause, message) in CAUSES {
        cause(&mut figures);
        let warnings = of(&figures);
        let [warning] = &*warnings else { panic!("{code:?}: {warnings:?}") };
        assert_eq!((warning.code, &*warning.message), (*code, *message));
        assert_eq!(warning.severity, code.severity());
        figures = healthy();
        assert_eq!(of(&figures), []);
    }
    let caused = BTreeSet::from_iter(CAUSES.iter().map(|(code, ..)| *code));
    assert_eq!(caused, BTreeSet::from_iter(Code::iter()), "each warning has a cause in this test");
}

#[test]
fn what_is_at_its_bound_or_unknown_is_no_reason_to_warn() {
    let fast = Latencies {
        commit: slow(COMMITS_SLOW_MS),
        delivery: slow(DELIVERY_SLOW_MS),
        fanout: slow(DELIVERY_SLOW_MS),
    };
    let mut figures = healthy();
    figures.interval.latency = fast;
    (figures.free_bytes, figures.resident_bytes) = (None, None);
    // A paused sink falls behind because the operator wants it to.
    figures.sinks[1].lag = 1 << 40;
    figures.sinks[1].state = SinkState::Connecting;
    figures.relays = Census::default();
    assert_eq!(of(&figures), []);
}

#[test]
fn problems_come_first_and_the_list_is_bounded() {
    let mut figures = healthy();
    let each: &[Cause] = &[
        |figures| figures.panics = 1,
        |figures| figures.relays.connected = 0,
        |figures| figures.is_clock_in_doubt = true,
        |figures| figures.log_lines_lost = 1,
    ];
    each.iter().for_each(|cause| cause(&mut figures));
    for index in 0..1_000 {
        let bad =
            SinkFigures { lost: 1, dead_letters: 1, dead_letters_dropped: 1, ..sink(&format!("s{index}")) };
        for state in [
            SinkState::Parked { since_ms: 0, reason: "gone".to_owned() },
            SinkState::Retrying { until_ms: 0, reason: "down".to_owned() },
            SinkState::Paused { since_ms: 0 },
        ] {
            figures.sinks.push(SinkFigures { state, ..bad.clone() });
        }
        figures.sinks.push(SinkFigures { lag: u64::MAX, ..bad });
    }
    let warnings = of(&figures);
    assert!(warnings.len() <= WARNINGS_MAX, "{}", warnings.len());
    assert!(warnings.is_sorted_by_key(|warning| warning.severity));
    let parked: Vec<_> = warnings.iter().filter(|warning| warning.code == Code::SinkParked).collect();
    assert_eq!(parked.len(), WARNINGS_OF_SINKS_MAX + 1);
    assert_eq!(parked[0].subject.as_deref(), Some("s0"));
    assert_eq!((&*parked[5].message, &parked[5].subject), ("995 more sinks are parked", &None));
}

#[test]
fn text_from_outside_is_bounded_and_cannot_leave_its_string() {
    let hostile = format!("\"}}],<script>alert(1)</script>\u{202e}\x1b[2J\n{}", "x".repeat(10_000));
    let mut figures = healthy();
    figures.relays.states[StateName::Quarantined] = quarantined(&hostile);
    figures.sinks[0].state = SinkState::Parked { since_ms: 0, reason: hostile };
    let text = serde_json::to_string(&of(&figures)).unwrap();
    assert!(text.len() < 2_000, "{}", text.len());
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown.as_array().map(Vec::len), Some(2));
    assert_eq!(shown[0]["subject"], "archive");
    let relay = &shown[1];
    assert_eq!((&relay["code"], &relay["severity"]), (&json!("relays_quarantined"), &json!("note")));
    let message = relay["message"].as_str().unwrap();
    let begins = "relay wss://forger.example is quarantined: \"}],<script>alert(1)</script>\u{fffd}\u{fffd}[2J\u{fffd}xxx";
    assert!(message.starts_with(begins), "{message}");
    assert!(message.ends_with("xxx…") && message.chars().count() < 300);
}

#[test]
fn the_bounds_are_those_of_the_alerts() {
    let seconds = |milliseconds: f64| milliseconds / 1_000.0;
    for bound in [
        format!("disk_free_bytes < {DISK_LOW_FACTOR} * disk_min_free_bytes"),
        format!("memory_usage_bytes / memory_limit_bytes > 0.{} ", MEMORY_HIGH_PERCENT / 10),
        format!("bytes_in_queue > {}e6\n", QUEUE_LONG_BYTES / 1_000_000),
        format!("sum without (state) (relays) < 0.{}\n", RELAYS_CONNECTED_PERCENT / 10),
        format!("relays_lag_seconds > {RELAYS_LAG_SECS_MAX}\n"),
        format!("downstream_lag_events > {SINK_LAG_MAX}\n"),
        format!("rate(processing_latency_seconds_bucket[5m])) > {}\n", seconds(COMMITS_SLOW_MS)),
        format!("rate(delivery_latency_seconds_bucket[5m])) > {}\n", seconds(DELIVERY_SLOW_MS)),
        format!("rate(fanout_latency_seconds_bucket[5m])) > {}\n", seconds(DELIVERY_SLOW_MS)),
    ] {
        assert!(RULES.contains(&bound), "no alert has the bound `{bound}`");
    }
}
