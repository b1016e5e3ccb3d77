//! Writes floods: valid frames in excessive numbers.

use crate::codec::{opcode, write_frame, write_header};
use crate::faults::Flood;

/// The number of frames of a message with too many fragments.
const FRAGMENTS: usize = 1_000;

/// Appends some frames of a flood, and returns their number.
pub(crate) fn write_flood(out: &mut Vec<u8>, flood: Flood) -> u64 {
    const MANY: u64 = 1_000;
    let notice = |letters: usize| format!(r#"["NOTICE","{}"]"#, "x".repeat(letters));
    match flood {
        Flood::Pings => (0..MANY).for_each(|_| write_frame(out, opcode::PING, b"")),
        Flood::Pongs => (0..MANY).for_each(|_| write_frame(out, opcode::PONG, b"")),
        Flood::EmptyText => (0..MANY).for_each(|_| write_frame(out, opcode::TEXT, b"")),
        Flood::Fragments => return write_fragments(out, notice(FRAGMENTS).as_bytes(), 1),
        Flood::EmptyFragments => return write_fragments(out, notice(0).as_bytes(), FRAGMENTS),
        Flood::Mixed => return Flood::SORTS.into_iter().map(|sort| write_flood(out, sort)).sum(),
    }
    MANY
}

/// Appends a text in fragments of one byte, each followed by `each - 1` empty fragments.
fn write_fragments(out: &mut Vec<u8>, text: &[u8], each: usize) -> u64 {
    let mut frames = 0;
    for (place, byte) in text.iter().enumerate() {
        let opcode = if place == 0 { opcode::TEXT } else { opcode::CONTINUATION };
        write_header(out, opcode, false, 1);
        out.push(*byte);
        (1..each).for_each(|_| write_header(out, opcode::CONTINUATION, false, 0));
        frames += each as u64;
    }
    write_header(out, opcode::CONTINUATION, true, 0);
    frames + 1
}
