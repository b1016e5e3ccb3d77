//! The screen with fixed figures.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::status::{Answers, Figures, Sink};
use crate::top::sample::{Consumer, Relay, RelayQuery, Relays};

const METRICS: &str = "\
frames_received_total 900
events_processed_total 250
duplicates_filtered_total{layer=\"hotset\"} 640
events_dropped_total{reason=\"too_old\"} 9
websocket_messages_total 750
relays{state=\"live\"} 39
relays{state=\"backfilling\"} 2
relays{state=\"backing_off\"} 8
relays{state=\"refused\"} 1
log_head_seq 250
log_floor_seq 1
websocket_clients 3
fanout_clients 12
memory_usage_bytes 50331648
disk_free_bytes 128849018880
registry_up 1
processing_latency_seconds_bucket{le=\"0.001\"} 100
processing_latency_seconds_bucket{le=\"0.01\"} 100
processing_latency_seconds_bucket{le=\"+Inf\"} 100
";

/// The same gateway two seconds later.
const LATER: &str = "\
frames_received_total 3500
events_processed_total 330
duplicates_filtered_total{layer=\"hotset\"} 3160
events_dropped_total{reason=\"too_old\"} 10
websocket_messages_total 910
relays{state=\"live\"} 39
relays{state=\"backfilling\"} 2
relays{state=\"backing_off\"} 8
relays{state=\"refused\"} 1
log_head_seq 123330
log_floor_seq 1
websocket_clients 3
fanout_clients 12
memory_usage_bytes 50331648
disk_free_bytes 128849018880
registry_up 1
processing_latency_seconds_bucket{le=\"0.001\"} 140
processing_latency_seconds_bucket{le=\"0.01\"} 180
processing_latency_seconds_bucket{le=\"+Inf\"} 180
";

fn relay(url: &str, status: &str, reason: Option<&str>, first: u64) -> Relay {
    Relay {
        url: url.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        first,
        copies: first * 12,
        gaps: 1,
        late_ms: (first > 0).then_some(31.5),
        rtt_ms: (first > 0).then_some(48.2),
        refused: [("too_old".to_owned(), 7)].into(),
    }
}

fn sink(name: &str, status: &str, lag: u64, delivered: u64) -> Sink {
    let (name, status, kind) = (name.to_owned(), status.to_owned(), "http".to_owned());
    let reason = if status == "parked" { "it answered 410 Gone".to_owned() } else { String::new() };
    Sink { name, status, reason, lag, lag_seconds: lag as f64 / 3.0, dead_letters: lag / 50, kind, delivered }
}

fn sample(at: Instant, metrics: &str, first: u64) -> Sample {
    let sinks = vec![sink("archive", "live", 2, 100 + first), sink("analytics", "parked", 120, 7)];
    let answers = Answers {
        version: "0.1.0".to_owned(),
        log: "5b1f08c2a94e7d36".parse().ok(),
        not_ready: None,
        uptime_seconds: 11_520,
        figures: Figures::parse(metrics),
        sinks,
    };
    let relays = vec![
        relay("wss://relay.damus.io/", "live", None, 40_000 + first),
        relay("wss://nos.lol/", "backfilling", None, 12_345),
        relay("wss://a-relay-with-a-long-name.example.org/path", "live", None, 9),
        relay("ws://127.0.0.1:7777/", "backing_off", Some("TCP: Connection refused (os error 111)"), 0),
        relay("wss://hostile.example/", "quarantined", Some("\x1b]0;owned\x07\u{202e}evil\r\n"), 3),
    ];
    let consumers =
        vec![Consumer { name: "indexer".to_owned(), cursor: 248 + first, lag: 2, connected: true }];
    Sample { at, answers, asked: RelayQuery::default(), relays: Relays { total: 50, relays }, consumers }
}

fn model() -> Model {
    let begin = Instant::now();
    let mut model = Model::new("http://127.0.0.1:8080".to_owned());
    model.update(Ok(sample(begin, METRICS, 0)));
    model.update(Ok(sample(begin + Duration::from_secs(2), LATER, 80)));
    model
}

fn drawn(model: &Model, view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no I/O");
    let theme = Theme { colors: false };
    let draw = |frame: &mut ratatui::Frame<'_>| {
        draw(model, view, theme, frame.buffer_mut());
    };
    terminal.draw(draw).expect("no I/O");
    terminal
}

fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(buffer.area.width.into());
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
        .collect()
}

const SCREEN: &str = "\
\x20moltrade-relayer 0.1.0 at http://127.0.0.1:8080                  up 3 h 12 min
log       5b1f08c2a94e7d36, events 1 to 123,330, 0 in the queue
relays    41 of 50 connected: 2 backfilling, 8 backing off, 39 live, 1 refused
clients   3 of /ws, 12 of /fanout; memory 48 MiB, disk 120 GiB free
latency   to commit p50 1.0 ms, p99 9.8 ms
sink analytics is parked: it answered 410 Gone
frames       1,300/s                                               █   max 1,300
new             40/s                                               █      max 40
copies       1,260/s                                               █   max 1,260
refused        0.5/s                                               █     max 0.5
delivered       80/s                                               █      max 80
›RELAYS 1-7 of 50    STATE        NEW/S  FIRST▼  COPIES    LATE     RTT  REFUSED
relay.damus.io       live            40  40,080    480k   32 ms   48 ms        7
nos.lol              backfilling      0  12,345    148k   32 ms   48 ms        7
a-relay-with-a-long… live             0       9     108   32 ms   48 ms        7
ws://127.0.0.1:7777  backing off TCP: Connection refused (os error 111)
hostile.example      quarantined �]0;owned��evil��


 SINKS, CONSUMERS 1-3 of 3  KIND     STATE            LAG  BEHIND  RATE/S   DEAD
analytics                   http     parked           120    40 s       0      2
archive                     http     live               2     1 s      40      0
indexer                     consumer connected          2       -      40      -
 q quit  s/S sort  r reverse  f filter  Tab list  ↑↓ PgUp/Dn scroll  Space pause";

#[test]
fn a_screen_of_80_by_24() {
    let shown = lines(&drawn(&model(), &View::default(), 80, 24)).join("\n");
    assert_eq!(shown, SCREEN, "\n{shown}");
}

#[test]
fn any_size_is_drawn_without_control_characters() {
    let model = model();
    for width in 1..=200 {
        for height in [1, 2, 3, 7, 11, 12, 13, 14, 15, 20, 24, 60] {
            for cell in drawn(&model, &View::default(), width, height).backend().buffer().content() {
                assert!(!cell.symbol().contains(|c: char| c.is_control() || c == '\u{202e}'), "{cell:?}");
            }
        }
    }
}

#[test]
fn a_gateway_that_is_down_is_shown_with_the_last_figures() {
    let mut none = Model::new("http://127.0.0.1:8080".to_owned());
    assert!(lines(&drawn(&none, &View::default(), 80, 24))[2].starts_with("asking http://127.0.0.1:8080"));
    let why = "cannot connect: error sending request: tcp connect error: \x1b[31mrefused";
    none.update(Err(why.to_owned()));
    let told = "cannot reach http://127.0.0.1:8080, trying again: cannot connect: �[31mrefused";
    assert_eq!(lines(&drawn(&none, &View::default(), 80, 24))[2], told);
    let mut model = model();
    model.update(Err(why.to_owned()));
    let shown = lines(&drawn(&model, &View::default(), 80, 24));
    assert!(shown[0].ends_with("unreachable") && shown[5] == told, "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("nos.lol")), "{shown:?}");
}

#[test]
fn rates_start_again_when_the_gateway_has_restarted() {
    let mut model = model();
    assert_eq!(model.rates, Some([1_300.0, 40.0, 1_260.0, 0.5, 80.0]));
    assert_eq!((model.relay_rates["wss://relay.damus.io/"], model.sink_rates["archive"]), (40.0, 40.0));
    assert_eq!(model.consumer_rates["indexer"], 40.0);
    let begin = Instant::now() + Duration::from_secs(10);
    model.update(Ok(sample(begin, "frames_received_total 5\n", 0)));
    assert_eq!((model.rates, model.latencies.len(), model.history[0].len()), (None, 0, 1));
    model.update(Ok(sample(begin + Duration::from_secs(1), "frames_received_total 8\n", 0)));
    assert_eq!(model.rates.map(|rates| rates[0]), Some(3.0));
}

#[test]
fn colors_are_used_only_if_wanted() {
    for colors in [false, true] {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        draw(&model(), &View::default(), Theme { colors }, &mut buffer);
        let is_colored = |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
        assert_eq!(buffer.content().iter().any(is_colored), colors);
    }
}
