//! Pure (but for its atomic counters): a histogram of times with buckets of at most 6 % width.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sub-buckets per power of two.
const STEPS: u64 = 16;
/// Powers of two above the first [`STEPS`] exact buckets: up to 2^40 microseconds, twelve days.
const POWERS: usize = 37;

/// Counts of times in microseconds, filled from any thread.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        let len = STEPS as usize * POWERS;
        Self {
            counts: (0..len).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Histogram {
    /// Counts one time.
    pub(super) fn add(&self, micros: u64) {
        let at = bucket(micros).min(self.counts.len() - 1);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of this moment.
    pub(super) fn read(&self) -> Counts {
        let counts = self.counts.iter();
        Counts(counts.map(|c| c.load(Ordering::Relaxed)).collect())
    }
}

/// Counts of one moment, or of the time between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Vec<u64>);

impl Counts {
    /// What was added since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let earlier = earlier.0.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.0.iter().zip(earlier);
        Self(pairs.map(|(now, then)| now.saturating_sub(then)).collect())
    }

    /// How many times.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time in milliseconds that this share (0..=1) does not exceed, rounded up to its bucket; 0 when empty.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.total() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return (upper(at) as f64 / 10.0).round() / 100.0;
            }
        }
        0.0
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let power = u64::from(micros.ilog2() - STEPS.ilog2());
    (STEPS * power + (micros >> power)) as usize
}

fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_holds_its_upper_end_and_is_narrow() {
        for micros in [
            0,
            1,
            15,
            16,
            17,
            31,
            32,
            33,
            999,
            1000,
            65_535,
            1_000_000,
            3_600_000_000,
        ] {
            let at = bucket(micros);
            assert!(upper(at) >= micros, "{micros}");
            assert_eq!(bucket(upper(at)), at, "{micros}");
            assert!(upper(at) <= micros + micros / 16, "{micros}: {}", upper(at));
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let histogram = Histogram::default();
        let before = histogram.read();
        for ms in 1..=100_u64 {
            histogram.add(ms * 1000);
        }
        let counts = histogram.read().since(&before);
        assert_eq!(counts.total(), 100);
        assert!((50.0..=53.2).contains(&counts.quantile_ms(0.5)));
        assert!((99.0..=105.2).contains(&counts.quantile_ms(0.99)));
        assert!((100.0..=106.3).contains(&counts.quantile_ms(1.0)));
        assert!(histogram.read().since(&histogram.read()).quantile_ms(0.99) < f64::EPSILON);
    }
}
