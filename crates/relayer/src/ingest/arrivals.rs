//! For a sample of events, the arrival time of the first copy, to measure how late other copies
//! are.
//!
//! One id in [`ONE_IN`] is sampled; one byte of an id shows whether it is. New ids overwrite old
//! ids.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::ClaimedId;

const ONE_IN: u8 = 32;

/// The number of samples kept, enough for the last few seconds at 10,000 new events a second.
const PLACES: usize = 4_096;

/// A copy later than this limit is an old event that a relay serves again.
const LATE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Arrivals {
    places: Box<[Place]>,
}

/// The beginning of an id, and the arrival time of its first copy.
type Place = Mutex<Option<(Prefix, Instant)>>;
type Prefix = [u8; 16];

impl Arrivals {
    pub fn new() -> Self {
        Self { places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }

    pub(crate) fn note(&self, id: &ClaimedId, received: Instant) {
        if let Some((place, prefix)) = self.place(id) {
            *place.lock() = Some((prefix, received));
        }
    }

    /// When the first copy arrived, if the id is in the sample and recent enough.
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
