//! The frame scan: finds the subscription and claimed id of an `EVENT` frame without parsing or
//! allocating.
//!
//! Most frames are copies of known events, and only this scan examines them. The scan walks the
//! members of the event object, skipping values, until it reaches `id`. It relies only on JSON's
//! grammar, so key order, white space and nested values do not matter. In doubt, the scan leaves
//! the frame to the parser. For every frame that parses, the scanned id equals the parsed one.

use memchr::memchr2;

use crate::ids::{ClaimedId, PublicKey};

/// The type of a frame, as far as a scan can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan<'a> {
    /// An `EVENT` frame.
    Event {
        /// The subscription id as written in the frame; it has no escapes.
        subscription: &'a [u8],
        /// The id that the event claims.
        claimed: ClaimedId,
        /// The event object's text, perhaps invalid, and the rest of the frame, which
        /// [`first_value`] cuts off.
        event: &'a [u8],
    },
    /// A frame of another type, or an unusual one: it must be parsed.
    Parse,
}

/// Scans one frame from a relay.
pub fn scan(frame: &[u8]) -> Scan<'_> {
    Walk { text: frame, at: 0 }.event_frame().unwrap_or(Scan::Parse)
}

/// The author that an event object's text claims, found without parsing; `None` means that the
/// event must be parsed.
///
/// For every event that parses, the scanned author equals the parsed one: the scan stops at the
/// first `pubkey`, and the parser refuses an event with a second `pubkey`.
pub fn author(event: &[u8]) -> Option<PublicKey> {
    let mut walk = Walk { text: event, at: 0 };
    walk.expect(b'{')?;
    walk.member(b"pubkey")?;
    PublicKey::from_hex(walk.plain_string()?).ok()
}

/// The first JSON value of a text, without the rest of the text; the whole text if the value does
/// not end.
///
/// Some relays send `EVENT` messages of more than three parts.
pub fn first_value(text: &[u8]) -> &[u8] {
    let mut walk = Walk { text, at: 0 };
    match walk.skip_value() {
        Some(()) => text.get(..walk.at).unwrap_or(text).trim_ascii_end(),
        None => text,
    }
}

/// Values from the beginning of an `EVENT` frame. The rest of the frame is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead<'a> {
    /// The subscription id as written in the frame; it has no escapes.
    pub subscription: &'a [u8],
    /// The id that the event claims, if the part of the frame that was read contains it.
    pub claimed: Option<ClaimedId>,
    /// The `created_at` that the event claims, if the part of the frame that was read contains it.
    pub created_at: Option<u64>,
}

/// Reads the beginning of a frame; `None` if it is not an `EVENT` frame or begins in an unusual
/// way.
pub fn scan_head(head: &[u8]) -> Option<EventHead<'_>> {
    let mut walk = Walk { text: head, at: 0 };
    let subscription = walk.event_prefix()?;
    walk.expect(b'{')?;
    let mut found = EventHead { subscription, claimed: None, created_at: None };
    // `None` means that the text ended. Values found before that are valid.
    _ = walk.head_members(&mut found);
    Some(found)
}

/// A position in the text. Every method returns `None` for "not sure".
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// Skips the text before the event, and returns the subscription.
    fn event_prefix(&mut self) -> Option<&'a [u8]> {
        self.expect(b'[')?;
        if self.plain_string()? != b"EVENT" {
            return None;
        }
        self.expect(b',')?;
        let subscription = self.plain_string()?;
        self.expect(b',')?;
        Some(subscription)
    }

    /// Records the members of the event object that belong in `found`, until the text ends.
    fn head_members(&mut self, found: &mut EventHead<'a>) -> Option<()> {
        loop {
            let key = self.plain_string()?;
            self.expect(b':')?;
            match key {
                b"id" => found.claimed = Some(ClaimedId::from_hex(self.plain_string()?).ok()?),
                b"created_at" => {
                    self.skip_space();
                    let start = self.at;
                    self.skip_value()?;
                    let number = std::str::from_utf8(self.text.get(start..self.at)?).ok()?;
                    found.created_at = Some(number.trim_ascii_end().parse().ok()?);
                }
                _ => self.skip_value()?,
            }
            self.expect(b',')?;
        }
    }

    fn event_frame(&mut self) -> Option<Scan<'a>> {
        let subscription = self.event_prefix()?;
        self.skip_space();
        let event = self.text.get(self.at..)?.trim_ascii_end().strip_suffix(b"]")?;
        self.expect(b'{')?;
        self.member(b"id")?;
        let claimed = ClaimedId::from_hex(self.plain_string()?).ok()?;
        Some(Scan::Event { subscription, claimed, event })
    }

    /// Moves from after the opening brace of an object to the value of the member `name`.
    fn member(&mut self, name: &[u8]) -> Option<()> {
        loop {
            let key = self.plain_string()?;
            self.expect(b':')?;
            if key == name {
                return Some(());
            }
            self.skip_value()?;
            self.expect(b',')?;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Reads a string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.text.get(self.at..)?;
        let end = memchr2(b'"', b'\\', rest)?;
        self.at += end + 1;
        (rest.get(end) == Some(&b'"')).then(|| rest.get(..end))?
    }

    /// Skips the rest of a string after its opening quote.
    fn skip_string(&mut self) -> Option<()> {
        loop {
            let rest = self.text.get(self.at..)?;
            let end = memchr2(b'"', b'\\', rest)?;
            self.at += end + 1;
            if rest.get(end) == Some(&b'"') {
                return Some(());
            }
            self.at += 1; // An escaped character does not end the string.
        }
    }

    /// Skips a value of any type. Counts brackets without comparing their kinds: the parser refuses
    /// a frame whose brackets do not match.
    fn skip_value(&mut self) -> Option<()> {
        self.skip_space();
        let mut depth = 0_usize;
        loop {
            let byte = self.peek()?;
            match byte {
                // A scalar ends before the next member or the end of the surrounding object.
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                b'"' => {
                    self.at += 1;
                    self.skip_string()?;
                }
                b'[' | b'{' => {
                    self.at += 1;
                    depth += 1;
                }
                b']' | b'}' => {
                    self.at += 1;
                    depth -= 1;
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4376c65d2f232afbe9b882a35baa4f6fe8667c4e684749af565f981833ed6a65";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn claimed(frame: &str) -> Option<String> {
        match scan(frame.as_bytes()) {
            Scan::Event { claimed, .. } => Some(claimed.to_string()),
            Scan::Parse => None,
        }
    }

    #[test]
    fn finds_the_id_wherever_json_allows_it() {
        for frame in [
            format!(r#"["EVENT","s",{{"id":"{ID}","kind":1}}]"#),
            format!(r#"["EVENT","s",{{"kind":1,"id":"{ID}"}}]"#),
            format!("\n[ \"EVENT\" ,\t\"s\" , {{ \"kind\" : 1 , \"id\" : \"{ID}\" }} ]\r\n"),
            format!(r#"["EVENT","s",{{"content":"a\"id\":\"{OTHER}\"\\","id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"content":"\"id\":\"{OTHER}","id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"extra":{{"id":"{OTHER}"}},"id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"extra":[1,{{"id":"{OTHER}"}},"]"],"id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"extra":{{"a":"}}","id":"{OTHER}"}},"id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"tags":[["id","{OTHER}"],[]],"id":"{ID}"}}]"#),
        ] {
            assert_eq!(claimed(&frame).as_deref(), Some(ID), "{frame}");
        }
    }

    #[test]
    fn finds_the_author_wherever_json_allows_it() {
        for (event, found) in [
            (format!(r#"{{"id":"{OTHER}","pubkey":"{ID}"}}"#), true),
            (format!("{{\n\"tags\" : [[\"pubkey\",\"{OTHER}\"]] , \"pubkey\" : \"{ID}\"}}"), true),
            (format!(r#"{{"content":"\"pubkey\":\"{OTHER}\"","pubkey":"{ID}"}}"#), true),
            (format!(r#"{{"extra":{{"pubkey":"{OTHER}"}},"pubkey":"{ID}"}}"#), true),
            (format!(r#"{{"\u0070ubkey":"{ID}"}}"#), false),
            (format!(r#"{{"pubkey":"\u0034{}"}}"#, &ID[1..]), false),
            (format!(r#"{{"pubkey":"{}"}}"#, ID.to_uppercase()), false),
            (format!(r#"["pubkey","{ID}"]"#), false),
            ("{}".to_owned(), false),
        ] {
            let author = author(event.as_bytes()).map(|author| author.to_string());
            assert_eq!(author.as_deref(), found.then_some(ID), "{event}");
        }
    }

    #[test]
    fn leaves_what_is_unusual_to_the_parser() {
        for frame in [
            r#"["EOSE","s"]"#.to_owned(),
            r#"["NOTICE","[\"EVENT\""]"#.to_owned(),
            format!(r#"["EVENT","s",{{"\u0069d":"{ID}"}}]"#),
            format!(r#"["\u0045VENT","s",{{"id":"{ID}"}}]"#),
            format!(r#"["EVENT","s\"",{{"id":"{ID}"}}]"#),
            format!(r#"["EVENT","s",{{"id":"{}"}}]"#, ID.to_uppercase()),
            format!(r#"["EVENT","s",{{"id":"{ID}"}}"#),
            format!(r#"["EVENT","s",{{"a\"id":"{ID}"}}]"#),
            r#"["EVENT","s",{}]"#.to_owned(),
            "[".repeat(50_000),
            String::new(),
        ] {
            assert_eq!(claimed(&frame), None, "{frame}");
        }
    }

    #[test]
    fn the_first_value_ends_where_it_ends() {
        for (value, rest) in [
            (r#"{"a":"}","b":[{}]}"#, r#",{"relay":"x"}"#),
            (r#"{"a":"\"}"}"#, " , 1"),
            ("{}", ""),
            ("7", ",8"),
            (r#"{"a":["#, ""),
        ] {
            assert_eq!(first_value(format!("{value}{rest}").as_bytes()), value.as_bytes());
        }
    }

    #[test]
    fn the_beginning_of_a_frame_tells_what_it_has_and_nothing_that_was_cut() {
        let frame = format!(
            r#"["EVENT", "p1",{{"kind":1,"created_at": 1700000000 ,"tags":[["a","}}"]],"id":"{ID}","content":"x"#
        );
        let head = |end: usize| {
            let head = scan_head(&frame.as_bytes()[..end])?;
            assert_eq!(head.subscription, b"p1");
            Some((head.claimed.map(|id| id.to_string()), head.created_at))
        };
        let (date, id) = (frame.find(" ,").expect("there"), frame.find(ID).expect("there") + ID.len() + 1);
        let event = frame.find('{').expect("there") + 1;
        for end in 0..=frame.len() {
            let expected = if end < event {
                None
            } else if end <= date + 1 {
                Some((None, None))
            } else if end < id {
                Some((None, Some(1_700_000_000)))
            } else {
                Some((Some(ID.to_owned()), Some(1_700_000_000)))
            };
            assert_eq!(head(end), expected, "{}", &frame[..end]);
        }
        for other in [r#"["NOTICE","x"#, r#"["EVENT","s","x"#, r#"{"a":["#, r#"["EVENT",7,{"#] {
            assert_eq!(scan_head(other.as_bytes()), None, "{other}");
        }
        let odd = scan_head(br#"["EVENT","s",{"created_at":-1,"id":"#).expect("an event");
        assert_eq!((odd.claimed, odd.created_at), (None, None));
    }

    #[test]
    fn gives_the_event_without_the_frame_around_it() {
        let frame = format!(r#"["EVENT","sub", {{"id":"{ID}","tags":[]}} ] "#);
        let Scan::Event { subscription, event, .. } = scan(frame.as_bytes()) else {
            panic!("not scanned");
        };
        assert_eq!(subscription, b"sub");
        assert_eq!(event.trim_ascii_end(), format!(r#"{{"id":"{ID}","tags":[]}}"#).as_bytes());
    }
}
