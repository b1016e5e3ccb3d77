//! Judges the answers of a gateway, and writes them for a terminal of 80 columns.

use std::fmt::Write;

use super::{Answers, Health, Report, Sink};
use crate::remote::printable;

/// The sinks that are shown, so that the report fits on a screen.
const SINKS_MAX: usize = 5;

/// The states of relays with an open connection.
const CONNECTED: [&str; 2] = ["live", "backfilling"];

/// Makes the report about the gateway at `url`.
pub(super) fn of(url: &str, answers: &Answers) -> Report {
    let (problems, notes) = (problems(answers), notes(answers));
    let (health, word) = match problems.is_empty() {
        true => (Health::Healthy, "healthy"),
        false => (Health::Degraded, "degraded"),
    };
    let mut text = format!("the gateway at {url} is {word}\n");
    let mut line = |name: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9} {what}");
    };
    problems.iter().for_each(|problem| line("problem", problem));
    notes.iter().for_each(|note| line("note", note));
    let figures = &answers.figures;
    let log = answers.log.map_or_else(|| "unknown".to_owned(), |log| log.to_string());
    line("version", &format!("{}, up {}", answers.version, duration(answers.uptime_seconds)));
    line(
        "log",
        &format!("{log}, events {} to {}", figures.get("log_floor_seq"), figures.get("log_head_seq")),
    );
    line("relays", &relays(answers));
    line(
        "events",
        &format!(
            "{} new, {} copies, {} refused, {} in the queue",
            figures.get("events_processed_total"),
            figures.sum("duplicates_filtered_total", "layer"),
            figures.sum("events_dropped_total", "reason"),
            figures.get("events_in_queue"),
        ),
    );
    line(
        "clients",
        &format!("{} of /ws, {} of /fanout", figures.get("websocket_clients"), figures.get("fanout_clients")),
    );
    line("memory", &format!("{} MiB", figures.get("memory_usage_bytes") >> 20));
    // Sinks with problems come first.
    let mut sinks: Vec<&Sink> = answers.sinks.iter().collect();
    sinks.sort_by_key(|sink| sink.status == "live");
    for sink in sinks.iter().take(SINKS_MAX) {
        let Sink { name, status, lag, lag_seconds, dead_letters, .. } = sink;
        let (name, status) = (printable(name, 40), printable(status, 20));
        line(
            "sink",
            &format!(
                "{name}: {status}, {lag} events ({lag_seconds:.0} s) behind, {dead_letters} dead letters"
            ),
        );
    }
    if let Some(more) = sinks.len().checked_sub(SINKS_MAX).filter(|more| *more > 0) {
        line("", &format!("and {more} more; GET /api/downstreams lists all"));
    }
    Report { health, text }
}

/// What an operator has to do something about.
pub(crate) fn problems(answers: &Answers) -> Vec<String> {
    let figures = &answers.figures;
    let mut problems = Vec::from_iter(answers.not_ready.clone());
    let wanted = figures.sum("relays", "state");
    if wanted > 0 && connected(answers) == 0 {
        problems.push(format!("no relay is connected ({wanted} wanted)"));
    }
    let stuck = answers.sinks.iter().filter(|sink| matches!(sink.status.as_str(), "parked" | "retrying"));
    let mut stuck: Vec<String> = stuck
        .map(|Sink { name, status, reason, .. }| {
            format!("sink {} is {status}: {}", printable(name, 40), printable(reason, 120))
        })
        .collect();
    let more = stuck.len().saturating_sub(SINKS_MAX);
    stuck.truncate(SINKS_MAX);
    problems.append(&mut stuck);
    if more > 0 {
        problems.push(format!("{more} more sinks are parked or retrying"));
    }
    if figures.get("registry_read_only") == 1 {
        problems.push("the registry's database is read-only: nobody can register or subscribe".to_owned());
    } else if figures.get("registry_up") == 0 {
        problems.push("the registry's database is down: nobody can register or subscribe".to_owned());
    }
    if figures.get("clock_in_doubt") == 1 {
        problems.push("the clock is in doubt, so nothing is deleted because of its age".to_owned());
    }
    problems
}

/// What an operator may want to look at.
pub(crate) fn notes(answers: &Answers) -> Vec<String> {
    let figures = &answers.figures;
    let quarantined = figures.by_label("relays", "state").find(|(state, _)| *state == "quarantined");
    let paused = answers.sinks.iter().filter(|sink| sink.status == "paused").count();
    let dead_letters = answers.sinks.iter().fold(0, |sum: u64, sink| sum.saturating_add(sink.dead_letters));
    let counted = [
        ("silent relays (connected, but sending nothing while others do)", figures.get("relays_silent")),
        ("relays with gaps", figures.get("relays_with_gaps")),
        ("quarantined relays", quarantined.map_or(0, |(_, count)| count)),
        ("paused sinks", u64::try_from(paused).unwrap_or(u64::MAX)),
        ("dead letters", dead_letters),
        ("panics, each a bug", figures.get("panics_total")),
    ];
    counted.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect()
}

fn connected(answers: &Answers) -> u64 {
    let states = answers.figures.by_label("relays", "state");
    states.filter(|(state, _)| CONNECTED.contains(state)).map(|(_, count)| count).sum()
}

pub(crate) fn relays(answers: &Answers) -> String {
    let states = answers.figures.by_label("relays", "state");
    let named: Vec<String> = states
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", printable(state, 30).replace('_', " ")))
        .collect();
    let wanted = answers.figures.sum("relays", "state");
    let states = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    format!("{} of {wanted} connected{states}", connected(answers))
}

/// `2 d 3 h`: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;

    fn sink(name: &str, status: &str) -> Sink {
        let (name, status, reason) = (name.to_owned(), status.to_owned(), "it answered 410 Gone".to_owned());
        Sink {
            name,
            status,
            reason,
            lag: 3,
            lag_seconds: 0.5,
            dead_letters: 2,
            kind: String::new(),
            delivered: 0,
        }
    }

    fn answers(metrics: &str, sinks: Vec<Sink>) -> Answers {
        Answers {
            version: "0.1.0".to_owned(),
            log: None,
            not_ready: None,
            uptime_seconds: 93_784,
            figures: Figures::parse(&format!("registry_up 1\n{metrics}")),
            sinks,
        }
    }

    #[test]
    fn problems_degrade_and_notes_do_not() {
        let live = "relays{state=\"live\"} 2\n";
        for (metrics, told) in [
            ("relays{state=\"refused\"} 2\n", "no relay is connected (2 wanted)"),
            ("clock_in_doubt 1\n", "the clock is in doubt"),
            ("registry_up 0\n", "database is down"),
            ("registry_up 0\nregistry_read_only 1\n", "database is read-only"),
        ] {
            let report = of("http://a", &answers(metrics, Vec::new()));
            assert_eq!(report.health, Health::Degraded, "{}", report.text);
            assert!(report.text.contains("\nproblem   ") && report.text.contains(told), "{}", report.text);
        }
        for status in ["parked", "retrying"] {
            let report = of("http://a", &answers(live, vec![sink("one", status)]));
            assert_eq!(report.health, Health::Degraded);
            let told = format!("problem   sink one is {status}: it answered 410 Gone\n");
            assert!(report.text.contains(&told), "{}", report.text);
        }
        let notes = format!("{live}relays_silent 1\nrelays{{state=\"quarantined\"}} 4\n");
        let report = of("http://a", &answers(&notes, vec![sink("one", "paused"), sink("two", "live")]));
        assert_eq!(report.health, Health::Healthy, "{}", report.text);
        for told in ["others do): 1", "quarantined relays: 4", "paused sinks: 1", "dead letters: 4"] {
            assert!(report.text.contains(&format!("{told}\n")), "{told}: {}", report.text);
        }
        assert!(report.text.contains("2 of 6 connected: 2 live, 4 quarantined\n"), "{}", report.text);
        assert!(report.text.contains("up 1 d 2 h\n"), "{}", report.text);
    }

    #[test]
    fn a_gateway_without_relays_is_healthy() {
        assert_eq!(of("http://a", &answers("", Vec::new())).health, Health::Healthy);
    }

    #[test]
    fn the_report_fits_on_a_screen_whatever_is_answered() {
        let name = format!("\x1b[31m{}", "x".repeat(1_000));
        let sinks = (0..500).map(|_| sink(&name, "parked")).collect();
        let report = of("http://a", &answers("", sinks));
        assert!(report.text.lines().count() <= 24, "{}", report.text);
        assert!(!report.text.contains('\x1b') && report.text.contains("495 more sinks"), "{}", report.text);
    }
}
