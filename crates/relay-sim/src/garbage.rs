//! Writes frames that no relay should send.

use std::time::Duration;

use crate::codec::{opcode, write_frame, write_header};
use crate::faults::Garbage;
use crate::rng::Rng;

/// How a connection continues after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterWrite {
    Goes,
    Stalls(Duration),
    FallsSilent,
    Drops,
}

/// Appends a frame with this garbage. `event` is the text of the event that is due.
pub(crate) fn write_garbage(out: &mut Vec<u8>, garbage: Garbage, event: &[u8], rng: &mut Rng) -> AfterWrite {
    match garbage {
        Garbage::InvalidJson => {
            let texts: [&[u8]; 4] = [
                b"[",
                b"this is no JSON, and too long for a heartbeat",
                br#"["EVENT","s",{"id":}]"#,
                br#"["EVENT""#,
            ];
            write_frame(out, opcode::TEXT, rng.pick(&texts).copied().unwrap_or_default());
        }
        Garbage::InvalidUtf8 => {
            let texts: [&[u8]; 3] =
                [b"[\"NOTICE\",\"\xff\xfe\"]", b"\xc3\x28", b"[\"EVENT\",\"s\",{\"\xed\xa0\x80\":1}]"];
            write_frame(out, opcode::TEXT, rng.pick(&texts).copied().unwrap_or_default());
        }
        Garbage::Binary => {
            let bytes: Vec<u8> = (0..rng.between(1, 64)).map(|_| rng.bits() as u8).collect();
            write_frame(out, opcode::BINARY, &bytes);
        }
        Garbage::HugeString => {
            let text = format!(r#"["EVENT","s","{}"]"#, "x".repeat(1 << 20));
            write_frame(out, opcode::TEXT, text.as_bytes());
        }
        Garbage::DeepNesting => write_frame(out, opcode::TEXT, "[".repeat(50_000).as_bytes()),
        Garbage::TruncatedStall | Garbage::TruncatedDrop => {
            write_header(out, opcode::TEXT, true, event.len() + 1 + rng.below(10_000));
            out.extend_from_slice(event.get(..rng.below(event.len())).unwrap_or_default());
            return if garbage == Garbage::TruncatedDrop {
                AfterWrite::Drops
            } else {
                AfterWrite::FallsSilent
            };
        }
        Garbage::WrongSubscription => {
            let frame = [&br#"["EVENT","nobody asked with this id","#[..], event, b"]"].concat();
            write_frame(out, opcode::TEXT, &frame);
        }
        Garbage::UnknownType => {
            let texts = [r#"["GOSSIP","x"]"#, r#"["event","s",{}]"#, "[]", "{}", r#"[17,"s"]"#];
            write_frame(out, opcode::TEXT, rng.pick(&texts).copied().unwrap_or_default().as_bytes());
        }
    }
    AfterWrite::Goes
}
