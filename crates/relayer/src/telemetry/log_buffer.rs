//! Buffers log lines, which a dedicated thread writes to standard error.
//!
//! Logging never waits for standard error and never fails: if the reader of the pipe stalls, the
//! pipe is closed or the file system is full, lines are dropped and counted. The buffer is
//! allocated at the start, so logging a panic or an allocation failure does not allocate.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Level;

use super::record::Record;
use crate::limits::{LOG_BUFFER_BYTES, LOG_FLUSH_MAX};

static LINES: Lines = Lines::new();

static LOST: AtomicU64 = AtomicU64::new(0);

/// The pause between attempts while a non-blocking standard error is full.
const RETRY: Duration = Duration::from_millis(20);

/// On drop, even during a panic, waits until all lines are written, for at most [`LOG_FLUSH_MAX`].
#[derive(Debug)]
pub struct FlushedAtTheEnd(());

impl Drop for FlushedAtTheEnd {
    fn drop(&mut self) {
        let is_busy = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
        // After the timeout, the remaining lines are lost.
        drop(LINES.changed.wait_timeout_while(LINES.lock(), LOG_FLUSH_MAX, is_busy));
    }
}

/// Starts the writer thread.
///
/// # Errors
/// When the system cannot start another thread.
pub fn start() -> io::Result<FlushedAtTheEnd> {
    LINES.lock().waiting.reserve_exact(LOG_BUFFER_BYTES);
    let writing = thread::Builder::new().name("log".to_owned());
    writing.spawn(|| LINES.write_to(&mut io::stderr(), Vec::with_capacity(LOG_BUFFER_BYTES)))?;
    Ok(FlushedAtTheEnd(()))
}

/// Adds a line to the buffer, completely or not at all.
pub fn write(line: fmt::Arguments<'_>) {
    LINES.add(|buffer| buffer.write_fmt(line));
}

/// Like [`write`], but never waits: the line is lost if another thread is adding one.
pub(crate) fn try_write(line: fmt::Arguments<'_>) {
    if let Ok(mut state) = LINES.state.try_lock() {
        state.add(|buffer| buffer.write_fmt(line));
        drop(state);
        LINES.changed.notify_all();
    }
}

/// Returns the number of lines lost since the start because standard error was too slow or failed.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The writer for [`tracing_subscriber`].
#[derive(Debug, Clone, Copy)]
pub struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.add(|buffer| buffer.write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Never grows beyond [`LOG_BUFFER_BYTES`].
    waiting: Vec<u8>,
    /// Whether the thread is still writing the previous buffer.
    is_writing: bool,
    /// The number of lines that did not fit and have not been reported.
    lost: u64,
}

impl State {
    fn add(&mut self, write: impl FnOnce(&mut Room<'_>) -> io::Result<()>) {
        let before = self.waiting.len();
        if write(&mut Room(&mut self.waiting)).is_err() {
            self.waiting.truncate(before);
            self.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Lines {
    const fn new() -> Self {
        let state = State { waiting: Vec::new(), is_writing: false, lost: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, write: impl FnOnce(&mut Room<'_>) -> io::Result<()>) {
        self.lock().add(write);
        self.changed.notify_all();
    }

    /// Writes buffered lines for as long as the process runs.
    fn write_to(&self, out: &mut impl Write, mut lines: Vec<u8>) -> ! {
        loop {
            let state = self.lock();
            let waited = self.changed.wait_while(state, |state| state.waiting.is_empty() && state.lost == 0);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut state.waiting, &mut lines);
            state.is_writing = true;
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            let unwritten = write_all(out, &lines);
            LOST.fetch_add(unwritten.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
            if lost > 0 {
                // If this line is lost, too, the counter still shows the loss.
                let _ = out.write_all(lines_were_lost(lost).as_bytes());
            }
            lines.clear();
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

/// The line that reports lost lines.
fn lines_were_lost(lost: u64) -> String {
    let record = Record {
        level: Level::WARN,
        target: module_path!(),
        event: "log_lines_lost",
        message: format_args!("{lost} log lines were lost: standard error was too slow"),
        fields: &[("lines", &lost)],
    };
    record.to_string()
}

/// Writes as many bytes as possible and returns the rest.
fn write_all<'a>(out: &mut impl Write, mut lines: &'a [u8]) -> &'a [u8] {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => break,
            Ok(written) => lines = lines.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    lines
}

/// The free space of the buffer.
struct Room<'a>(&'a mut Vec<u8>);

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LOG_BUFFER_BYTES {
            return Err(ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Sends each write to a channel, and blocks until the test receives it.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (&'static Lines, Receiver<Vec<u8>>) {
        let (write, written) = sync_channel(0);
        let lines: &Lines = Box::leak(Box::new(Lines::new()));
        thread::spawn(move || lines.write_to(&mut Slow(write), Vec::new()));
        (lines, written)
    }

    fn add(lines: &Lines, line: &[u8]) {
        lines.add(|buffer| buffer.write_all(line));
    }

    #[test]
    fn logging_does_not_wait_for_a_reader_that_stalls() {
        let (lines, written) = slow();
        add(lines, b"first\n");
        // The thread now blocks on the first line, so everything else must wait.
        while !lines.lock().is_writing {
            thread::yield_now();
        }
        let long = [b"x".repeat(LOG_BUFFER_BYTES / 4 - 1), b"\n".to_vec()].concat();
        for _ in 0..20 {
            add(lines, &long);
        }
        let lost = lines.lock().lost;
        assert_eq!(lost, 16, "four fit, and the rest is lost");
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains("log lines were lost") {
            all.extend(written.recv().unwrap());
        }
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("first\nx"), "in order");
        assert!(text.contains(&format!(": {lost} log lines were lost")), "the loss is reported");
        assert_eq!(text.matches('x').count(), long.len().saturating_sub(1) * (20 - lost as usize));
    }

    #[test]
    fn a_line_is_written_completely_or_not_at_all() {
        let lines = Lines::new();
        add(&lines, &b"x".repeat(LOG_BUFFER_BYTES - 4));
        lines.add(|buffer| buffer.write_fmt(format_args!("{}{}", "abc", "def")));
        lines.add(|buffer| buffer.write_fmt(format_args!("{}{}", "ab", "cd")));
        let state = lines.lock();
        assert!(state.waiting.ends_with(b"xabcd"));
        assert_eq!(state.lost, 1);
    }

    #[test]
    fn a_closed_reader_costs_only_lines() {
        let (lines, written) = slow();
        drop(written);
        let lost = lines_lost();
        for _ in 0..3 {
            add(lines, b"nobody reads this\n");
            let state = lines.lock();
            let is_busy = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
            drop(lines.changed.wait_while(state, is_busy).unwrap());
        }
        assert!(lines_lost() >= lost + 3, "they are counted");
    }
}
