//! The verdict of a soak: checks what must hold, and prints the figures.

use std::collections::BTreeSet;

use crate::Outcome;
use crate::attack::Attackers;
use crate::watch::Watch;

/// The permitted growth of memory from the first third to the last, beyond the growth of the quiet
/// run: this share of the first third's memory, plus [`MEMORY_SLACK_BYTES`]. Both gateways fill
/// their caches and write buffers with the same events, which takes longer than ten minutes.
const MEMORY_GROWTH_MAX: f64 = 0.2;
const MEMORY_SLACK_BYTES: u64 = 16 << 20;
/// The permitted latency as a multiple of the quiet run's.
const LATENCY_FACTOR_MAX: u64 = 2;

/// Observations during the soak.
#[derive(Debug, Default)]
pub struct Seen {
    /// Samples of the gateway's resident memory: the elapsed share of the soak, from 0 to 1, and
    /// bytes.
    pub memory: Vec<(f64, u64)>,
    /// Samples of the quiet gateway's resident memory.
    pub quiet_memory: Vec<(f64, u64)>,
    /// Honest relays that were quarantined at some time.
    pub quarantined: BTreeSet<String>,
    /// The number of clock steps made, and the number that the gateway reported.
    pub steps: (usize, usize),
    /// Spans in which the gateway was down or blocked on purpose, in Unix microseconds.
    pub disturbed: Vec<(u64, u64)>,
    pub kills: usize,
    pub disks: Vec<&'static str>,
}

/// The name of a check, whether it passes, and the figures.
type Finding = (&'static str, bool, String);

/// Prints the checks, and returns whether all pass.
pub fn print(
    seen: &Seen,
    hostile: &Watch,
    quiet: &Watch,
    attackers: &Attackers,
    ended: &Outcome<()>,
) -> bool {
    let (verdict, beside) = (hostile.verdict(), quiet.verdict());
    let missing = verdict.missing + beside.missing;
    let doubled = verdict.doubled + verdict.not_ascending + verdict.gaps;
    let wrong = verdict.not_genuine + verdict.unexpected;
    let findings: [Finding; 8] = [
        ("complete", missing == 0, format!("{} events delivered, {missing} missing", verdict.distinct)),
        ("once", doubled == 0, format!("{doubled} repeated, out of sequence or missing")),
        ("genuine", wrong == 0, format!("{wrong} altered or unknown events delivered")),
        (
            "honest",
            seen.quarantined.is_empty(),
            format!("{} honest relays were quarantined {:?}", seen.quarantined.len(), seen.quarantined),
        ),
        memory(&seen.memory, &seen.quiet_memory),
        latency(hostile.p99_us(&seen.disturbed), quiet.p99_us(&seen.disturbed)),
        (
            "clock",
            seen.steps.0 == seen.steps.1,
            format!("{} steps of the clock, {} of them shown in /status", seen.steps.0, seen.steps.1),
        ),
        (
            "attacks",
            attackers.take_overs() == 0,
            format!("{}; {} consumers taken over", attackers.figures(), attackers.take_overs()),
        ),
    ];
    println!("\nVerdict: {} kills, full disks: {}", seen.kills, seen.disks.join(", "));
    for (name, holds, what) in &findings {
        println!("  {} {name:<10} {what}", if *holds { "ok    " } else { "FAILED" });
    }
    for wrong in hostile.wrong() {
        println!("         {wrong}");
    }
    if let Err(error) = ended {
        println!("  FAILED {error:#}");
    }
    let passed = ended.is_ok() && findings.iter().all(|(_, holds, _)| *holds);
    println!("{}", if passed { "PASSED" } else { "FAILED" });
    passed
}

fn memory(hostile: &[(f64, u64)], quiet: &[(f64, u64)]) -> Finding {
    let ((first, last), (quiet_first, quiet_last)) = (thirds(hostile), thirds(quiet));
    let slack = (first as f64 * MEMORY_GROWTH_MAX) as u64 + MEMORY_SLACK_BYTES;
    let most = first + quiet_last.saturating_sub(quiet_first) + slack;
    let what = format!(
        "{} MiB in the first third, {} MiB in the last (medians); {} and {} MiB in the quiet run beside it",
        first >> 20,
        last >> 20,
        quiet_first >> 20,
        quiet_last >> 20
    );
    ("memory", first > 0 && last > 0 && quiet_last > 0 && last <= most, what)
}

/// The medians of the first third and of the last third.
fn thirds(samples: &[(f64, u64)]) -> (u64, u64) {
    let median = |from: f64, until: f64| {
        let within = samples.iter().filter(|(at, _)| (from..until).contains(at));
        let mut within: Vec<u64> = within.map(|(_, bytes)| *bytes).collect();
        within.sort_unstable();
        within.get(within.len() / 2).copied().unwrap_or(0)
    };
    (median(0.0, 1.0 / 3.0), median(2.0 / 3.0, f64::INFINITY))
}

fn latency(hostile: Option<u64>, quiet: Option<u64>) -> Finding {
    match (hostile, quiet) {
        (Some(hostile), Some(quiet)) => {
            let milliseconds = |us: u64| us as f64 / 1_000.0;
            let what = format!(
                "p99 {:.1} ms, {:.1} ms in the quiet run beside it",
                milliseconds(hostile),
                milliseconds(quiet)
            );
            ("latency", hostile <= quiet * LATENCY_FACTOR_MAX, what)
        }
        _ => ("latency", false, "no event arrived outside of disturbances".to_owned()),
    }
}
