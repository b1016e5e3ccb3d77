//! A wrong clock never causes premature deletion of events.

use std::sync::Arc;
use std::time::Duration;

use moltrade_relayer::clock::{Clock, ManualClock};
use moltrade_relayer::event_log::free_space::Reserve;
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Cursor, CursorRow, Cursors, EventLog, StoreOptions};
use tempfile::TempDir;

use crate::bench::{Running, events};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY_SECS: i64 = 86_400;
const KEEP_MS: u64 = 30 * 86_400_000;

fn open(folder: &TempDir, clock: &Clock) -> Arc<EventLog> {
    let options = StoreOptions { fsync: false, ..StoreOptions::default() };
    EventLog::open_with(folder.path(), options, 1 << 20, clock.clone(), Reserve::none()).expect("opens")
}

/// Fills a log with events received once a minute, the last one now, according to this clock.
fn stock(folder: &TempDir, clock: &Clock, count: u64) {
    let log = Running::open(folder.path());
    let mut stock = events(1..=count);
    let now = clock.unix_ms();
    for (verified, back) in stock.iter_mut().zip((0..count).rev()) {
        verified.received_at_ms = now - back * 60_000;
    }
    log.append(stock);
    log.stop();
}

fn agree(clock: &Clock) {
    clock.set_relays(3);
    for relay in ["wss://a", "wss://b"] {
        clock.note_live_event(&Arc::from(relay), clock.unix_secs(), clock.unix_ms());
    }
}

fn forget(log: &EventLog) -> Vec<String> {
    log.forget_unused(Cursors::Consumers, |_| false, KEEP_MS).expect("written")
}

#[test]
fn no_start_with_a_wrong_clock_trims_by_age() {
    for wrong in [2, 25, 24 * 32, 24 * 365] {
        let folder = TempDir::new().expect("a folder");
        let (clock, manual_clock) = Clock::manual();
        stock(&folder, &clock, 30);
        manual_clock.step_secs(wrong * 3_600);
        let clock = manual_clock.clock();
        let log = open(&folder, &clock);
        let retention = Retention { age_ms_max: 3_600_000, ..Retention::default() };
        for _ in 0..3 {
            assert_eq!(log.retain(retention).expect("trims"), 0, "{wrong} h");
            manual_clock.pass(HOUR / 2);
        }
        // Correcting the clock is a step, too.
        manual_clock.step_secs(-wrong * 3_600);
        clock.now();
        assert_eq!(log.retain(retention).expect("trims"), 0, "{wrong} h");
        manual_clock.pass(HOUR);
        agree(&clock);
        assert_eq!(log.retain(retention).expect("trims"), 30, "by now they are old: {wrong} h");
    }
}

#[test]
fn events_that_a_slow_clock_received_are_not_old() {
    let folder = TempDir::new().expect("a folder");
    let log = Running::open(folder.path());
    let now = Clock::system().unix_ms();
    let mut stock = events(1..=30);
    for verified in &mut stock {
        let seq = verified.received_at_ms / 1_000;
        let is_behind = (11..=20).contains(&seq);
        verified.received_at_ms = if is_behind { now - 25 * 3_600_000 } else { now - 60_000 };
    }
    while !stock.is_empty() {
        log.append(stock.drain(..10).collect());
    }
    let day = Retention { age_ms_max: 24 * 3_600_000, ..Retention::default() };
    assert_eq!(log.log.trim(day, now).expect("trims"), 0);
    assert_eq!(log.log.trim(day, now + 24 * 3_600_000).expect("trims"), 30);
}

#[test]
fn trimming_by_size_ignores_the_clock() {
    let folder = TempDir::new().expect("a folder");
    let (clock, manual_clock) = Clock::manual();
    stock(&folder, &clock, 30);
    manual_clock.step_secs(32 * DAY_SECS);
    let log = open(&folder, &manual_clock.clock());
    let retention = Retention { bytes_max: 1, age_ms_max: 1, ..Retention::default() };
    assert_eq!(log.retain(retention).expect("trims"), 30);
}

#[test]
fn no_wrong_clock_forgets_a_consumer() {
    let now_used = |log: &EventLog| log.clock().at_least_the_log_ms();
    for wrong in [32, -32, 365 * 30, -365 * 30] {
        for is_wrong_at_the_start in [true, false] {
            let folder = TempDir::new().expect("a folder");
            let (clock, manual_clock) = Clock::manual();
            stock(&folder, &clock, 3);
            let log = open(&folder, &manual_clock.clock());
            let row = CursorRow { unused_since_ms: now_used(&log), ..CursorRow::at(Cursor::START) };
            log.set_cursor(Cursors::Consumers, "before", row).expect("written");
            let log = match is_wrong_at_the_start {
                true => {
                    drop(log);
                    manual_clock.step_secs(wrong * DAY_SECS);
                    open(&folder, &manual_clock.clock())
                }
                false => {
                    manual_clock.step_secs(wrong * DAY_SECS);
                    log.clock().now();
                    log
                }
            };
            assert_eq!(forget(&log), [""; 0], "{wrong} days");
            // The consumer disconnects while the clock is wrong.
            let row = CursorRow { unused_since_ms: now_used(&log), ..row };
            log.set_cursor(Cursors::Consumers, "meanwhile", row).expect("written");
            manual_clock.step_secs(-wrong * DAY_SECS);
            log.clock().now();
            assert_eq!(forget(&log), [""; 0], "{wrong} days");
            manual_clock.pass(HOUR);
            agree(log.clock());
            assert!(log.clock().deletes_by_age());
            assert_eq!(forget(&log), [""; 0], "{wrong} days");
            let names: Vec<String> = log
                .cursors(Cursors::Consumers)
                .expect("readable")
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(names, ["before", "meanwhile"]);
        }
    }
}

#[test]
fn an_operator_who_says_that_the_clock_is_right_is_believed() {
    let folder = TempDir::new().expect("a folder");
    let (clock, _) = Clock::manual();
    stock(&folder, &clock, 30);
    let manual_clock = ManualClock::default();
    manual_clock.pass(25 * HOUR);
    let log = open(&folder, &manual_clock.clock());
    let retention = Retention { age_ms_max: 3_600_000, ..Retention::default() };
    assert_eq!(log.retain(retention).expect("trims"), 0);
    assert!(log.clock().confirm());
    assert_eq!(log.retain(retention).expect("trims"), 30);
}
