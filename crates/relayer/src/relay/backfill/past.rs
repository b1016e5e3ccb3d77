//! What we ask a relay of its past: everything that is missing, piece by piece, as `REQ`s or by
//! [NIP-77](super::reconcile).
//!
//! Which window is asked next, and what an answer proves, is decided by [`Repair`]. Here the pending are put,
//! refusals are answered, and what was shown is sent behind the events that show it.

use super::repair::{Answer, Finding, Repair, Window};
use crate::limits::{REQUEST_TRIES_MAX, WINDOWS_MAX};
use crate::relay::link::{Conversation, DisconnectReason, Then};
use crate::relay::peer::{Capabilities, Gap, GapReason};
use crate::relay::protocol::{Expected, LiveState, Refusal, Reply};

/// Refusals of windows, without an event in between, after which a repair is not worth going on with: the
/// windows would be halved for ever.
const REFUSALS_MAX: u32 = 64;

impl Conversation {
    /// What is missing and can be asked for, oldest first.
    fn missing(&self) -> Vec<Gap> {
        let gaps = self.peer.read_coverage().map(|coverage| coverage.gaps().to_vec()).unwrap_or_default();
        let can_be_asked = |gap: &Gap| match gap.reason {
            GapReason::BeyondCap { got } => self.peer.capabilities(|capabilities| {
                capabilities.reconciles() || capabilities.caps.may_give_more_than(got)
            }),
            GapReason::NotAsked | GapReason::MayBeLate | GapReason::Refused(_) => true,
        };
        gaps.into_iter().filter(can_be_asked).collect()
    }

    pub(crate) fn wants_repair(&self) -> bool {
        !self.missing().is_empty()
    }

    /// Asks for what is dated ahead, which is all there is to ask if only live events are wanted.
    pub(crate) async fn ask_ahead(&mut self) -> Result<(), DisconnectReason> {
        let since = self.peer.read_coverage().map_or(0, |coverage| coverage.until()).saturating_add(1);
        let nothing = Gap { since, until: since, reason: GapReason::NotAsked };
        self.ask_windows(Window { since, until: None }, &nothing).await
    }

    /// Asks for everything that is missing, in the order that suits the connection.
    pub(crate) async fn repair_all(&mut self) -> Result<(), DisconnectReason> {
        let breaks = self.peer.capabilities(|capabilities| capabilities.caps.is_eased());
        for gap in in_order(self.missing(), breaks) {
            self.repair(&gap).await?;
            if self.requests.live() != LiveState::Closed
                && self.peer.capabilities(|capabilities| capabilities.has_one_subscription())
            {
                break; // Past and present take turns from now on.
            }
        }
        self.peer.set_repair(None);
        Ok(())
    }

    async fn repair(&mut self, gap: &Gap) -> Result<(), DisconnectReason> {
        let newest = self.peer.read_coverage().map_or(0, |coverage| coverage.until());
        // The newest one is open-ended: events may be dated in the future.
        let until = (gap.until < newest).then_some(gap.until);
        let window = Window { since: gap.since, until };
        if self.peer.capabilities(|capabilities| capabilities.reconciles()) && self.reconcile(window).await? {
            if until.is_none() {
                self.requests.prove_time();
            }
            return Ok(());
        }
        self.ask_windows(window, gap).await
    }

    /// Asks for a window with `REQ`s, in as many pieces as it takes.
    async fn ask_windows(&mut self, window: Window, gap: &Gap) -> Result<(), DisconnectReason> {
        let outcome = self.ask_pieces(window, gap).await;
        self.pass_on_held().await;
        outcome
    }

    async fn ask_pieces(&mut self, window: Window, gap: &Gap) -> Result<(), DisconnectReason> {
        let form = self.peer.capabilities(|capabilities| capabilities.form());
        let filters = self.subscription.filter_count(form);
        let mut repair = Repair::new(window, filters);
        let mut ahead = window.until.is_none().then_some(gap.until);
        let (mut tries, mut refusals) = (0, 0);
        while let Some(window) = repair.next() {
            let (limit, form) = self
                .peer
                .capabilities(|capabilities| (capabilities.caps.ask(repair.least()), capabilities.form()));
            self.note_progress(window, "req");
            let filters = self.subscription.window(window, limit, form);
            let reply = self.ask_past(Expected::Stored(window), filters).await;
            if reply.is_some() {
                self.peer.capabilities(|capabilities| capabilities.caps.answered());
            }
            let distrust = match &reply {
                Some(Reply::Stored(answer)) => self.distrusts(answer),
                _ => None,
            };
            if let Some(reason) = distrust {
                return self.give_up(gap, reason).await;
            }
            let findings = match reply {
                Some(Reply::Stored(_)) if repair.pieces() > WINDOWS_MAX => {
                    return self.give_up(gap, "its answers lead to no end").await;
                }
                Some(Reply::Stored(answer)) => {
                    tries = 0;
                    if answer.events > 0 {
                        refusals = 0;
                        self.requests.set_useful();
                    }
                    self.progress.events += u64::from(answer.events);
                    let now = self.shared.log.clock().unix_secs();
                    self.peer.capabilities(|capabilities| {
                        repair.answered(&answer, limit, &mut capabilities.caps, now)
                    })
                }
                Some(Reply::Closed(reason)) => {
                    let refusal = Refusal::parse(&reason);
                    if refusal.is_about_subscriptions() {
                        // There is the live one, and nothing else: past and present must take turns.
                        self.peer.capabilities(Capabilities::note_one_subscription);
                        return Ok(());
                    }
                    tries += 1;
                    refusals += 1;
                    match self.refused(&refusal).await? {
                        Then::Again => continue,
                        // Once may be a passing trouble. If it stays, the window may be too large.
                        Then::Later if tries < 2 => continue,
                        Then::Otherwise if self.simplify(Capabilities::simplify_window) => continue,
                        Then::Later | Then::Otherwise if refusals < REFUSALS_MAX => {
                            repair.refused(&refusal.text, self.shared.log.clock().unix_secs())
                        }
                        Then::Later | Then::Otherwise | Then::Never => {
                            return self.give_up(gap, &refusal.text).await;
                        }
                    }
                }
                Some(_) | None => {
                    tries += 1;
                    if tries >= REQUEST_TRIES_MAX {
                        return self.give_up(gap, "no answer").await;
                    }
                    continue;
                }
            };
            let beyond = |newest: u64| {
                findings.iter().any(|finding| matches!(finding, Finding::Gap(second, _) if *second > newest))
            };
            if ahead.is_some_and(beyond) {
                ahead = None; // Not all that is dated ahead can be had: time that passes is not proven.
            }
            if !self.comes_again(repair.next(), &findings) {
                self.pass_on_held().await;
            }
            self.found(findings).await;
            if let Some(newest) = ahead
                && repair.next().is_none_or(|left| left.until.is_some_and(|until| until <= newest))
            {
                self.requests.prove_time();
            }
        }
        Ok(())
    }

    /// Why an answer shows nothing of what the relay has, if it does not.
    pub(crate) fn distrusts(&self, answer: &Answer) -> Option<&'static str> {
        if answer.strays {
            return Some("it sends what was not asked for");
        }
        if answer.hints.more && answer.events == 0 {
            return Some("it says that there is more, and sends nothing");
        }
        if !self.requests.authentication.is_unknown() {
            return None;
        }
        if answer.hints.auth {
            return Some("auth-required: it says that it may have more for those who prove a key");
        }
        let serves_the_unknown =
            self.peer.capabilities(|capabilities| capabilities.serves_the_unknown(answer.events > 0));
        (!serves_the_unknown)
            .then_some("auth-required: it has asked for a key, and what it sends without is nothing")
    }

    /// Leaves what is not proven of a gap a gap, for this reason.
    async fn give_up(&self, gap: &Gap, reason: &str) -> Result<(), DisconnectReason> {
        tracing::debug!(relay = %self.peer.url, since = gap.since, until = gap.until, reason, "a gap stays");
        let mark = self.peer.change_coverage(|coverage| {
            let mut coverage = coverage?;
            coverage.explain(gap.since, gap.until, &GapReason::Refused(reason.into()));
            Some(coverage)
        });
        self.mark(mark).await;
        Ok(())
    }

    /// Passes on what is held of the last answer. It must come before every mark that may prove its
    /// second.
    pub(crate) async fn pass_on_held(&self) {
        for candidate in self.requests.same_second.take() {
            self.shared.inboxes.send(candidate).await;
        }
    }

    /// Whether the second of which events are held is not proven, and is asked for as a whole next.
    fn comes_again(&self, next: Option<Window>, findings: &[Finding]) -> bool {
        let (Some(second), Some(next)) = (self.requests.same_second.second(), next) else { return false };
        let is_proven = findings.iter().any(
            |finding| matches!(finding, Finding::Proven(since, until) if (*since..=*until).contains(&second)),
        );
        !is_proven && (next.since..=next.until.unwrap_or(u64::MAX)).contains(&second)
    }

    /// Takes up what an answer has shown.
    pub(crate) async fn found(&self, findings: Vec<Finding>) {
        if findings.is_empty() {
            return;
        }
        let mark = self.peer.change_coverage(|coverage| {
            let mut coverage = coverage?;
            for finding in findings {
                match finding {
                    Finding::Proven(since, until) => coverage.prove(since, until),
                    Finding::Gap(second, reason) => coverage.explain(second, second, &reason),
                }
            }
            Some(coverage)
        });
        self.mark(mark).await;
    }
}

/// What is missing, in the order in which it is asked for: newest first. On a connection that lasts, what is
/// missing and what may have come late before it are one request. On one that breaks again and again, what was
/// never asked for comes first: what may be late is opened anew by every connection, and would be all
/// that is ever asked for.
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
    fn what_is_missing_is_one_request_unless_connections_break() {
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
