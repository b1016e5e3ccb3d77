//! Ends a process that cannot continue, regardless of its state.
//!
//! The panic hook logs panics without a backtrace. A backtrace takes a lock and allocates; if that
//! allocation fails, too, the process hangs. A watchdog thread, which never allocates or locks,
//! aborts the process if a panic cannot be logged, or if the process must end but does not end in
//! time. The hook and the thread exist only after [`start`].

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing::Level;

use crate::crash_point;
use crate::limits::{END_MAX, PANIC_NOTED_MAX};
use crate::telemetry::log_buffer;
use crate::telemetry::record::Record;

/// The interval of the watchdog's checks. The watchdog counts checks and reads no clock, so that
/// time spent in suspend does not count.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The value of [`CHECKS_LEFT`] while the process need not end.
const NEVER: u32 = u32::MAX;

static PANICS: AtomicU64 = AtomicU64::new(0);
static LOGGED: AtomicU64 = AtomicU64::new(0);
/// The number of checks left before the process is aborted.
static CHECKS_LEFT: AtomicU32 = AtomicU32::new(NEVER);

thread_local! {
    static IS_STAGE: Cell<bool> = const { Cell::new(false) };
}

/// Installs the panic hook and starts the watchdog.
///
/// # Errors
/// When the system cannot start another thread.
pub fn start() -> io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Aborts the process if it does not end within [`END_MAX`].
pub(crate) fn must_end() {
    CHECKS_LEFT.fetch_min(checks(END_MAX), Ordering::SeqCst);
}

/// Marks the calling thread as a stage, so that a panic on this thread ends the process.
pub(crate) fn mark_stage() {
    IS_STAGE.set(true);
}

pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Logs a panic without allocating, because memory may be exhausted.
fn log_panic(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::SeqCst);
    if IS_STAGE.get() {
        must_end();
    }
    crash_point::reached("panic");
    let message = panic.payload();
    let text = message.downcast_ref::<&str>().copied();
    let text = text.or_else(|| message.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let current = thread::current();
    let name = current.name().unwrap_or("?");
    let log = |line: fmt::Arguments<'_>| log_buffer::write(format_args!("{}", error(line)));
    match panic.location() {
        Some(place) => log(format_args!("the thread {name} panicked at {place}: {text}")),
        None => log(format_args!("the thread {name} panicked: {text}")),
    }
    LOGGED.fetch_add(1, Ordering::SeqCst);
}

fn watch() {
    let (mut logged_before, mut unlogged_for) = (0, 0);
    loop {
        thread::sleep(CHECK_INTERVAL);
        let logged = LOGGED.load(Ordering::SeqCst);
        let is_stuck = logged == logged_before && PANICS.load(Ordering::SeqCst) != logged;
        (logged_before, unlogged_for) = (logged, if is_stuck { unlogged_for + 1 } else { 0 });
        if unlogged_for > checks(PANIC_NOTED_MAX) {
            abort("a panic could not be reported");
        }
        match CHECKS_LEFT.load(Ordering::SeqCst) {
            NEVER => {}
            0 => abort("the process did not end in time"),
            left => CHECKS_LEFT.store(left - 1, Ordering::SeqCst),
        }
    }
}

/// Aborts the process. Committed events are safe.
fn abort(why: &str) -> ! {
    log_buffer::try_write(format_args!(
        "{}",
        Record { event: "aborting", ..error(format_args!("aborting: {why}")) }
    ));
    // The log thread needs time to write the line.
    thread::sleep(CHECK_INTERVAL);
    std::process::abort()
}

const fn checks(time: Duration) -> u32 {
    (time.as_millis() / CHECK_INTERVAL.as_millis()) as u32
}

/// Makes a line of the log without allocating.
const fn error(message: fmt::Arguments<'_>) -> Record<'_> {
    Record { level: Level::ERROR, target: module_path!(), event: "panic", message, fields: &[] }
}
