//! Bytes that no well-behaved peer sends must not cause a panic, and an event that parses must get
//! the right verdict.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::checks;
use crate::events::lawful_frame;

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, Index, String),
    Duplicate(Index, Index, Index),
    Flip(Index, u8),
    Truncate(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let snippet = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}:,\"\\\\ 0a]{1,3}",
        Just(format!("\"id\":\"{}\",", "0".repeat(64))),
        Just(r"\ud800".to_owned()),
        Just(r"\u0000".to_owned()),
        Just("[".repeat(200)),
    ];
    prop_oneof![
        4 => (at(), at(), snippet).prop_map(|(from, to, snippet)| Edit::Replace(from, to, snippet)),
        2 => (at(), at(), at()).prop_map(|(from, to, at)| Edit::Duplicate(from, to, at)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Flip(at, byte)),
        1 => at().prop_map(Edit::Truncate),
    ]
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>) {
    let place = |index: &Index| index.index(bytes.len() + 1);
    // Pieces are short, because long ones would replace the whole frame.
    let span = |from: &Index, to: &Index| place(from)..(place(from) + to.index(9)).min(bytes.len());
    match edit {
        Edit::Replace(from, to, snippet) => _ = bytes.splice(span(from, to), snippet.bytes()),
        Edit::Duplicate(from, to, at) => {
            let piece = bytes[span(from, to)].to_vec();
            let at = place(at);
            bytes.splice(at..at, piece);
        }
        Edit::Flip(at, byte) => {
            let at = place(at);
            if let Some(target) = bytes.get_mut(at) {
                *target = *byte;
            }
        }
        Edit::Truncate(at) => bytes.truncate(place(at)),
    }
}

fn check_all(bytes: &[u8]) {
    checks::frame(bytes);
    checks::event(bytes);
    checks::relay_message(bytes);
    checks::client_message(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        checks::filter(text);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        check_all(&bytes);
    }

    #[test]
    fn nearly_json(text in "(\\[\"EVENT\",\"s\",\\{)?([\\[\\]{}:,\"\\\\ ]|\"id\":|[0a]{64}|\\\\u00|1){0,60}") {
        check_all(text.as_bytes());
    }

    #[test]
    fn damaged_frames(frame in lawful_frame(), edits in vec(edit(), 1..4)) {
        let mut bytes = frame.text.into_bytes();
        for edit in &edits {
            apply(edit, &mut bytes);
        }
        check_all(&bytes);
        if let Some(start) = bytes.iter().position(|byte| *byte == b'{') {
            check_all(bytes[start..].trim_ascii_end().strip_suffix(b"]").unwrap_or_default());
        }
    }
}

#[test]
fn nesting_does_not_eat_the_stack() {
    for open in ["[", "{\"a\":", "[\"EVENT\",\"s\",{\"a\":", "[\"REQ\",\"s\",{\"kinds\":", "[\"EVENT\","] {
        let nested = open.repeat(50_000);
        check_all(nested.as_bytes());
        check_all(format!("[\"EVENT\",\"s\",{{\"a\":{nested}").as_bytes());
    }
    let closed = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    check_all(format!("[\"EVENT\",\"s\",{{\"a\":{closed},\"id\":\"{}\"}}]", "0".repeat(64)).as_bytes());
}
