//! Requests every gap of a relay's coverage, window by window, and records what the answers prove.
//!
//! [`Repair`] decides which window comes next and what an answer proves. This module sends the
//! requests and handles refusals.

use super::negentropy::Reconciliation;
use super::repair::{Finding, Repair};
use crate::limits::{REQUEST_TRIES_MAX, WINDOWS_MAX};
use crate::relay::peer::{Capabilities, Coverage, Gap, GapReason, RepairProgress};
use crate::relay::protocol::{
    AfterRefusal, Answer, Exchange, ExchangeError, Expected, LiveState, Refusal, Reply, Window,
};

/// After this many refusals in a row, without an event in between, the gap is given up: halving its
/// windows further could take very long.
const REFUSALS_MAX: u32 = 64;

/// The backfill of one connection.
pub(crate) struct Backfill<'a> {
    exchange: &'a mut Exchange,
    progress: &'a mut RepairProgress,
}

/// The failures of requests for one gap.
#[derive(Debug, Default)]
struct Failures {
    /// Failed requests since the last answer.
    tries: u32,
    /// Refusals since the last event.
    refusals: u32,
}

/// The outcome of a request for a window.
enum Outcome {
    Found(Vec<Finding>),
    Retry,
    /// The gap stays, for this reason.
    GiveUp(String),
    /// The relay allows only one subscription, and the live subscription is open.
    OneSubscription,
}

impl<'a> Backfill<'a> {
    pub const fn new(exchange: &'a mut Exchange, progress: &'a mut RepairProgress) -> Self {
        Self { exchange, progress }
    }

    /// Whether there is a gap to request.
    pub fn is_needed(&self) -> bool {
        !self.missing().is_empty()
    }

    /// The gaps that can be requested, oldest first.
    fn missing(&self) -> Vec<Gap> {
        let peer = &self.exchange.peer;
        let gaps = peer.read_coverage().map(|coverage| coverage.gaps().to_vec()).unwrap_or_default();
        let can_be_asked = |gap: &Gap| match gap.reason {
            GapReason::BeyondCap { got } => peer.capabilities(|capabilities| {
                capabilities.reconciles() || capabilities.caps.may_give_more_than(got)
            }),
            GapReason::NotAsked | GapReason::MayBeLate | GapReason::Refused(_) => true,
        };
        gaps.into_iter().filter(can_be_asked).collect()
    }

    /// Requests events dated in the future. If the configuration wants only live events, nothing
    /// else is requested.
    pub(crate) async fn ask_ahead(&mut self) -> Result<(), ExchangeError> {
        let since = self.covered_until().saturating_add(1);
        let nothing = Gap { since, until: since, reason: GapReason::NotAsked };
        self.ask_windows(Window { since, until: None }, &nothing).await
    }

    /// Requests every gap, in the order of `in_order`.
    pub(crate) async fn fill_gaps(&mut self) -> Result<(), ExchangeError> {
        let breaks = self.exchange.peer.capabilities(|capabilities| capabilities.caps.is_eased());
        for gap in in_order(self.missing(), breaks) {
            self.fill(&gap).await?;
            if self.exchange.requests.live() != LiveState::Closed
                && self.exchange.peer.capabilities(|capabilities| capabilities.has_one_subscription())
            {
                break; // From now on, the backfill and the live subscription take turns.
            }
        }
        self.exchange.peer.set_repair(None);
        Ok(())
    }

    async fn fill(&mut self, gap: &Gap) -> Result<(), ExchangeError> {
        // The newest gap is requested without an end, because events may be dated in the future.
        let until = (gap.until < self.covered_until()).then_some(gap.until);
        let window = Window { since: gap.since, until };
        if self.exchange.peer.capabilities(|capabilities| capabilities.reconciles())
            && Reconciliation::new(self.exchange, self.progress).run(window).await?
        {
            if until.is_none() {
                self.exchange.requests.prove_time();
            }
            return Ok(());
        }
        self.ask_windows(window, gap).await
    }

    fn covered_until(&self) -> u64 {
        self.exchange.peer.read_coverage().map_or(0, |coverage| coverage.until())
    }

    /// Requests a window by `REQ`, and divides it as often as necessary.
    async fn ask_windows(&mut self, window: Window, gap: &Gap) -> Result<(), ExchangeError> {
        let outcome = self.ask_parts(window, gap).await;
        self.exchange.pass_on_held().await;
        outcome
    }

    async fn ask_parts(&mut self, window: Window, gap: &Gap) -> Result<(), ExchangeError> {
        let form = self.exchange.peer.capabilities(|capabilities| capabilities.form());
        let mut repair = Repair::new(window, self.exchange.subscription.filter_count(form));
        let mut ahead = window.until.is_none().then_some(gap.until);
        let mut failures = Failures::default();
        while let Some(window) = repair.next() {
            let (limit, reply) = self.ask_window(window, repair.least()).await;
            let outcome = match reply {
                Some(Reply::Stored(answer)) => self.answered(&answer, limit, &mut repair, &mut failures),
                Some(Reply::Closed(reason)) => self.refused(&reason, &mut repair, &mut failures).await?,
                Some(_) | None => {
                    failures.tries += 1;
                    match failures.tries >= REQUEST_TRIES_MAX {
                        true => Outcome::GiveUp("no answer".to_owned()),
                        false => Outcome::Retry,
                    }
                }
            };
            let findings = match outcome {
                Outcome::Found(findings) => findings,
                Outcome::Retry => continue,
                Outcome::GiveUp(reason) => {
                    self.give_up(gap, &reason).await;
                    return Ok(());
                }
                Outcome::OneSubscription => return Ok(()),
            };
            let beyond = |newest: u64| {
                findings.iter().any(|finding| matches!(finding, Finding::Gap(second, _) if *second > newest))
            };
            if ahead.is_some_and(beyond) {
                // Some future events cannot be fetched, so time is not proven as it passes.
                ahead = None;
            }
            if !self.comes_again(repair.next(), &findings) {
                self.exchange.pass_on_held().await;
            }
            record(self.exchange, findings).await;
            if let Some(newest) = ahead
                && repair.next().is_none_or(|left| left.until.is_some_and(|until| until <= newest))
            {
                self.exchange.requests.prove_time();
            }
        }
        Ok(())
    }

    /// Requests one window. Returns the request's limit and the reply.
    async fn ask_window(&mut self, window: Window, least: u32) -> (Option<u32>, Option<Reply>) {
        let peer = &self.exchange.peer;
        let (limit, form) =
            peer.capabilities(|capabilities| (capabilities.caps.ask(least), capabilities.form()));
        note_progress(self.exchange, self.progress, window, "req");
        let filters = self.exchange.subscription.window(window, limit, form);
        let reply = self.exchange.ask_backfill(Expected::Stored(window), filters).await;
        if reply.is_some() {
            self.exchange.peer.capabilities(|capabilities| capabilities.caps.answered());
        }
        (limit, reply)
    }

    fn answered(
        &mut self,
        answer: &Answer,
        limit: Option<u32>,
        repair: &mut Repair,
        failures: &mut Failures,
    ) -> Outcome {
        if let Some(reason) = self.exchange.distrust(answer) {
            return Outcome::GiveUp(reason.to_owned());
        }
        if repair.pieces() > WINDOWS_MAX {
            return Outcome::GiveUp("its answers lead to no end".to_owned());
        }
        failures.tries = 0;
        if answer.events > 0 {
            failures.refusals = 0;
            self.exchange.requests.set_useful();
        }
        self.progress.events += u64::from(answer.events);
        let now = self.exchange.shared.log.clock().unix_secs();
        let judge =
            |capabilities: &mut Capabilities| repair.answered(answer, limit, &mut capabilities.caps, now);
        Outcome::Found(self.exchange.peer.capabilities(judge))
    }

    async fn refused(
        &mut self,
        reason: &str,
        repair: &mut Repair,
        failures: &mut Failures,
    ) -> Result<Outcome, ExchangeError> {
        let refusal = Refusal::parse(reason);
        if refusal.is_about_subscriptions() {
            self.exchange.peer.capabilities(Capabilities::note_one_subscription);
            return Ok(Outcome::OneSubscription);
        }
        failures.tries += 1;
        failures.refusals += 1;
        Ok(match self.exchange.after_refusal(&refusal).await? {
            AfterRefusal::Retry => Outcome::Retry,
            // The first refusal may be temporary. The second may mean that the window is too large.
            AfterRefusal::RetryFew if failures.tries < 2 => Outcome::Retry,
            AfterRefusal::Simplify if self.exchange.simplify(Capabilities::simplify_window) => Outcome::Retry,
            AfterRefusal::RetryFew | AfterRefusal::Simplify if failures.refusals < REFUSALS_MAX => {
                let now = self.exchange.shared.log.clock().unix_secs();
                Outcome::Found(repair.refused(&refusal.text, now))
            }
            AfterRefusal::RetryFew | AfterRefusal::Simplify | AfterRefusal::GiveUp => {
                Outcome::GiveUp(refusal.text.into())
            }
        })
    }

    /// Records why the unproven part of a gap stays a gap.
    async fn give_up(&self, gap: &Gap, reason: &str) {
        let relay = &self.exchange.peer.url;
        tracing::debug!(
            name: "gap_found",
            %relay, since = gap.since, until = gap.until, reason, "a gap remains"
        );
        let explain = |coverage: Option<Coverage>| {
            let mut coverage = coverage?;
            coverage.explain(gap.since, gap.until, &GapReason::Refused(reason.into()));
            Some(coverage)
        };
        self.exchange.change_coverage(explain).await;
    }

    /// Whether the next window requests the whole second of the held events again.
    fn comes_again(&self, next: Option<Window>, findings: &[Finding]) -> bool {
        let (Some(second), Some(next)) = (self.exchange.requests.same_second.second(), next) else {
            return false;
        };
        let is_proven = findings.iter().any(
            |finding| matches!(finding, Finding::Proven(since, until) if (*since..=*until).contains(&second)),
        );
        !is_proven && next.contains(second)
    }
}

pub(super) fn note_progress(
    exchange: &Exchange,
    progress: &mut RepairProgress,
    window: Window,
    by: &'static str,
) {
    progress.requests += 1;
    (progress.since, progress.until, progress.by) = (window.since, window.until, by);
    exchange.peer.set_repair(Some(progress.clone()));
}

/// Records in the coverage what an answer has shown.
pub(crate) async fn record(exchange: &Exchange, findings: Vec<Finding>) {
    if findings.is_empty() {
        return;
    }
    let apply = |coverage: Option<Coverage>| {
        let mut coverage = coverage?;
        for finding in findings {
            match finding {
                Finding::Proven(since, until) => coverage.prove(since, until),
                Finding::Gap(second, reason) => coverage.explain(second, second, &reason),
            }
        }
        Some(coverage)
    };
    exchange.change_coverage(apply).await;
}

/// The order in which gaps are requested: newest first. On a stable connection, adjacent gaps that
/// were not requested or may have late events are merged into one request. If connections keep
/// breaking, gaps that were never requested come first: every connection reopens the gaps for late
/// events, which would otherwise always come first.
fn in_order(missing: Vec<Gap>, breaks: bool) -> Vec<Gap> {
    if breaks {
        let (late, never): (Vec<_>, Vec<_>) =
            missing.into_iter().rev().partition(|gap| gap.reason == GapReason::MayBeLate);
        return never.into_iter().chain(late).collect();
    }
    let mut joined: Vec<Gap> = Vec::with_capacity(missing.len());
    for gap in missing {
        match joined.last_mut() {
            Some(last) if last.until.saturating_add(1) == gap.since && can_join(last) && can_join(&gap) => {
                last.until = gap.until;
            }
            _ => joined.push(gap),
        }
    }
    joined.reverse();
    joined
}

const fn can_join(gap: &Gap) -> bool {
    matches!(gap.reason, GapReason::NotAsked | GapReason::MayBeLate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_gaps_are_one_request_unless_connections_break() {
        let gap = |since, until, reason| Gap { since, until, reason };
        let missing = vec![
            gap(10, 19, GapReason::NotAsked),
            gap(30, 39, GapReason::MayBeLate),
            gap(40, 49, GapReason::NotAsked),
            gap(50, 50, GapReason::BeyondCap { got: 5 }),
            gap(51, 59, GapReason::NotAsked),
        ];
        let order = |breaks| {
            let gaps = in_order(missing.clone(), breaks);
            gaps.iter().map(|gap| (gap.since, gap.until)).collect::<Vec<_>>()
        };
        assert_eq!(order(false), [(51, 59), (50, 50), (30, 49), (10, 19)]);
        assert_eq!(order(true), [(51, 59), (50, 50), (40, 49), (10, 19), (30, 39)]);
    }
}
