//! How fast each drain may go (pure): one reconnect budget, divided over all drains of the moment.
//!
//! As long as every drain meets its deadline that way, each gets a share in proportion to what it
//! has left, so that all end together and no share has to change. Otherwise those with the nearest
//! deadlines get what they need first. A deadline that a platform set wins over the budget; one
//! that we set ourselves is moved instead.

use crate::limits;
use jiff::{SignedDuration, Timestamp};

/// One drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Clients still to be moved.
    pub remaining: u64,
    /// When they are cut off.
    pub deadline: Timestamp,
    /// Whether the deadline is the platform's and cannot be moved.
    pub hard: bool,
    /// The rate it goes at now, thousandths per second; 0 when it has not begun.
    pub current_milli: u64,
}

impl Load {
    /// Least rate that meets the deadline, thousandths per second, rounded up.
    fn need(&self, now: Timestamp) -> u64 {
        let left = millis_until(self.deadline, now).max(1);
        // clients / ms = 1000 clients / s = 1,000,000 thousandths / s
        (u128::from(self.remaining) * 1_000_000)
            .div_ceil(u128::from(left))
            .try_into()
            .unwrap_or(u64::MAX)
    }
}

/// Rates of `loads`, in their order, thousandths per second. Their sum is within `budget_milli`
/// unless hard deadlines ask for more.
pub fn divide(loads: &[Load], budget_milli: u64, now: Timestamp) -> Vec<u64> {
    let wanted = wanted(loads, budget_milli, now);
    // Shares that hardly changed are left as they are, if the budget holds all the same.
    let kept: Vec<u64> = loads
        .iter()
        .zip(&wanted)
        .map(|(load, wanted)| {
            let slack = wanted * limits::RATE_TOLERANCE_PERCENT / 100;
            let enough = !load.hard || load.current_milli >= load.need(now);
            let close = load.current_milli.abs_diff(*wanted) <= slack;
            if close && enough {
                load.current_milli
            } else {
                *wanted
            }
        })
        .collect();
    let allowed = budget_milli.max(wanted.iter().sum());
    if kept.iter().sum::<u64>() <= allowed {
        kept
    } else {
        wanted
    }
}

fn wanted(loads: &[Load], budget_milli: u64, now: Timestamp) -> Vec<u64> {
    let total: u64 = loads.iter().map(|load| load.remaining).sum();
    let share = |load: &Load, budget: u64, total: u64| {
        (u128::from(budget) * u128::from(load.remaining) / u128::from(total.max(1))) as u64
    };
    let proportional: Vec<u64> = loads
        .iter()
        .map(|load| share(load, budget_milli, total))
        .collect();
    let all_in_time = loads
        .iter()
        .zip(&proportional)
        .all(|(load, rate)| *rate >= load.need(now));
    if all_in_time {
        return proportional;
    }
    // Nearest deadline first; hard ones before ours, and without a limit.
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_key(|index| (!loads[*index].hard, loads[*index].deadline, *index));
    let mut left = budget_milli;
    let mut rates = vec![0; loads.len()];
    for index in order {
        let need = loads[index].need(now);
        rates[index] = if loads[index].hard {
            need
        } else {
            need.min(left)
        };
        left = left.saturating_sub(rates[index]);
    }
    for (rate, load) in rates.iter_mut().zip(loads) {
        *rate += share(load, left, total);
    }
    rates
}

/// Whether every drain can meet its deadline within the budget, with the planned reserve: for each
/// deadline, what must be moved until then must be no more than the budget moves until then.
pub fn feasible(loads: &[Load], budget_milli: u64, now: Timestamp) -> bool {
    let mut order: Vec<&Load> = loads.iter().collect();
    order.sort_by_key(|load| load.deadline);
    let planned = u128::from(budget_milli) * u128::from(limits::PLANNED_RATE_PERCENT) / 100;
    let mut sum = 0u128;
    order.into_iter().all(|load| {
        sum += u128::from(load.remaining);
        sum * 1_000_000 <= planned * u128::from(millis_until(load.deadline, now))
    })
}

/// The deadline that a drain which gets `rate_milli` can meet, with a tenth to spare.
pub fn reachable(remaining: u64, rate_milli: u64, now: Timestamp) -> Timestamp {
    let millis = u128::from(remaining) * 1_100_000 / u128::from(rate_milli.max(1));
    let millis = i64::try_from(millis).unwrap_or(i64::MAX).min(MAX_DRAIN_MS);
    now.saturating_add(SignedDuration::from_millis(millis))
        .unwrap_or(now)
}

/// No drain is planned further ahead than a day: the rate can change by then.
const MAX_DRAIN_MS: i64 = 24 * 3600 * 1000;

/// Whole milliseconds until `deadline`; 0 when it has passed.
fn millis_until(deadline: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(deadline.duration_since(now).as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Load, divide, feasible};
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    fn load(remaining: u64, seconds: i64, hard: bool, current_milli: u64) -> Load {
        Load {
            remaining,
            deadline: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds),
            hard,
            current_milli,
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn drains_share_by_what_they_have_left() {
        let loads = [load(3000, 60, false, 0), load(1000, 60, false, 0)];
        assert_eq!(divide(&loads, 200_000, NOW), [150_000, 50_000]);
    }

    #[test]
    fn a_near_deadline_gets_what_it_needs() {
        let loads = [load(4000, 60, false, 0), load(1000, 10, true, 0)];
        let rates = divide(&loads, 200_000, NOW);
        assert!(rates[1] >= 100_000, "{rates:?}");
        assert!(
            rates[0] >= 66_000 && rates[0] + rates[1] <= 200_000,
            "{rates:?}"
        );
    }

    #[test]
    fn a_platforms_deadline_wins_over_the_budget_and_ours_does_not() {
        assert_eq!(divide(&[load(1000, 1, true, 0)], 200_000, NOW), [1_000_000]);
        assert_eq!(divide(&[load(1000, 1, false, 0)], 200_000, NOW), [200_000]);
    }

    #[test]
    fn shares_that_hardly_changed_stay() {
        let loads = [
            load(2950, 60, false, 150_000),
            load(1000, 60, false, 50_000),
        ];
        assert_eq!(divide(&loads, 200_000, NOW), [150_000, 50_000]);
    }

    #[test]
    fn a_drain_that_would_make_another_late_is_not_feasible() {
        let one = load(9000, 60, false, 0);
        assert!(feasible(std::slice::from_ref(&one), 200_000, NOW));
        assert!(!feasible(&[one.clone(), one], 200_000, NOW));
        assert!(feasible(&[], 0, NOW));
    }

    proptest! {
        #[test]
        fn the_budget_holds_but_for_hard_deadlines(
            parts in prop::collection::vec((0u64..20_000, 1i64..200, any::<bool>(), 0u64..400_000), 1..8),
            budget in 1_000u64..1_000_000,
        ) {
            let loads: Vec<Load> = parts.iter().map(|(r, s, h, c)| load(*r, *s, *h, *c)).collect();
            let rates = divide(&loads, budget, NOW);
            let hard: u64 = loads.iter().filter(|l| l.hard).map(|l| l.need(NOW)).sum();
            prop_assert!(rates.iter().sum::<u64>() <= budget.max(hard));
            for (load, rate) in loads.iter().zip(&rates) {
                prop_assert!(!load.hard || *rate >= load.need(NOW), "{load:?} gets {rate}");
            }
            if feasible(&loads, budget, NOW) && loads.iter().all(|l| l.current_milli == 0) {
                let needs: u64 = loads.iter().map(|l| l.need(NOW)).sum();
                if needs <= budget {
                    for (load, rate) in loads.iter().zip(&rates) {
                        prop_assert!(*rate >= load.need(NOW));
                    }
                }
            }
        }
    }
}
