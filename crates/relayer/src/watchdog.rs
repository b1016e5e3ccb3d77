//! A process that cannot go on ends, whatever state it is in.
//!
//! A panic is noted here, without a backtrace: making one takes a lock and allocates, and when that
//! allocation failed, too, the process hung instead of ending. A thread that was made at the start,
//! allocates nothing and waits for no lock aborts the process if a panic cannot be noted, or if the
//! process has not ended in time once it must. A library that is used without the program has
//! neither.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::crash_point;
use crate::limits::{END_MAX, PANIC_NOTED_MAX};
use crate::telemetry::log_buffer;

/// How often the watchdog looks. It counts its looks and reads no clock: a process that was
/// suspended has not used up its time.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// No end is due.
const NEVER: u32 = u32::MAX;

static BEGUN: AtomicU64 = AtomicU64::new(0);
static NOTED: AtomicU64 = AtomicU64::new(0);
/// Looks that are left until the process must have ended.
static LOOKS_LEFT: AtomicU32 = AtomicU32::new(NEVER);

thread_local! {
    static IS_STAGE: Cell<bool> = const { Cell::new(false) };
}

/// Has panics noted here, and starts the watchdog.
///
/// # Errors
/// When the system has no thread left.
pub fn start() -> io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    std::panic::set_hook(Box::new(note));
    Ok(())
}

/// Has the process aborted unless it ends by itself within [`END_MAX`].
pub fn must_end() {
    LOOKS_LEFT.fetch_min(looks(END_MAX), Ordering::SeqCst);
}

/// Marks the calling thread as one without which the process cannot go on: its panic is the end.
pub fn mark_stage() {
    IS_STAGE.set(true);
}

/// How many panics there were.
pub fn panics() -> u64 {
    BEGUN.load(Ordering::Relaxed)
}

/// Notes a panic. It allocates nothing: there may be no memory left.
fn note(panic: &PanicHookInfo<'_>) {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    if IS_STAGE.get() {
        must_end();
    }
    crash_point::reached("panic");
    let message = panic.payload();
    let text = message.downcast_ref::<&str>().copied();
    let text = text.or_else(|| message.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let current = thread::current();
    let name = current.name().unwrap_or("?");
    match panic.location() {
        Some(place) => {
            log_buffer::write(format_args!("{Now} ERROR the thread {name} panicked at {place}: {text}\n"))
        }
        None => log_buffer::write(format_args!("{Now} ERROR the thread {name} panicked: {text}\n")),
    }
    NOTED.fetch_add(1, Ordering::SeqCst);
}

fn watch() {
    let (mut noted_before, mut unnoted_for) = (0, 0);
    loop {
        thread::sleep(LOOK_EVERY);
        let noted = NOTED.load(Ordering::SeqCst);
        let is_stuck = noted == noted_before && BEGUN.load(Ordering::SeqCst) != noted;
        (noted_before, unnoted_for) = (noted, if is_stuck { unnoted_for + 1 } else { 0 });
        if unnoted_for > looks(PANIC_NOTED_MAX) {
            abort("a panic could not be reported");
        }
        match LOOKS_LEFT.load(Ordering::SeqCst) {
            NEVER => {}
            0 => abort("the process did not end in time"),
            left => LOOKS_LEFT.store(left - 1, Ordering::SeqCst),
        }
    }
}

/// Ends the process here and now. What was committed is safe.
fn abort(why: &str) -> ! {
    log_buffer::try_write(format_args!("{Now} ERROR aborting: {why}\n"));
    // For the thread that writes it.
    thread::sleep(LOOK_EVERY);
    std::process::abort()
}

const fn looks(time: Duration) -> u32 {
    (time.as_millis() / LOOK_EVERY.as_millis()) as u32
}

/// The time, as log lines have it.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SystemTime.format_time(&mut Writer::new(f))
    }
}
