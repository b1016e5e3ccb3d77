//! Answers a relay's pings at a limited rate.
//!
//! A ping can be two bytes long, but its answer costs a system call. RFC 6455, section 5.5.3,
//! permits answering only the latest of several pings, so the latest one waits until an answer is
//! due.

use tokio::time::Instant;

use crate::limits::PONG_INTERVAL_MIN;

/// The pong that a connection owes.
#[derive(Debug, Default)]
pub(super) struct Pongs {
    /// The payload of the latest unanswered ping.
    owed: Option<Vec<u8>>,
    /// When the next pong may be sent.
    not_before: Option<Instant>,
}

impl Pongs {
    pub(crate) fn owe(&mut self, payload: &[u8]) {
        let owed = self.owed.get_or_insert_default();
        owed.clear();
        owed.extend_from_slice(payload);
    }

    /// When to send the owed pong, if there is one.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.owed.as_ref().map(|_| self.not_before.unwrap_or(now))
    }

    /// Takes the owed pong's payload, to send now.
    pub fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let owed = self.owed.take()?;
        self.not_before = Some(now + PONG_INTERVAL_MIN);
        Some(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ping_is_answered_and_not_too_often() {
        let (mut pongs, start) = (Pongs::default(), Instant::now());
        assert_eq!(pongs.due(start), None);
        pongs.owe(b"a");
        assert_eq!(pongs.due(start), Some(start), "the first one at once");
        assert_eq!(pongs.take(start).as_deref(), Some(&b"a"[..]));
        assert_eq!((pongs.due(start), pongs.take(start)), (None, None));
        (0..1_000).for_each(|number: u32| pongs.owe(&number.to_be_bytes()));
        let next = start + PONG_INTERVAL_MIN;
        assert_eq!(pongs.due(start), Some(next));
        assert_eq!(pongs.take(next), Some(999_u32.to_be_bytes().to_vec()));
    }
}
