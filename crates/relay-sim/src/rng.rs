//! Random numbers that depend only on the seed, not on crates, platforms or threads.
//!
//! SplitMix64. Every use draws from its own stream, which is named by numbers, so one part of the
//! simulation never shifts the numbers of another.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream with this name.
    pub fn new(names: &[u64]) -> Self {
        Self(names.iter().fold(0x5EED, |state, name| mix(state ^ mix(*name))))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half of the 128-bit product is below `bound`.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `true` with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// The number of tries until an event of this probability happens, at least 1; `u64::MAX` for
    /// never. One draw replaces a draw at every try.
    pub fn tries_until(&mut self, probability: f64) -> u64 {
        if probability <= 0.0 {
            return u64::MAX;
        }
        if probability >= 1.0 {
            return 1;
        }
        let tries = (1.0 - self.unit()).ln() / (1.0 - probability).ln();
        1 + tries as u64
    }

    /// `min(count, bound)` distinct numbers below `bound`, in random order.
    pub fn distinct(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let count = count.min(bound);
        if count > 64 || count * 4 > bound {
            let mut all: Vec<usize> = (0..bound).collect();
            for place in 0..count {
                let other = self.between(place, bound - 1);
                all.swap(place, other);
            }
            all.truncate(count);
            return all;
        }
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let number = self.below(bound);
            if !chosen.contains(&number) {
                chosen.push(number);
            }
        }
        chosen
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_its_names_only() {
        let numbers = |names: &[u64]| {
            let mut rng = Rng::new(names);
            [rng.bits(), rng.bits(), rng.bits()]
        };
        assert_eq!(numbers(&[1, 2]), numbers(&[1, 2]));
        assert_ne!(numbers(&[1, 2]), numbers(&[2, 1]));
        assert_ne!(numbers(&[1]), numbers(&[1, 0]));
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let mut rng = Rng::new(&[7]);
        for bound in [1, 2, 3, 100] {
            assert!((0..1000).all(|_| rng.below(bound) < bound));
        }
        assert_eq!(rng.below(0), 0);
        for (count, bound) in [(10, 10), (3, 1000), (100, 150), (5, 3)] {
            let mut chosen = rng.distinct(count, bound);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), count.min(bound));
            assert!(chosen.iter().all(|number| *number < bound));
        }
        let tries: u64 = (0..10_000).map(|_| rng.tries_until(0.1)).sum();
        assert!((9.0..11.0).contains(&(tries as f64 / 10_000.0)), "{tries}");
        assert_eq!((rng.tries_until(0.0), rng.tries_until(1.0)), (u64::MAX, 1));
    }
}
