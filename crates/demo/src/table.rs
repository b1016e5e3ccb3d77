//! The live table: redrawn in place on a terminal; otherwise one line every few seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use relay_sim::{Count, Sim};

use crate::client::Client;
use crate::gateway::Metrics;

/// The table as last drawn.
pub struct Table {
    began: Instant,
    terminal: bool,
    lines_drawn: usize,
    before: Option<Row>,
}

/// The counts at one moment.
#[derive(Clone)]
struct Row {
    at: Instant,
    frames: u64,
    duplicates: u64,
    new: u64,
    refused: u64,
    delivered: u64,
}

impl Table {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { began: Instant::now(), terminal, lines_drawn: 0, before: None }
    }

    /// The interval between draws.
    pub const fn interval(&self) -> Duration {
        if self.terminal { Duration::from_millis(500) } else { Duration::from_secs(4) }
    }

    /// Draws the gateway's counts and the clients' deliveries.
    pub fn show(&mut self, metrics: &Metrics, sim: &Sim, clients: [&Client; 2], done: bool) {
        let row = Row::of(metrics, clients);
        let before = self.before.replace(row.clone()).unwrap_or_else(|| Row::nothing(self.began));
        let text = if self.terminal {
            let up = if self.lines_drawn > 0 {
                format!("\x1b[{}A\x1b[J", self.lines_drawn)
            } else {
                String::new()
            };
            let table = self.table(metrics, &row, &before, sim, clients);
            self.lines_drawn = table.lines().count();
            up + &table
        } else {
            self.line(metrics, &row, &before, clients, done)
        };
        let mut out = std::io::stdout().lock();
        // If the output is no longer read, the exit status still matters.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn table(&self, metrics: &Metrics, row: &Row, before: &Row, sim: &Sim, clients: [&Client; 2]) -> String {
        let seconds = (row.at - before.at).as_secs_f64().max(0.001);
        let mut text = format!(
            "{:<34}{:>14}{:>14}\n",
            format!("after {:.0} s", self.began.elapsed().as_secs_f64()),
            "a second",
            "in all"
        );
        let mut line = |name: &str, now: u64, before: u64| {
            let rate = (now.saturating_sub(before)) as f64 / seconds;
            text += &format!("{name:<34}{:>14}{:>14}\n", grouped(rate as u64), grouped(now));
        };
        line("frames in", row.frames, before.frames);
        line("duplicates", row.duplicates, before.duplicates);
        line("new", row.new, before.new);
        line("refused", row.refused, before.refused);
        line("delivered to both clients", row.delivered, before.delivered);
        let stats = sim.stats();
        text += "\nrefused, by reason\n";
        for (reason, count) in by_label(metrics, "events_dropped_total") {
            text += &format!("  {reason:<46}{:>14}\n", grouped(count));
        }
        text +=
            &format!("\n{:<48}{:>14}\n", "forged frames that relays sent", grouped(stats.get(Count::Forged)));
        let [steady, leaver] = clients;
        for (name, client) in [("steady", steady), ("leaver", leaver)] {
            let latency = match (client.is_away(), latency(client)) {
                (true, _) => "away".to_owned(),
                (false, Some((p50, p99))) => format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
                (false, None) => String::new(),
            };
            text += &format!("client {name:<27}{latency:>28}\n");
        }
        let memory = metrics.get("memory_usage_bytes").copied().unwrap_or_default() / f64::from(1 << 20);
        text + &format!("{:<34}{:>28}\n", "gateway's memory", format!("{memory:.0} MiB"))
    }

    fn line(&self, metrics: &Metrics, row: &Row, before: &Row, clients: [&Client; 2], done: bool) -> String {
        let [steady, leaver] = clients;
        let latency = latency(steady);
        leaver.take_latencies_us();
        if row.new == before.new && !done {
            return String::new();
        }
        let mut line = format!(
            "{:3.0} s  frames in {:>8}  duplicates {:>8}  new {:>7}  refused {:>6}  delivered {:>8}",
            self.began.elapsed().as_secs_f64(),
            grouped(row.frames),
            grouped(row.duplicates),
            grouped(row.new),
            grouped(row.refused),
            grouped(row.delivered),
        );
        if let Some((p50, p99)) = latency {
            line += &format!("  p50 {p50:.1} ms  p99 {p99:.1} ms");
        }
        if leaver.is_away() {
            line += "  (leaver is away)";
        }
        if done {
            let reasons = by_label(metrics, "events_dropped_total");
            let reasons: Vec<_> =
                reasons.map(|(reason, count)| format!("{reason} {}", grouped(count))).collect();
            line += &format!("\nrefused: {}", reasons.join(", "));
        }
        line + "\n"
    }
}

impl Row {
    fn of(metrics: &Metrics, clients: [&Client; 2]) -> Self {
        let sum = |name| by_label(metrics, name).map(|(_, count)| count).sum();
        let one = |name: &str| metrics.get(name).map_or(0, |value| *value as u64);
        Self {
            at: Instant::now(),
            frames: one("frames_received_total"),
            duplicates: sum("duplicates_filtered_total"),
            new: one("events_processed_total"),
            refused: sum("events_dropped_total"),
            delivered: clients.iter().map(|client| client.delivered()).sum(),
        }
    }

    const fn nothing(at: Instant) -> Self {
        Self { at, frames: 0, duplicates: 0, new: 0, refused: 0, delivered: 0 }
    }
}

/// Iterates over the non-zero values of a metric that has one label.
fn by_label<'a>(metrics: &'a Metrics, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    let labelled = metrics.iter().filter_map(move |(key, value)| {
        let label = key.strip_prefix(name)?.strip_prefix('{')?.split('"').nth(1)?;
        Some((label, *value as u64))
    });
    labelled.filter(|(_, count)| *count > 0)
}

/// Returns the median and the 99th percentile since the last query, in milliseconds.
fn latency(client: &Client) -> Option<(f64, f64)> {
    let mut latencies_us = client.take_latencies_us();
    latencies_us.sort_unstable();
    let at = |share: f64| {
        let rank = (share * latencies_us.len() as f64).ceil() as usize;
        latencies_us.get(rank.saturating_sub(1)).map(|us| *us as f64 / 1000.0)
    };
    Some((at(0.5)?, at(0.99)?))
}

/// Formats a number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
