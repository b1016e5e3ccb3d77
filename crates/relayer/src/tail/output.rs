//! Standard output: lines are written by another thread, so that a reader that pauses delays
//! neither signals nor the connection.

use std::future::pending;
use std::io::{self, IsTerminal, Write};
use std::mem::take;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::limits::TAIL_BUFFER_BYTES;
use crate::printable::is_printable;

/// Lines that wait for standard output.
#[derive(Debug)]
pub(super) struct Output {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Everything up to this sequence has been written once `waiting` is.
    through: Option<u64>,
    writing: Option<Writing>,
    is_terminal: bool,
}

#[derive(Debug)]
struct Writing {
    task: JoinHandle<io::Result<()>>,
    through: u64,
}

impl Output {
    pub fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { waiting: Vec::new(), through: None, writing: None, is_terminal }
    }

    /// Adds a line of JSON.
    pub fn push(&mut self, json: &str, seq: u64) {
        if self.is_terminal {
            push_printable(&mut self.waiting, json);
        } else {
            // JSON has line breaks only between tokens.
            self.waiting
                .extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        self.waiting.push(b'\n');
        self.pass(seq);
    }

    /// Notes that up to this sequence, all lines to be written have been added.
    pub fn pass(&mut self, seq: u64) {
        self.through = Some(seq);
    }

    pub fn has_room(&self) -> bool {
        self.waiting.len() < TAIL_BUFFER_BYTES
    }

    pub fn is_idle(&self) -> bool {
        self.through.is_none() && self.writing.is_none()
    }

    /// Writes the waiting lines, and returns the sequence up to which everything is written. Lines
    /// that arrive during a write are written together afterwards. Pending while there is nothing
    /// to write. The future is cancel-safe.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub async fn written(&mut self) -> io::Result<u64> {
        if self.writing.is_none() {
            let Some(through) = self.through.take() else { return pending().await };
            if self.waiting.is_empty() {
                return Ok(through);
            }
            let lines = take(&mut self.waiting);
            self.writing = Some(Writing { task: spawn_blocking(move || write(&lines)), through });
        }
        let Some(Writing { task, through }) = &mut self.writing else { return pending().await };
        let (done, through) = (task.await, *through);
        self.writing = None;
        done.map_err(io::Error::other)?.map(|()| through)
    }
}

fn write(lines: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines)?;
    out.flush()
}

/// Writes JSON with escapes for characters that could deceive the reader of a terminal. Outside of
/// strings, JSON has no such characters but line breaks. The value stays the same.
fn push_printable(out: &mut Vec<u8>, json: &str) {
    for character in json.chars() {
        match character {
            '\n' | '\r' | '\t' => out.push(b' '),
            character if is_printable(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            character => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
}

/// Waits until the reader of standard output has closed it, so that `tail | head` ends although no
/// event arrives. Pending for outputs without a reader, such as files.
pub(super) async fn closed() {
    let (closed, watched) = oneshot::channel();
    // The thread ends with the process.
    let watch = move || {
        let out = io::stdout();
        // Errors and hang-ups are reported although no event is asked for.
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        if poll(&mut watched, None).is_ok_and(|ready| ready > 0) {
            let _ = closed.send(());
        }
    };
    if thread::Builder::new().name("output".to_owned()).spawn(watch).is_err() || watched.await.is_err() {
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_terminal_gets_the_same_json_without_characters_that_deceive() {
        let hostile = "{\"a\":\"\u{9b}2J \u{202e}x\u{7f} \u{e0041} \\u001b ü 😀\",\n\"b\":1}";
        let mut shown = Vec::new();
        push_printable(&mut shown, hostile);
        let shown = String::from_utf8(shown).expect("UTF-8");
        let expected = "{\"a\":\"\\u009b2J \\u202ex\\u007f \\udb40\\udc41 \\u001b ü 😀\", \"b\":1}";
        assert_eq!(shown, expected);
        let value = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
        assert_eq!(value(&shown), value(hostile));
    }

    #[test]
    fn an_event_is_one_line() {
        let mut output = Output { waiting: Vec::new(), through: None, writing: None, is_terminal: false };
        output.push("{\"a\":\r\n1}", 7);
        assert_eq!(output.waiting, b"{\"a\":  1}\n");
        assert!(!output.is_idle() && output.has_room());
        output.waiting.resize(TAIL_BUFFER_BYTES, b' ');
        assert!(!output.has_room());
    }

    #[tokio::test]
    async fn what_was_passed_needs_no_write() {
        let mut output = Output::new();
        output.pass(3);
        output.pass(5);
        assert_eq!(output.written().await.expect("nothing is written"), 5);
        assert!(output.is_idle());
    }
}
