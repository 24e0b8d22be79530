//! Pure: how long to wait before the next try.

use std::time::Duration;

use crate::limits;

/// Tries since the last connection that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The wait before the next try, uniform between zero and a bound that doubles; `random` in 0..1.
    pub fn wait(&mut self, random: f64) -> Duration {
        let bound = self.bound();
        self.count();
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// No wait when this is the first try, else as [`Self::wait`]: for "resume at once", which must not become a
    /// storm when it fails.
    pub fn at_once(&mut self, random: f64) -> Duration {
        if self.tries > 0 {
            return self.wait(random);
        }
        self.count();
        Duration::ZERO
    }

    /// Counts a try whose wait the server gave.
    pub fn count(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// A connection held: the next wait starts from the base.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Tries since the last connection that held.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    fn bound(self) -> Duration {
        // 100 ms doubled nine times is beyond the ceiling; more would only overflow.
        let doubled = limits::BACKOFF_BASE * (1 << self.tries.min(9));
        doubled.min(limits::BACKOFF_CEILING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn six_tries_are_fast_and_then_the_bound_reaches_its_ceiling() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..12).map(|_| backoff.wait(1.0).as_millis()).collect();
        assert_eq!(
            bounds,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000
            ]
        );
        backoff.reset();
        assert_eq!(backoff.wait(1.0).as_millis(), 100);
    }

    #[test]
    fn at_once_is_once() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.at_once(1.0), Duration::ZERO);
        assert_eq!(backoff.at_once(1.0).as_millis(), 200);
    }

    proptest! {
        #[test]
        fn waits_stay_within_the_bound(tries in 0_u32..100, random in 0.0_f64..1.0) {
            let mut backoff = Backoff { tries };
            let bound = backoff.bound();
            prop_assert!(backoff.wait(random) <= bound);
            prop_assert!(bound <= limits::BACKOFF_CEILING);
        }
    }
}
