//! Progress and summaries.

use std::io::Write;
use std::time::{Duration, Instant};

use relay_sim::{Count, Sim, Stats};
use serde_json::json;

use super::{Failure, Output};

/// The interval between progress lines.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// CPU seconds used by this process, in steps of 0.01 s; `None` except on Linux.
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The process name in brackets may contain anything; user and system time are the 12th and 13th
    // fields after the bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

/// Measures the time and the CPU time of serving.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    cpu: Option<f64>,
    frames: u64,
}

impl Meter {
    pub fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_seconds(), frames: 0 }
    }

    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn cpu(&self) -> Option<f64> {
        Some(cpu_seconds()? - self.cpu?)
    }

    /// One line of progress about relays.
    pub fn line(&mut self, sim: &Sim) -> String {
        let stats = sim.stats();
        let frames = stats.get(Count::Frames);
        let new = frames - std::mem::replace(&mut self.frames, frames);
        let open: usize = (0..stats.relays.len()).map(|relay| sim.open_connections(relay)).sum();
        format!(
            "{:6.1} s  {open} open  {frames} frames (+{new})  {} genuine  {} forged  {} garbage  {} unsent",
            self.seconds(),
            stats.get(Count::Genuine),
            stats.get(Count::Forged),
            stats.total.garbage(),
            stats.unsent,
        )
    }
}

/// Prints what the relays did.
pub fn relays(stats: &Stats, meter: &Meter, output: Output) -> Result<(), Failure> {
    let (seconds, frames) = (meter.seconds(), stats.get(Count::Frames));
    let cpu_us = meter.cpu().filter(|_| frames > 0).map(|cpu| cpu * 1e6 / frames as f64);
    if output.json {
        return print(
            &json!({ "relays": relays_json(stats), "seconds": seconds, "cpu_us_per_frame": cpu_us })
                .to_string(),
        );
    }
    print(&relays_text(stats, seconds, cpu_us))
}

/// The counts of the relays, for a summary.
pub fn relays_json(stats: &Stats) -> serde_json::Value {
    json!({ "total": stats.total, "copies": stats.total.copies(), "garbage": stats.total.garbage(),
        "unsent": stats.unsent, "by_relay": stats.relays })
}

/// The counts of the relays, for humans.
pub fn relays_text(stats: &Stats, seconds: f64, cpu_us: Option<f64>) -> String {
    let mut text = format!("{} relays in {seconds:.1} s\n", stats.relays.len());
    for count in Count::ALL {
        if stats.get(*count) > 0 {
            text += &format!("  {:<28}{:>14}\n", count.label(), stats.get(*count));
        }
    }
    text += &format!(
        "  {:<28}{:>14}\n  {:<28}{:>14}\n",
        "copies",
        stats.total.copies(),
        "unsent events",
        stats.unsent
    );
    if let Some(cpu_us) = cpu_us {
        text += &format!("  {:<28}{cpu_us:>14.3}\n", "CPU us a frame");
    }
    text
}

/// Writes to standard output, without a panic if the reader has closed the pipe.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Write("to standard output".to_owned(), error))
}
