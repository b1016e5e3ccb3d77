//! Every claim is true: cases, and a comparison with a simple model.

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;

fn first(since: u64, now: u64) -> Coverage {
    Coverage::first_contact([], since, now)
}

/// Checks the gaps and the watermark.
#[track_caller]
fn check(coverage: &Coverage, gaps: &[(u64, u64)], proven_until: Option<u64>) {
    let found: Vec<_> = coverage.gaps().iter().map(|gap| (gap.since, gap.until)).collect();
    assert_eq!(found, gaps);
    assert_eq!(coverage.proven_until(), proven_until);
}

#[test]
fn a_repair_from_the_new_end_moves_the_watermark_when_it_is_whole() {
    let mut coverage = first(100, 200);
    check(&coverage, &[(100, 200)], None);
    coverage.prove(151, 200);
    check(&coverage, &[(100, 150)], None);
    coverage.prove(80, 150);
    check(&coverage, &[], Some(200));
    coverage.extend(230);
    coverage.reconnected(300, 0);
    check(&coverage, &[(230, 300)], Some(229));
    coverage.prove(230, 230);
    coverage.explain(250, 250, &GapReason::BeyondCap { got: 5 });
    check(&coverage, &[(231, 249), (250, 250), (251, 300)], Some(230));
    coverage.prove(251, u64::MAX);
    coverage.prove(0, 249);
    check(&coverage, &[(250, 250)], Some(249));
    coverage.explain(0, 249, &GapReason::NotAsked);
    check(&coverage, &[(250, 250)], Some(249));
}

#[test]
fn live_only_begins_now() {
    let mut coverage = first(201, 200);
    check(&coverage, &[], None);
    coverage.reconnected(200, 120);
    check(&coverage, &[], None);
    coverage.extend(230);
    check(&coverage, &[], Some(230));
    coverage.reconnected(240, 120);
    check(&coverage, &[(201, 229), (230, 240)], None);
}

#[test]
fn a_reconnect_opens_the_overlap_again() {
    let mut coverage = first(100, 200);
    coverage.prove(100, 200);
    coverage.explain(100, 200, &GapReason::NotAsked);
    coverage.reconnected(210, 20);
    check(&coverage, &[(181, 199), (200, 210)], Some(180));
    assert_eq!(coverage.gaps().first().map(|gap| &gap.reason), Some(&GapReason::MayBeLate));
    // Reconnects before everything was requested: time before the overlap stays proven.
    coverage.prove(196, 210);
    coverage.reconnected(212, 20);
    check(&coverage, &[(181, 209), (210, 212)], Some(180));
    // Reconnects in the same second, and then with a clock that was set back.
    coverage.prove(0, 212);
    coverage.reconnected(212, 0);
    check(&coverage, &[(212, 212)], Some(211));
    coverage.prove(0, 212);
    coverage.reconnected(150, 20);
    check(&coverage, &[(193, 211), (212, 212)], Some(192));
    // A gap with another reason keeps that reason.
    coverage.prove(0, 212);
    coverage.reconnected(214, 0);
    coverage.explain(213, 213, &GapReason::BeyondCap { got: 9 });
    coverage.prove(214, 214);
    coverage.reconnected(216, 20);
    check(&coverage, &[(195, 211), (212, 212), (213, 213), (214, 216)], Some(194));
}

#[test]
fn other_kinds_are_proven_as_far_as_the_old_ones_tell() {
    let mut coverage = Coverage::first_contact([1, 7], 100, 200);
    coverage.prove(100, 200);
    assert_eq!(coverage.of_kinds([7], 150).proven_until(), Some(200));
    let wider = coverage.of_kinds([1, 7, 9], 150);
    assert_eq!((wider.from(), wider.proven_until()), (150, None));
    let all = coverage.of_kinds([], 300);
    assert_eq!((all.from(), all.proven_until()), (201, None), "nothing after the watermark is skipped");
    let mut all = first(100, 200);
    all.prove(100, 200);
    assert_eq!(all.of_kinds([5], 0).proven_until(), Some(200), "all kinds include each");
}

#[test]
fn what_live_events_vouched_for_says_nothing_of_other_kinds() {
    let (clock, manual_clock) = Clock::manual();
    let now = clock.now();
    let since = now.secs() - 1_000;
    let mut coverage = Coverage::resumed(None, [1], since, now, 0);
    coverage.prove(since, u64::MAX);
    coverage.vouch();
    let wider = coverage.of_kinds([1, 7], since);
    manual_clock.step_secs(60);
    let now = clock.now();
    assert_eq!(coverage.on_clock(now).from(), since, "of the kinds that were asked for, it holds");
    assert!(wider.on_clock(now).is_empty());
}

#[test]
fn a_row_reads_back() {
    let mut coverage = Coverage::first_contact([1], 100, 200);
    coverage.explain(150, 150, &GapReason::Refused("blocked: no".into()));
    assert_eq!(Coverage::from_row(&coverage.to_row()).expect("a row"), coverage);
    assert!(Coverage::from_row(b"{}").is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Prove(u64, u64),
    Explain(u64, u64),
    Reconnect(u64, u64),
    Extend(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200_u64, 0..30_u64).prop_map(|(since, length)| Step::Prove(since, since + length)),
        (0..200_u64, 0..30_u64).prop_map(|(since, length)| Step::Explain(since, since + length)),
        (0..20_u64, 0..40_u64).prop_map(|(ahead, overlap)| Step::Reconnect(ahead, overlap)),
        (0..20_u64).prop_map(Step::Extend),
    ]
}

proptest! {
    /// Compares the coverage with a plain list of seconds: every claim must have been proven.
    #[test]
    fn claims_nothing_that_was_not_proven(steps in proptest::collection::vec(step(), 0..60)) {
        let mut coverage = first(50, 100);
        let mut proven = [false; 2_000];
        for step in steps {
            match step {
                Step::Prove(since, until) => {
                    coverage.prove(since, until);
                    (since..=until).for_each(|second| proven[second as usize] = true);
                }
                Step::Explain(since, until) => {
                    coverage.explain(since, until, &GapReason::BeyondCap { got: 1 });
                }
                Step::Reconnect(ahead, overlap) => {
                    let since = coverage.until() + 1 - overlap.max(1);
                    coverage.reconnected(coverage.until() + ahead, overlap);
                    (since..=coverage.until()).for_each(|second| proven[second as usize] = false);
                }
                Step::Extend(ahead) => {
                    let end = coverage.until() + ahead;
                    (coverage.until() + 1..=end).for_each(|second| proven[second as usize] = true);
                    coverage.extend(end);
                }
            }
            // Proving a span outside the coverage has no effect on later extensions.
            let mut last = None;
            for gap in coverage.gaps() {
                prop_assert!(gap.since <= gap.until && gap.until <= coverage.until());
                prop_assert!(last.is_none_or(|last| last < gap.since));
                last = Some(gap.until);
            }
            for second in coverage.from()..=coverage.until() {
                let claimed = coverage.gaps().iter().all(|gap| !(gap.since..=gap.until).contains(&second));
                prop_assert!(!claimed || proven[second as usize], "{second}");
            }
            prop_assert!(coverage.gaps().len() <= GAPS_MAX);
        }
    }
}
