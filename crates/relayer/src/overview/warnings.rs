//! Derives warnings from the figures of the gateway: problems require action by the operator, notes
//! may not. The alerts in `deploy/prometheus/rules.yml` use the same figures, but fire only if a
//! condition lasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::EnumIter;

use super::figures::{Figures, NotReady, SinkFigures};
use super::reading::Latency;
use crate::fanout::registry::Health;
use crate::limits::{WARNING_TEXT_MAX, WARNINGS_MAX, WARNINGS_OF_SINKS_MAX};
use crate::printable::printable;
use crate::relay::{Group, Peer, StateName};
use crate::sink::SinkState;

// The bounds of the alerts; a test compares them.

/// Events are committed slowly above this p99 in milliseconds.
const COMMITS_SLOW_MS: f64 = 500.0;
/// Clients and followers get events slowly above this p99 in milliseconds.
const DELIVERY_SLOW_MS: f64 = 1_000.0;
/// The disk is almost full below this multiple of the bytes that must stay free.
const DISK_LOW_FACTOR: u64 = 2;
/// The memory is almost used up above this percentage of its limit.
const MEMORY_HIGH_PERCENT: u64 = 90;
/// Ingest does not keep up above this number of bytes between sockets and commit.
const QUEUE_LONG_BYTES: usize = 25_000_000;
/// Relays are missing below this percentage of connected ones.
const RELAYS_CONNECTED_PERCENT: usize = 70;
/// The watermark of a connected relay is old above this age.
const RELAYS_LAG_SECS_MAX: u64 = 86_400;
/// A sink is far behind above this number of events.
const SINK_LAG_MAX: u64 = 10_000;

/// Whether an operator has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// An operator has to do something.
    Problem,
    /// An operator may want to look at it.
    Note,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    Stopping,
    DiskFull,
    DiskLow,
    DatabaseStalls,
    MemoryHigh,
    NoRelayConnected,
    SinkParked,
    SinkRetrying,
    RegistryDown,
    RegistryReadOnly,
    ClockInDoubt,
    RelaysDisconnected,
    RelaysSilent,
    RelaysQuarantined,
    RelaysRefused,
    RelaysNeedAuthentication,
    RelaysWithGaps,
    RelaysLag,
    SinkPaused,
    SinkLags,
    SinkLostEvents,
    DeadLetters,
    DeadLettersDropped,
    CommitsSlow,
    DeliverySlow,
    FanoutSlow,
    IngestBacklog,
    Panics,
    LogLinesLost,
}

impl Code {
    const fn severity(self) -> Severity {
        match self {
            Self::Stopping
            | Self::DiskFull
            | Self::DiskLow
            | Self::DatabaseStalls
            | Self::MemoryHigh
            | Self::NoRelayConnected
            | Self::SinkParked
            | Self::SinkRetrying
            | Self::RegistryDown
            | Self::RegistryReadOnly
            | Self::ClockInDoubt => Severity::Problem,
            _ => Severity::Note,
        }
    }
}

/// A warning in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Warning {
    code: Code,
    pub(super) severity: Severity,
    message: String,
    /// The name of a sink or the URL of a relay, if the warning is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

/// All warnings about these figures, problems first, at most [`WARNINGS_MAX`].
pub(super) fn of(figures: &Figures) -> Vec<Warning> {
    let mut list = List(Vec::new());
    list.process(figures);
    list.storage(figures);
    list.relays(figures);
    list.sinks(&figures.sinks);
    list.latency(figures);
    let mut warnings = list.0;
    warnings.sort_by_key(|warning| warning.severity);
    warnings.truncate(WARNINGS_MAX);
    warnings
}

struct List(Vec<Warning>);

impl List {
    fn add(&mut self, code: Code, message: impl Into<String>) {
        self.push(code, message.into(), None);
    }

    fn push(&mut self, code: Code, message: String, subject: Option<String>) {
        self.0.push(Warning { code, severity: code.severity(), message, subject });
    }

    fn process(&mut self, figures: &Figures) {
        if let Some(why) = figures.not_ready {
            let code = match why {
                NotReady::Stopping => Code::Stopping,
                NotReady::DiskFull => Code::DiskFull,
            };
            self.add(code, why.message());
        }
        if let (Some(resident), Some(limit)) = (figures.resident_bytes, figures.memory_limit_bytes)
            && resident.saturating_mul(100) > limit.saturating_mul(MEMORY_HIGH_PERCENT)
        {
            self.add(
                Code::MemoryHigh,
                format!(
                    "the process uses {} of the {} MiB of memory that it may use",
                    resident >> 20,
                    limit >> 20
                ),
            );
        }
        if figures.is_clock_in_doubt {
            self.add(Code::ClockInDoubt, "the clock is in doubt, so nothing is deleted because of its age");
        }
        match figures.registry {
            Health::Up => {}
            Health::ReadOnly { .. } => self.add(
                Code::RegistryReadOnly,
                "the registry's database is read-only: nobody can register or subscribe",
            ),
            Health::Down { reason, .. } => self.add(
                Code::RegistryDown,
                format!("the registry's database is down: nobody can register or subscribe ({reason})"),
            ),
        }
        if figures.panics > 0 {
            self.add(Code::Panics, format!("panics, each a bug: {}; the log says where", figures.panics));
        }
        if figures.log_lines_lost > 0 {
            self.add(
                Code::LogLinesLost,
                format!(
                    "{} log lines were lost: standard error is not read fast enough",
                    figures.log_lines_lost
                ),
            );
        }
    }

    fn storage(&mut self, figures: &Figures) {
        let low = figures.low_bytes();
        if let Some(free) = figures.free_bytes.filter(|free| *free < low)
            && figures.not_ready != Some(NotReady::DiskFull)
        {
            self.add(
                Code::DiskLow,
                format!(
                    "the disk is almost full: {} MiB are free, and ingest pauses below {} MiB",
                    free >> 20,
                    figures.min_free_bytes >> 20
                ),
            );
        }
        if figures.is_write_stopped {
            self.add(
                Code::DatabaseStalls,
                "the database accepts no writes until it has compacted: the disk is too slow",
            );
        }
        let (events, bytes) = figures.queue;
        if bytes > QUEUE_LONG_BYTES {
            self.add(
                Code::IngestBacklog,
                format!(
                    "{events} events ({} MiB) wait to be committed; relays are read more slowly",
                    bytes >> 20
                ),
            );
        }
    }

    fn relays(&mut self, figures: &Figures) {
        let relays = &figures.relays;
        let (total, connected) = (relays.total, relays.connected);
        if total > 0 && connected == 0 {
            self.add(Code::NoRelayConnected, format!("no relay is connected ({total} wanted)"));
        } else if connected.saturating_mul(100) < total.saturating_mul(RELAYS_CONNECTED_PERCENT) {
            self.add(Code::RelaysDisconnected, format!("only {connected} of {total} relays are connected"));
        }
        let state = |state: StateName| &relays.states[state];
        self.group(
            Code::RelaysSilent,
            &relays.silent,
            |_| "is silent: it is connected but sends no events, while others do".to_owned(),
            "are silent: they are connected but send no events, while others do",
        );
        self.group(
            Code::RelaysQuarantined,
            state(StateName::Quarantined),
            |relay| format!("is quarantined: {}", reason(relay)),
            "are quarantined",
        );
        self.group(
            Code::RelaysRefused,
            state(StateName::Refused),
            |relay| format!("does not serve us, or may not be dialled: {}", reason(relay)),
            "do not serve us, or may not be dialled",
        );
        self.group(
            Code::RelaysNeedAuthentication,
            state(StateName::NeedsAuthentication),
            |relay| format!("requires authentication that we cannot give: {}", reason(relay)),
            "require authentication that we cannot give",
        );
        self.group(
            Code::RelaysWithGaps,
            &relays.with_gaps,
            |_| "has gaps: spans of time whose events are not proven complete".to_owned(),
            "have gaps: spans of time whose events are not proven complete",
        );
        if relays.lag_secs > RELAYS_LAG_SECS_MAX {
            self.add(
                Code::RelaysLag,
                format!("the watermark of a connected relay is {} hours old", relays.lag_secs / 3_600),
            );
        }
    }

    /// Names a relay if it is the only one.
    fn group(&mut self, code: Code, group: &Group, one: impl FnOnce(&Peer) -> String, many: &str) {
        match (group.count, &group.first) {
            (1, Some(relay)) => {
                let url = printable(relay.url.as_str(), WARNING_TEXT_MAX);
                self.push(code, format!("relay {url} {}", one(relay)), Some(url));
            }
            (0, _) => {}
            (count, _) => self.add(code, format!("{count} relays {many}")),
        }
    }

    fn sinks(&mut self, sinks: &[SinkFigures]) {
        self.each(sinks, Code::SinkParked, "are parked", |sink| match &sink.state {
            SinkState::Parked { reason, .. } => {
                Some(format!("is parked: {}", printable(reason, WARNING_TEXT_MAX)))
            }
            _ => None,
        });
        self.each(sinks, Code::SinkRetrying, "are retrying", |sink| match &sink.state {
            SinkState::Retrying { reason, .. } => {
                Some(format!("is retrying: {}", printable(reason, WARNING_TEXT_MAX)))
            }
            _ => None,
        });
        self.each(sinks, Code::SinkPaused, "are paused", |sink| {
            matches!(sink.state, SinkState::Paused { .. }).then(|| "is paused".to_owned())
        });
        self.each(sinks, Code::SinkLags, "are far behind", |sink| {
            let is_delivering = matches!(sink.state, SinkState::Live { .. } | SinkState::CatchingUp { .. });
            (is_delivering && sink.lag > SINK_LAG_MAX).then(|| format!("is {} events behind", sink.lag))
        });
        self.each(sinks, Code::SinkLostEvents, "have lost events", |sink| {
            (sink.lost > 0)
                .then(|| format!("lost {} events: retention deleted them before it had them", sink.lost))
        });
        self.each(sinks, Code::DeadLetters, "have dead letters", |sink| {
            (sink.dead_letters > 0).then(|| format!("has {} dead letters", sink.dead_letters))
        });
        self.each(sinks, Code::DeadLettersDropped, "have dropped dead letters", |sink| {
            let dropped = sink.dead_letters_dropped;
            (dropped > 0).then(|| format!("had {dropped} dead letters dropped for lack of space"))
        });
    }

    /// Names the first sinks to which it applies, and counts the rest.
    fn each(
        &mut self,
        sinks: &[SinkFigures],
        code: Code,
        many: &str,
        what: impl Fn(&SinkFigures) -> Option<String>,
    ) {
        let mut more = 0;
        for (index, (sink, what)) in sinks.iter().filter_map(|sink| Some((sink, what(sink)?))).enumerate() {
            if index < WARNINGS_OF_SINKS_MAX {
                let name = printable(&sink.name, WARNING_TEXT_MAX);
                self.push(code, format!("sink {name} {what}"), Some(name));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            self.add(code, format!("{more} more sinks {many}"));
        }
    }

    fn latency(&mut self, figures: &Figures) {
        let latency = &figures.interval.latency;
        let mut slow = |code, latency: &Latency, bound: f64, what: &str| {
            if let Some(p99) = latency.p99_ms.filter(|p99| *p99 > bound) {
                self.add(code, format!("{what} (p99 of the last seconds: {p99:.0} ms)"));
            }
        };
        slow(Code::CommitsSlow, &latency.commit, COMMITS_SLOW_MS, "events are committed slowly");
        slow(Code::DeliverySlow, &latency.delivery, DELIVERY_SLOW_MS, "clients get events slowly");
        slow(Code::FanoutSlow, &latency.fanout, DELIVERY_SLOW_MS, "followers get signals slowly");
    }
}

fn reason(relay: &Peer) -> String {
    printable(relay.state().reason().unwrap_or("unknown"), WARNING_TEXT_MAX)
}

impl Figures {
    /// The free bytes below which the disk counts as almost full.
    pub(super) const fn low_bytes(&self) -> u64 {
        self.min_free_bytes.saturating_mul(DISK_LOW_FACTOR)
    }
}

#[cfg(test)]
mod tests;
