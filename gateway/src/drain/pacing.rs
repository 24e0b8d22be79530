//! Pure: how many connections may be asked to go at this moment.

use std::time::Duration;

/// Micro-connections: one connection is a million of them.
const ONE: u64 = 1_000_000;

/// Most that may be saved up, as a time at the present rate; after a pause nothing comes in a burst.
const SAVED: Duration = Duration::from_millis(100);

/// Turns a rate into whole connections.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    credit: u64,
    last: Duration,
}

impl Pacer {
    /// Starts at `now`, a time on any clock that only goes forward. The first one may go at once.
    pub fn new(now: Duration) -> Self {
        Self {
            credit: ONE,
            last: now,
        }
    }

    /// How many may go now at a rate in thousandths of a connection per second.
    pub fn due(&mut self, rate_milli: u64, now: Duration) -> usize {
        let passed = now.saturating_sub(self.last).as_millis() as u64;
        self.last = self.last.max(now);
        let most = ONE.max(rate_milli.saturating_mul(SAVED.as_millis() as u64));
        self.credit = most.min(
            self.credit
                .saturating_add(rate_milli.saturating_mul(passed)),
        );
        let due = self.credit / ONE;
        self.credit %= ONE;
        due as usize
    }
}

/// Rate of a terminating pod, thousandths per second: what the operator said or a share of the budget, and more when the
/// deadline forces it. `left` connections must have been asked `answer` before the deadline.
pub fn forced_rate(
    wanted_milli: u64,
    left: usize,
    until_deadline: Duration,
    answer: Duration,
) -> u64 {
    let usable = until_deadline
        .saturating_sub(answer)
        .max(Duration::from_millis(500));
    let needed = (left as u64).saturating_mul(1_000_000) / usable.as_millis() as u64;
    wanted_milli.max(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_rate_is_kept_over_a_second() {
        let mut pacer = Pacer::new(Duration::ZERO);
        let asked: usize = (1..=20).map(|tick| pacer.due(25_000, MS * 50 * tick)).sum();
        assert_eq!(
            asked, 26,
            "25 in one second, and the one that may go at once"
        );
    }

    #[test]
    fn a_pause_saves_up_a_tenth_of_a_second_only() {
        let mut pacer = Pacer::new(Duration::ZERO);
        pacer.due(100_000, Duration::ZERO);
        assert_eq!(pacer.due(100_000, Duration::from_mins(1)), 10);
    }

    #[test]
    fn slow_rates_are_exact_too() {
        let mut pacer = Pacer::new(Duration::ZERO);
        pacer.due(500, Duration::ZERO);
        let asked: usize = (1..=200).map(|tick| pacer.due(500, MS * 50 * tick)).sum();
        assert_eq!(asked, 5);
    }

    #[test]
    fn a_deadline_forces_the_rate_up() {
        let answer = Duration::from_secs(10);
        assert_eq!(
            forced_rate(20_000, 750, Duration::from_secs(85), answer),
            20_000
        );
        assert_eq!(
            forced_rate(20_000, 7500, Duration::from_secs(85), answer),
            100_000
        );
        assert_eq!(
            forced_rate(20_000, 100, Duration::from_secs(3), answer),
            200_000
        );
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_tenth_of_a_second(
            rate in 1_u64..2_000_000,
            steps in proptest::collection::vec(0_u64..500, 1..200),
        ) {
            let mut pacer = Pacer::new(Duration::ZERO);
            let (mut now, mut asked) = (0, 0_u64);
            for step in steps {
                now += step;
                asked += pacer.due(rate, MS * now as u32) as u64;
                let allowed = (rate * (now + 100)).div_ceil(ONE) + 1;
                prop_assert!(asked <= allowed, "{asked} > {allowed} after {now} ms");
            }
        }
    }
}
