//! WebSocket frames: valid sequences decode to the encoded messages, and invalid ones do no harm.

use proptest::prelude::*;
use wire::websocket::{Decoded, Decoder, Message};

use crate::checks;

/// One frame of a server: opcode byte and payload, with the shortest encoding of its length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        long => {
            frame.push(126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..300),
        1 => prop::collection::vec(any::<u8>(), 1_000..1_400),
    ];
    (prop::sample::select(vec![0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0xff]), payload)
        .prop_map(|(first, payload)| frame(first, &payload))
}

proptest! {
    #[test]
    fn reads_may_be_cut_anywhere(frames in prop::collection::vec(any_frame(), 0..6), cut in 0..6_000_usize) {
        checks::websocket(&frames.concat(), cut);
    }

    #[test]
    fn arbitrary_bytes_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0..400_usize) {
        checks::websocket(&bytes, cut);
    }

    #[test]
    fn a_message_is_the_sum_of_its_fragments(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let last = parts.len() - 1;
        let bytes: Vec<u8> = parts.iter().enumerate().flat_map(|(index, part)| {
            let first = u8::from(index == 0) | if index == last { 0x80 } else { 0 };
            frame(first, part)
        }).collect();
        let (mut decoder, mut at) = (Decoder::new(10_000), 0);
        for _ in 0..last {
            let Decoded::Fragment(taken) = decoder.decode(&bytes[at..]).unwrap() else { panic!("not a fragment") };
            at += taken;
        }
        prop_assert_eq!(
            decoder.decode(&bytes[at..]).unwrap(),
            Decoded::Message(Message::Text(&parts.concat()), bytes.len() - at)
        );
    }
}
