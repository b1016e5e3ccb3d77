//! When the first copies of some events came, so that others can be said to be late.
//!
//! It is a sample: one id in [`ONE_IN`] is looked at, so that the others cost one look at a byte. Later
//! ids take the places of earlier ones.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::ClaimedId;

/// One id in so many is looked at.
const ONE_IN: u8 = 32;

/// How many are remembered: at 10,000 new events a second, those of the last few seconds.
const PLACES: usize = 4_096;

/// Copies later than this are old events that a relay serves again.
const LATE_MAX: Duration = Duration::from_secs(60);

/// First arrivals of a sample of ids.
#[derive(Debug)]
pub(super) struct Arrivals {
    places: Box<[Place]>,
}

/// The beginning of an id, and when its first copy came.
type Place = Mutex<Option<(Prefix, Instant)>>;
type Prefix = [u8; 16];

impl Arrivals {
    pub fn new() -> Self {
        Self { places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }

    /// Notes when the first copy came.
    pub fn note(&self, id: &ClaimedId, received: Instant) {
        if let Some((place, prefix)) = self.place(id) {
            *place.lock() = Some((prefix, received));
        }
    }

    /// When the first copy came, if the id is in the sample and that was not long ago.
    pub fn first(&self, id: &ClaimedId) -> Option<Instant> {
        let (place, prefix) = self.place(id)?;
        let (known, received) = (*place.lock())?;
        (known == prefix && received.elapsed() < LATE_MAX).then_some(received)
    }

    fn place(&self, id: &ClaimedId) -> Option<(&Place, Prefix)> {
        let prefix = id.as_bytes().first_chunk::<16>().copied()?;
        let [.., low, high, sample] = prefix;
        if !sample.is_multiple_of(ONE_IN) {
            return None;
        }
        let place = usize::from(u16::from_be_bytes([low, high])) % PLACES;
        Some((self.places.get(place)?, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_remembered() {
        let (arrivals, now) = (Arrivals::new(), Instant::now());
        let id = |sample: u8, place: u8| {
            let mut bytes = [7; 32];
            (bytes[14], bytes[15]) = (place, sample);
            ClaimedId::from_bytes(bytes)
        };
        for sample in 0..=255 {
            arrivals.note(&id(sample, sample), now);
        }
        let known = (0..=255).filter(|sample| arrivals.first(&id(*sample, *sample)) == Some(now)).count();
        assert_eq!(known, 8);
        assert_eq!(arrivals.first(&id(32, 1)), None);
    }
}
