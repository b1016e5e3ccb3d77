//! Shared by the screen and the plain text: lines about the gateway, and the rows of the tables.

use super::model::Model;
use super::sample::{Consumer, Relay};
use super::table::{Column, Row, Tone};
use crate::remote::printable;
use crate::status::{Answers, Sink, notes, problems, relays_in_words};

/// The columns of relays. Their order is that of the cells of [`relay`].
pub(super) const RELAY_COLUMNS: [Column; 10] = [
    Column::text("RELAY", 0),
    Column::text("STATE", 11),
    Column::number("NEW/S", 6),
    Column::number("FIRST", 7),
    Column::number("COPIES", 7),
    Column::number("LATE", 7),
    Column::number("RTT", 7),
    Column::number("REFUSED", 8),
    Column::number("GAPS", 6).from(100),
    Column::text("WHY", 40).from(140),
];

/// The column that belongs to each of [`SORTS`](super::sample::SORTS).
pub(super) const SORTED_COLUMNS: [Option<usize>; 7] =
    [Some(3), Some(4), Some(5), Some(6), Some(7), Some(0), None];

/// The columns of sinks and consumers. Their order is that of the cells of [`sink`].
pub(super) const RECEIVER_COLUMNS: [Column; 8] = [
    Column::text("SINK OR CONSUMER", 0),
    Column::text("KIND", 8),
    Column::text("STATE", 11),
    Column::number("LAG", 8),
    Column::number("BEHIND", 7),
    Column::number("RATE/S", 7),
    Column::number("DEAD", 6),
    Column::text("WHY", 50).from(140),
];

/// The most important problem or note, with the number of others.
pub(super) fn attention(answers: &Answers) -> Option<(String, Tone)> {
    let (problems, notes) = (problems(answers), notes(answers));
    let tone = if problems.is_empty() { Tone::Worth } else { Tone::Bad };
    let lines = if problems.is_empty() { notes } else { problems };
    let first = lines.first()?;
    Some(match lines.len() - 1 {
        0 => (first.clone(), tone),
        more => (format!("{first}; {more} more: moltrade-relayer status"), tone),
    })
}

/// Lines about the gateway: a name and a text.
pub(super) fn facts(model: &Model, answers: &Answers) -> Vec<(&'static str, String)> {
    let figures = &answers.figures;
    let log = answers.log.map_or_else(|| "unknown".to_owned(), |log| log.to_string());
    let latencies = model.latencies.iter().map(|(name, half, most)| {
        format!("to {name} p50 {}, p99 {}", milliseconds(half * 1_000.0), milliseconds(most * 1_000.0))
    });
    let latencies = Vec::from_iter(latencies).join("; ");
    vec![
        (
            "log",
            format!(
                "{log}, events {} to {}, {} in the queue",
                grouped(figures.get("log_floor_seq")),
                grouped(figures.get("log_head_seq")),
                grouped(figures.get("events_in_queue")),
            ),
        ),
        ("relays", relays_in_words(answers)),
        (
            "clients",
            format!(
                "{} of /ws, {} of /fanout; memory {}, disk {} free",
                grouped(figures.get("websocket_clients")),
                grouped(figures.get("fanout_clients")),
                bytes(figures.get("memory_usage_bytes")),
                bytes(figures.get("disk_free_bytes")),
            ),
        ),
        ("latency", if latencies.is_empty() { "-".to_owned() } else { latencies }),
    ]
}

pub(super) fn relay(relay: &Relay, model: &Model) -> Row {
    let url = relay.url.strip_prefix("wss://").unwrap_or(&relay.url);
    let rate = model.relay_rates.get(&relay.url).map_or_else(dash, |rate| decimal(*rate));
    let (state, tone) = match relay.status.as_str() {
        "live" => ("live".to_owned(), Tone::Good),
        "needs_authentication" => ("needs auth".to_owned(), Tone::Bad),
        "refused" | "quarantined" => (relay.status.clone(), Tone::Bad),
        other => (printable(other, 20).replace('_', " "), Tone::Worth),
    };
    let plain = |text: String| (text, Tone::Plain);
    let reason = relay.reason.clone().unwrap_or_default();
    // A relay that never delivered has no figures worth its place.
    let is_away = !matches!(relay.status.as_str(), "live" | "backfilling");
    let note = (is_away && !reason.is_empty()).then(|| (2, reason.clone()));
    Row {
        cells: vec![
            plain(url.trim_end_matches('/').to_owned()),
            (state, tone),
            plain(rate),
            plain(short(relay.first)),
            plain(short(relay.copies)),
            plain(relay.late_ms.map_or_else(dash, milliseconds)),
            plain(relay.rtt_ms.map_or_else(dash, milliseconds)),
            plain(short(relay.refused.values().fold(0, |sum, count| sum.saturating_add(*count)))),
            plain(short(relay.gaps)),
            plain(reason),
        ],
        note,
    }
}

/// The rows of sinks and consumers: those that need attention first, then the ones with most lag.
pub(super) fn receivers(model: &Model) -> Vec<Row> {
    let Some(sample) = &model.latest else { return Vec::new() };
    let mut sinks: Vec<&Sink> = sample.answers.sinks.iter().collect();
    sinks.sort_by_key(|sink| (sink.status == "live", std::cmp::Reverse(sink.lag)));
    let mut consumers: Vec<&Consumer> = sample.consumers.iter().collect();
    consumers.sort_by_key(|consumer| (!consumer.connected, std::cmp::Reverse(consumer.lag)));
    let sinks = sinks.into_iter().map(|one| sink(one, model));
    sinks.chain(consumers.into_iter().map(|one| consumer(one, model))).collect()
}

fn sink(sink: &Sink, model: &Model) -> Row {
    let tone = match sink.status.as_str() {
        "live" => Tone::Good,
        "parked" | "retrying" => Tone::Bad,
        _ => Tone::Worth,
    };
    let rate = model.sink_rates.get(&sink.name).map_or_else(dash, |rate| decimal(*rate));
    Row {
        cells: vec![
            (sink.name.clone(), Tone::Plain),
            (sink.kind.clone(), Tone::Plain),
            (printable(&sink.status, 20).replace('_', " "), tone),
            (short(sink.lag), Tone::Plain),
            (seconds(sink.lag_seconds), Tone::Plain),
            (rate, Tone::Plain),
            (short(sink.dead_letters), if sink.dead_letters > 0 { Tone::Worth } else { Tone::Plain }),
            (sink.reason.clone(), Tone::Faint),
        ],
        note: None,
    }
}

fn consumer(consumer: &Consumer, model: &Model) -> Row {
    let (state, tone) = if consumer.connected { ("connected", Tone::Good) } else { ("absent", Tone::Faint) };
    let rate = model.consumer_rates.get(&consumer.name).map_or_else(dash, |rate| decimal(*rate));
    Row {
        cells: vec![
            (consumer.name.clone(), Tone::Plain),
            ("consumer".to_owned(), Tone::Plain),
            (state.to_owned(), tone),
            (short(consumer.lag), Tone::Plain),
            (dash(), Tone::Plain),
            (rate, Tone::Plain),
            (dash(), Tone::Plain),
        ],
        note: None,
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// At most six characters: `99,999`, `123k`, `12.3M`.
fn short(number: u64) -> String {
    let scaled = |unit: f64, name| {
        let scaled = number as f64 / unit;
        if scaled < 100.0 { format!("{scaled:.1}{name}") } else { format!("{scaled:.0}{name}") }
    };
    match number {
        0..100_000 => grouped(number),
        100_000..1_000_000 => format!("{}k", number / 1_000),
        1_000_000..1_000_000_000 => scaled(1e6, 'M'),
        1_000_000_000..1_000_000_000_000 => scaled(1e9, 'G'),
        _ => scaled(1e12, 'T'),
    }
}

/// A rate, with a decimal while it is small.
pub(super) fn decimal(rate: f64) -> String {
    // The conversion saturates.
    if (0.05..9.95).contains(&rate) { format!("{rate:.1}") } else { short(rate.round() as u64) }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ..0.0 => dash(),
        ..10.0 => format!("{ms:.1} ms"),
        ..1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", (ms / 1_000.0).min(9_999.0)),
    }
}

fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7_200 => format!("{} min", whole / 60),
        7_200..172_800 => format!("{} h", whole / 3_600),
        _ => format!("{} d", short(whole / 86_400)),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10_240 => format!("{} MiB", grouped(mib)),
        mib => format!("{} GiB", grouped(mib >> 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_into_their_columns() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99,999"),
            (123_456, "123k"),
            (12_345_678, "12.3M"),
            (999_999_999, "1000M"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(short(number), text);
        }
        for (rate, text) in [(0.0, "0"), (0.04, "0"), (0.26, "0.3"), (9.96, "10"), (1_234.5, "1,235")] {
            assert_eq!(decimal(rate), text);
        }
        for (ms, text) in
            [(0.84, "0.8 ms"), (31.5, "32 ms"), (1_250.0, "1.2 s"), (-1.0, "-"), (1e12, "9999.0 s")]
        {
            assert_eq!(milliseconds(ms), text);
        }
        for (time, text) in
            [(0.4, "0 s"), (119.0, "119 s"), (125.0, "2 min"), (9_000.0, "2 h"), (1e6, "11 d")]
        {
            assert_eq!(seconds(time), text);
        }
        assert_eq!(
            (grouped(1_234_567), bytes(48 << 20), bytes(120 << 30)),
            ("1,234,567".to_owned(), "48 MiB".to_owned(), "120 GiB".to_owned())
        );
    }
}
