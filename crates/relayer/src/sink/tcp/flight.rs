//! What is on its way to a sink, and thereby how far its cursor may move (invariant 4). No I/O, no clock.
//!
//! An event is *queued* until the socket has taken all of its bytes; then, of a sink that acknowledges, it
//! is *unacked*. The sink has everything before the first event that is either.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::event_log::{Cursor, Seq};

/// An acknowledgement that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAck {
    /// Below the one before it.
    #[error("it acknowledged {found} after {before}")]
    Backwards {
        /// The acknowledgement.
        found: u64,
        /// The one before.
        before: u64,
    },
    /// Of an event that was not sent on this connection.
    #[error("it acknowledged {found}, which was not sent to it on this connection")]
    NeverSent {
        /// The acknowledgement.
        found: u64,
    },
}

/// The events between the log and what a sink is known to have.
#[derive(Debug)]
pub struct Flight {
    /// With where the event ends among all bytes of the connection.
    queued: VecDeque<(u64, Seq)>,
    /// With when the socket had taken the event.
    unacked: VecDeque<(Seq, Instant)>,
    acknowledges: bool,
    last_ack: Option<u64>,
    /// Up to here everything was queued or passed over.
    passed: Cursor,
}

impl Flight {
    /// Nothing on its way to a sink that has everything up to the cursor.
    pub const fn after(cursor: Cursor, acknowledges: bool) -> Self {
        Self {
            queued: VecDeque::new(),
            unacked: VecDeque::new(),
            acknowledges,
            last_ack: None,
            passed: cursor,
        }
    }

    /// An event whose bytes end so far into the connection was queued.
    pub fn queue(&mut self, seq: Seq, end: u64) {
        self.queued.push_back((end, seq));
        self.passed = Cursor::after(seq);
    }

    /// An event that the sink does not want was passed over.
    pub const fn pass(&mut self, seq: Seq) {
        self.passed = Cursor::after(seq);
    }

    /// Everything up to here is lost to the sink.
    pub const fn skip(&mut self, up_to: Cursor) {
        self.passed = up_to;
    }

    /// The socket has taken so many bytes of the connection. Gives the number of events that the sink has by
    /// that.
    pub fn wrote(&mut self, up_to: u64, now: Instant) -> u64 {
        let mut had = 0;
        while let Some(&(end, seq)) = self.queued.front()
            && end <= up_to
        {
            self.queued.pop_front();
            if self.acknowledges {
                self.unacked.push_back((seq, now));
            } else {
                had += 1;
            }
        }
        had
    }

    /// The sink says that it has everything up to this sequence. Gives the number of events that this is.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn acked(&mut self, found: u64) -> Result<u64, BadAck> {
        if self.last_ack == Some(found) {
            return Ok(0);
        }
        if let Some(before) = self.last_ack.filter(|before| found < *before) {
            return Err(BadAck::Backwards { found, before });
        }
        let place = self.unacked.binary_search_by_key(&found, |(seq, _)| seq.get());
        let place = place.map_err(|_| BadAck::NeverSent { found })?;
        self.unacked.drain(..=place);
        self.last_ack = Some(found);
        Ok(place as u64 + 1)
    }

    /// Up to where the sink has everything that it wants.
    pub fn delivered(&self) -> Cursor {
        let unacked = self.unacked.front().map(|(seq, _)| *seq);
        unacked.or(self.queued.front().map(|(_, seq)| *seq)).map_or(self.passed, Cursor::before)
    }

    /// Events that are queued or unacked.
    pub fn len(&self) -> usize {
        self.queued.len() + self.unacked.len()
    }

    /// Whether the sink has everything that was queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the socket had taken the oldest event that is not acknowledged.
    pub fn oldest_unacked(&self) -> Option<Instant> {
        self.unacked.front().map(|(_, taken)| *taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Cursor::from_number(number - 1).next()
    }

    /// Events 2, 3, 5 and 8 of ten bytes each after cursor 1; the others are passed over, up to 9.
    fn flight(acknowledges: bool) -> Flight {
        let mut flight = Flight::after(Cursor::from_number(1), acknowledges);
        let mut end = 0;
        for number in 2..=9 {
            if [2, 3, 5, 8].contains(&number) {
                end += 10;
                flight.queue(seq(number), end);
            } else {
                flight.pass(seq(number));
            }
        }
        flight
    }

    #[test]
    fn invariant_4_without_acks_the_cursor_is_behind_what_the_socket_has_not_taken() {
        let mut flight = flight(false);
        let now = Instant::now();
        for (bytes, had, delivered) in [(0, 0, 1), (9, 0, 1), (10, 1, 2), (29, 1, 4), (30, 1, 7), (40, 1, 9)]
        {
            assert_eq!(flight.wrote(bytes, now), had, "{bytes}");
            assert_eq!(flight.delivered().get(), delivered, "{bytes}");
        }
        assert!(flight.is_empty());
    }

    #[test]
    fn invariant_4_with_acks_the_cursor_is_behind_what_is_not_acknowledged() {
        let mut flight = flight(true);
        assert_eq!(flight.acked(2), Err(BadAck::NeverSent { found: 2 }), "the socket does not have it yet");
        assert_eq!(flight.wrote(30, Instant::now()), 0);
        assert_eq!(flight.delivered().get(), 1, "taken, and not acknowledged");
        assert_eq!(flight.acked(3), Ok(2));
        assert_eq!(flight.delivered().get(), 4);
        assert_eq!(flight.acked(3), Ok(0), "once more is no harm");
        assert_eq!(flight.acked(2), Err(BadAck::Backwards { found: 2, before: 3 }));
        for never in [4, 8, 9, u64::MAX] {
            assert_eq!(flight.acked(never), Err(BadAck::NeverSent { found: never }));
        }
        assert_eq!(flight.acked(5), Ok(1));
        assert_eq!(flight.delivered().get(), 7);
        flight.wrote(40, Instant::now());
        assert_eq!((flight.acked(8), flight.delivered().get()), (Ok(1), 9));
    }
}
