//! For a sample of events, records the arrival time of the first copy, and the number and delays of
//! further copies.
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

type Place = Mutex<Option<Sample>>;
type Prefix = [u8; 16];

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The first 16 bytes of the id.
    prefix: Prefix,
    /// The arrival time of the first copy.
    received: Instant,
    copies: Copies,
}

/// The copies of an event that came within a minute of the first. Only their ids were checked, so
/// forged copies count, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// Without the first copy.
    pub count: u32,
    late_total: Duration,
    /// How long after the first copy the last one arrived.
    pub late_max: Duration,
}

impl Copies {
    fn add(&mut self, late: Duration) {
        self.count = self.count.saturating_add(1);
        self.late_total = self.late_total.saturating_add(late);
        self.late_max = self.late_max.max(late);
    }

    /// `None` without copies.
    pub fn late_mean(&self) -> Option<Duration> {
        self.late_total.checked_div(self.count)
    }
}

/// Why the copies of an event are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCopies {
    /// Only one id in 32 is sampled, and this id is not.
    NotSampled,
    /// The event is older than this process, or newer events have overwritten its sample.
    NotRecent,
}

impl Arrivals {
    pub fn new() -> Self {
        Self { places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }

    pub(crate) fn note(&self, id: &ClaimedId, received: Instant) {
        if let Some((place, prefix)) = self.place(id) {
            *place.lock() = Some(Sample { prefix, received, copies: Copies::default() });
        }
    }

    /// Counts a copy. `at` returns its arrival time and is called only if the id is in the sample.
    /// Returns the time since the first copy if that is less than a minute.
    pub fn note_copy(&self, id: &ClaimedId, at: impl FnOnce() -> Instant) -> Option<Duration> {
        let (place, prefix) = self.place(id)?;
        let at = at();
        let mut sample = place.lock();
        let sample = sample.as_mut().filter(|sample| sample.prefix == prefix)?;
        let late = at.saturating_duration_since(sample.received);
        if late >= LATE_MAX {
            return None;
        }
        sample.copies.add(late);
        Some(late)
    }

    /// The copies of an event so far.
    pub fn copies(&self, id: &ClaimedId) -> Result<Copies, UnknownCopies> {
        let (place, prefix) = self.place(id).ok_or(UnknownCopies::NotSampled)?;
        let sample = place.lock().filter(|sample| sample.prefix == prefix);
        sample.map(|sample| sample.copies).ok_or(UnknownCopies::NotRecent)
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

    fn id(sample: u8, place: u8) -> ClaimedId {
        let mut bytes = [7; 32];
        (bytes[14], bytes[15]) = (place, sample);
        ClaimedId::from_bytes(bytes)
    }

    #[test]
    fn a_sample_is_remembered() {
        let (arrivals, now) = (Arrivals::new(), Instant::now());
        for sample in 0..=255 {
            arrivals.note(&id(sample, sample), now);
        }
        let known = (0..=255).filter(|sample| arrivals.note_copy(&id(*sample, *sample), || now).is_some());
        assert_eq!(known.count(), 8);
        assert_eq!(arrivals.note_copy(&id(32, 1), || now), None);
    }

    #[test]
    fn copies_are_counted_until_another_event_takes_the_place() {
        let (arrivals, first) = (Arrivals::new(), Instant::now());
        let event = id(0, 1);
        assert_eq!(arrivals.copies(&event), Err(UnknownCopies::NotRecent));
        assert_eq!(arrivals.copies(&id(1, 1)), Err(UnknownCopies::NotSampled));
        arrivals.note(&event, first);
        assert_eq!(arrivals.copies(&event), Ok(Copies::default()));
        assert_eq!(Copies::default().late_mean(), None);
        for secs in [3, 1, 60, 5] {
            let late = arrivals.note_copy(&event, || first + Duration::from_secs(secs));
            assert_eq!(late, (secs < 60).then_some(Duration::from_secs(secs)));
        }
        let copies = arrivals.copies(&event).expect("sampled");
        assert_eq!((copies.count, copies.late_max), (3, Duration::from_secs(5)));
        assert_eq!(copies.late_mean(), Some(Duration::from_secs(3)));
        let mut other = *event.as_bytes();
        other[0] = 8;
        arrivals.note(&ClaimedId::from_bytes(other), first);
        assert_eq!(arrivals.copies(&event), Err(UnknownCopies::NotRecent));
    }
}
