//! The verdict: what clients received, and the gateway's counts compared with the simulator's.

use std::collections::BTreeSet;

use relay_sim::{Count, Stats};
use serde_json::Value;

use crate::client::Ended;
use crate::gateway::Stopped;
use crate::table::grouped;
use crate::{BREAKERS, BREAKS, EVENTS, FORGERS, LITTERERS, RELAYS};

/// The input of the verdict.
pub struct Evidence {
    /// What the relays sent and received.
    pub relays: Stats,
    /// The gateway's `/status` after everything has settled.
    pub status: Value,
    pub steady: Ended,
    pub leaver: Ended,
    pub stopped: Stopped,
    /// The time from the first event to the last.
    pub seconds: f64,
}

/// A relay's entry in `/status`.
struct Seen<'a>(Option<&'a Value>);

impl<'a> Seen<'a> {
    fn of(status: &'a Value, relay: usize) -> Self {
        let connections = status["connections"].as_array();
        let path = format!("/r/{relay}");
        let is_it = |seen: &&Value| seen["url"].as_str().is_some_and(|url| url.ends_with(&path));
        Self(connections.and_then(|connections| connections.iter().find(is_it)))
    }

    fn get(&self, key: &str) -> u64 {
        self.0.and_then(|seen| seen[key].as_u64()).unwrap_or_default()
    }

    fn refused(&self) -> u64 {
        let refused = self.0.and_then(|seen| seen["refused"].as_object());
        refused.map_or(0, |refused| refused.values().filter_map(Value::as_u64).sum())
    }

    /// The number of frames that were events or were refused.
    fn judged(&self) -> u64 {
        self.get("first") + self.get("copies") + self.refused()
    }
}

/// The relays whose connections stay open, so that all of their frames arrive.
fn unbroken() -> impl Iterator<Item = usize> {
    (0..RELAYS).filter(|relay| !BREAKERS.contains(relay))
}

/// The number of frames that a relay wrote, except pings, pongs and closes, which the gateway does
/// not count.
fn frames_sent(relays: &Stats, relay: usize) -> u64 {
    relays.of(relay, Count::Frames).saturating_sub(relays.of(relay, Count::Control))
}

/// Whether all frames of unbroken relays have arrived, and each frame was a new event, a copy, a
/// refused frame, or EOSE.
pub fn counts_agree(relays: &Stats, status: &Value) -> bool {
    unbroken().all(|relay| {
        let seen = Seen::of(status, relay);
        let sent = frames_sent(relays, relay);
        sent == seen.get("frames") && sent == seen.judged() + relays.of(relay, Count::Eose)
    })
}

impl Evidence {
    /// Prints the checks, and returns whether all of them pass.
    pub fn print(&self) -> bool {
        let findings = [
            self.complete(),
            self.once(),
            self.genuine(),
            self.in_order(),
            self.resumed(),
            self.forged_refused(),
            self.blamed(),
            self.garbage(),
            self.accounted(),
            self.reconnected(),
            self.stopped(),
        ];
        println!("\nVerdict, {:.1} s after the first event", self.seconds);
        for (name, holds, what) in &findings {
            println!("  {} {name:<10} {what}", if *holds { "ok    " } else { "FAILED" });
        }
        let latency = self.steady.checker.verdict().latency;
        if let Some(latency) = latency {
            println!(
                "\nFrom writing the first copy to client `steady`: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
                f64::from(latency.p50_us) / 1000.0,
                f64::from(latency.p99_us) / 1000.0,
                f64::from(latency.max_us) / 1000.0
            );
        }
        let passed = findings.iter().all(|(_, holds, _)| *holds);
        println!("{}", if passed { "PASSED" } else { "FAILED" });
        passed
    }

    fn clients(&self) -> [(&'static str, &Ended); 2] {
        [("steady", &self.steady), ("leaver", &self.leaver)]
    }

    fn sum(&self, figure: impl Fn(&relay_sim::Verdict) -> u64) -> u64 {
        self.clients().iter().map(|(_, client)| figure(&client.checker.verdict())).sum()
    }

    fn complete(&self) -> Finding {
        let missing = self.sum(|verdict| verdict.missing);
        let whole = self.clients().iter().all(|(_, client)| client.checker.is_complete());
        let what =
            format!("both clients have all {} events: {} missing", grouped(EVENTS as u64), grouped(missing));
        ("complete", whole && missing == 0, what)
    }

    fn once(&self) -> Finding {
        let doubled = self.sum(|verdict| verdict.doubled);
        let (sent, copies) = (self.relays.get(Count::Genuine), self.relays.total.copies());
        let what = format!(
            "{} genuine frames were sent, {} of them copies: {} delivered twice",
            grouped(sent),
            grouped(copies),
            grouped(doubled)
        );
        ("once", doubled == 0 && copies > 0, what)
    }

    fn genuine(&self) -> Finding {
        let wrong = self.sum(|verdict| verdict.not_genuine + verdict.unexpected);
        let what = format!(
            "{} forged frames were sent: {} altered or unknown events delivered",
            grouped(self.relays.get(Count::Forged)),
            grouped(wrong)
        );
        ("genuine", wrong == 0 && self.relays.get(Count::Forged) > 0, what)
    }

    fn in_order(&self) -> Finding {
        let wrong = self.sum(|verdict| verdict.not_ascending + verdict.gaps);
        let verdict = self.steady.checker.verdict();
        let (first, last) = (verdict.first_seq.unwrap_or_default(), verdict.last_seq.unwrap_or_default());
        let what = format!("sequence {first} to {}: {} gaps or steps back", grouped(last), grouped(wrong));
        ("in order", wrong == 0 && first == 1 && last == EVENTS as u64, what)
    }

    fn resumed(&self) -> Finding {
        match self.leaver.resumed {
            Some((cursor, away)) => {
                let verdict = self.leaver.checker.verdict();
                let wrong = verdict.gaps + verdict.not_ascending + verdict.doubled;
                let what = format!(
                    "`leaver` was away for {:.1} s and resumed after event {}: {} gaps or repeats",
                    away.as_secs_f64(),
                    grouped(cursor),
                    grouped(wrong)
                );
                ("resumed", wrong == 0 && self.leaver.checker.deliveries() > cursor, what)
            }
            None => ("resumed", false, "`leaver` never left".to_owned()),
        }
    }

    fn forged_refused(&self) -> Finding {
        let forgers = |figure: &dyn Fn(usize) -> u64| -> u64 { FORGERS.map(figure).sum() };
        let sent = forgers(&|relay| self.relays.of(relay, Count::Forged));
        let refused = forgers(&|relay| self.seen(relay).get("forgeries"));
        let known = forgers(&|relay| {
            let seen = self.seen(relay);
            (seen.get("first") + seen.get("copies")).saturating_sub(self.relays.of(relay, Count::Genuine))
        });
        let what = format!(
            "{} forged frames were refused; {} came after their genuine event and were dropped as copies of it",
            grouped(refused),
            grouped(known)
        );
        ("refused", refused > 0 && refused + known == sent, what)
    }

    fn blamed(&self) -> Finding {
        let forged = |relay: &usize| self.relays.of(*relay, Count::Forged) > 0;
        let blamed = |relay: &usize| self.seen(*relay).get("forgeries") > 0;
        let (forged, blamed): (BTreeSet<_>, BTreeSet<_>) =
            ((0..RELAYS).filter(forged).collect(), (0..RELAYS).filter(blamed).collect());
        let what = format!(
            "{} relays forged; /status blames {}, {}",
            forged.len(),
            blamed.len(),
            if forged == blamed { "the same" } else { "not the same" }
        );
        ("blamed", !forged.is_empty() && forged == blamed, what)
    }

    fn garbage(&self) -> Finding {
        let sent: u64 = LITTERERS.map(|relay| garbage_of(&self.relays, relay)).sum();
        let refused: u64 = LITTERERS.map(|relay| self.seen(relay).refused()).sum();
        let each =
            LITTERERS.clone().all(|relay| garbage_of(&self.relays, relay) == self.seen(relay).refused());
        let what = format!("{} frames were sent, {} refused", grouped(sent), grouped(refused));
        ("garbage", sent > 0 && each, what)
    }

    fn accounted(&self) -> Finding {
        let sent: u64 = unbroken().map(|relay| frames_sent(&self.relays, relay)).sum();
        let received: u64 = unbroken().map(|relay| self.seen(relay).get("frames")).sum();
        let what = format!(
            "the {} unbroken relays sent {} frames, {} arrived, each counted correctly",
            unbroken().count(),
            grouped(sent),
            grouped(received)
        );
        ("counted", counts_agree(&self.relays, &self.status), what)
    }

    fn reconnected(&self) -> Finding {
        let opened: u64 = (0..RELAYS).map(|relay| self.seen(relay).get("connections_opened")).sum();
        let live =
            (0..RELAYS).filter(|relay| self.seen(*relay).0.is_some_and(|seen| seen["status"] == "live"));
        let live = live.count();
        let what =
            format!("{BREAKS} connections were broken; {live} of {RELAYS} relays are connected at the end");
        ("connected", live == RELAYS && opened >= (RELAYS + BREAKS) as u64, what)
    }

    fn stopped(&self) -> Finding {
        let said = |client: &Ended| client.reason.starts_with("1001");
        let told = self.clients().iter().filter(|(_, client)| said(client)).count();
        let what = format!(
            "SIGTERM: {} after {:.1} s; {told} of 2 clients were closed with code 1001",
            self.stopped.status,
            self.stopped.took.as_secs_f64()
        );
        ("stopped", self.stopped.status.success() && told == 2, what)
    }

    fn seen(&self, relay: usize) -> Seen<'_> {
        Seen::of(&self.status, relay)
    }
}

/// The name of a check, whether it passes, and the measured figures.
type Finding = (&'static str, bool, String);

fn garbage_of(relays: &Stats, relay: usize) -> u64 {
    relays.relays.get(relay).map_or(0, relay_sim::Figures::garbage)
}
