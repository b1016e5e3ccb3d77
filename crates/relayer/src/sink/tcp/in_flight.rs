//! The events in flight to a sink, which limit how far the sink's cursor may move (invariant 4). No
//! I/O, no clock.
//!
//! An event is *queued* until all of its bytes are sent. If the sink acknowledges events, the event
//! is then *unacked*. The sink has every event before the first queued or unacked one.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::event_log::{Cursor, Seq};

/// An acknowledgement of an event that the sink cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidAck {
    #[error("it acknowledged {found} after {before}")]
    Backwards { found: u64, before: u64 },
    #[error("it acknowledged {found}, which was not sent to it on this connection")]
    NeverSent { found: u64 },
}

#[derive(Debug)]
pub(super) struct InFlight {
    /// The position of each event's end in the byte stream, and the event's sequence.
    queued: VecDeque<(u64, Seq)>,
    /// The sequence of each event, and when the event was sent.
    unacked: VecDeque<(Seq, Instant)>,
    acknowledges: bool,
    last_ack: Option<u64>,
    /// The cursor up to which every event was queued, skipped or lost.
    passed: Cursor,
}

impl InFlight {
    /// Starts with nothing in flight: the sink has everything up to the cursor.
    pub(super) const fn after(cursor: Cursor, acknowledges: bool) -> Self {
        Self {
            queued: VecDeque::new(),
            unacked: VecDeque::new(),
            acknowledges,
            last_ack: None,
            passed: cursor,
        }
    }

    /// Queues an event whose bytes end at this position of the byte stream.
    pub(super) fn queue(&mut self, seq: Seq, end: u64) {
        self.queued.push_back((end, seq));
        self.passed = Cursor::after(seq);
    }

    /// Records that the sink does not want this event.
    pub(super) const fn skip(&mut self, seq: Seq) {
        self.passed = Cursor::after(seq);
    }

    /// Records that retention has trimmed everything up to this cursor.
    pub(super) const fn lose(&mut self, up_to: Cursor) {
        self.passed = up_to;
    }

    /// Records that the byte stream was sent up to this position. Returns how many more events the
    /// sink now has.
    pub(super) fn sent(&mut self, up_to: u64, now: Instant) -> u64 {
        let mut delivered = 0;
        while let Some(&(end, seq)) = self.queued.front()
            && end <= up_to
        {
            self.queued.pop_front();
            if self.acknowledges {
                self.unacked.push_back((seq, now));
            } else {
                delivered += 1;
            }
        }
        delivered
    }

    /// Records that the sink acknowledged everything up to this sequence. Returns the number of
    /// newly acknowledged events.
    pub(super) fn acked(&mut self, found: u64) -> Result<u64, InvalidAck> {
        if self.last_ack == Some(found) {
            return Ok(0);
        }
        if let Some(before) = self.last_ack.filter(|before| found < *before) {
            return Err(InvalidAck::Backwards { found, before });
        }
        let place = self.unacked.binary_search_by_key(&found, |(seq, _)| seq.get());
        let place = place.map_err(|_| InvalidAck::NeverSent { found })?;
        self.unacked.drain(..=place);
        self.last_ack = Some(found);
        Ok(place as u64 + 1)
    }

    /// The cursor up to which the sink has everything that it wants.
    pub(super) fn delivered(&self) -> Cursor {
        let unacked = self.unacked.front().map(|(seq, _)| *seq);
        unacked.or(self.queued.front().map(|(_, seq)| *seq)).map_or(self.passed, Cursor::before)
    }

    /// The number of events that are queued or unacked.
    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.unacked.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when the oldest unacked event was sent.
    pub(super) fn oldest_unacked(&self) -> Option<Instant> {
        self.unacked.front().map(|(_, sent_at)| *sent_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Cursor::from_number(number - 1).next()
    }

    /// After cursor 1, queues events 2, 3, 5 and 8, ten bytes each, and skips the other events up
    /// to 9.
    fn in_flight(acknowledges: bool) -> InFlight {
        let mut in_flight = InFlight::after(Cursor::from_number(1), acknowledges);
        let mut end = 0;
        for number in 2..=9 {
            if [2, 3, 5, 8].contains(&number) {
                end += 10;
                in_flight.queue(seq(number), end);
            } else {
                in_flight.skip(seq(number));
            }
        }
        in_flight
    }

    #[test]
    fn invariant_4_without_acks_the_cursor_is_behind_what_was_not_sent() {
        let mut in_flight = in_flight(false);
        let now = Instant::now();
        for (bytes, had, delivered) in [(0, 0, 1), (9, 0, 1), (10, 1, 2), (29, 1, 4), (30, 1, 7), (40, 1, 9)]
        {
            assert_eq!(in_flight.sent(bytes, now), had, "{bytes}");
            assert_eq!(in_flight.delivered().get(), delivered, "{bytes}");
        }
        assert!(in_flight.is_empty());
    }

    #[test]
    fn invariant_4_with_acks_the_cursor_is_behind_what_is_not_acknowledged() {
        let mut in_flight = in_flight(true);
        assert_eq!(in_flight.acked(2), Err(InvalidAck::NeverSent { found: 2 }), "it was not sent yet");
        assert_eq!(in_flight.sent(30, Instant::now()), 0);
        assert_eq!(in_flight.delivered().get(), 1, "sent, but not acknowledged");
        assert_eq!(in_flight.acked(3), Ok(2));
        assert_eq!(in_flight.delivered().get(), 4);
        assert_eq!(in_flight.acked(3), Ok(0), "repeating it is harmless");
        assert_eq!(in_flight.acked(2), Err(InvalidAck::Backwards { found: 2, before: 3 }));
        for never in [4, 8, 9, u64::MAX] {
            assert_eq!(in_flight.acked(never), Err(InvalidAck::NeverSent { found: never }));
        }
        assert_eq!(in_flight.acked(5), Ok(1));
        assert_eq!(in_flight.delivered().get(), 7);
        in_flight.sent(40, Instant::now());
        assert_eq!((in_flight.acked(8), in_flight.delivered().get()), (Ok(1), 9));
    }
}
