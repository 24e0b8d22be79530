//! Pure: how healthy one connection is, in hundredths: 100 less 30 for each recent stall or late answer, never below 10. One
//! that stays below the threshold for a while is evicted. Times are on any clock that only goes forward.
//!
//! A connection keeps one of these for life, so it is 20 bytes: three events are enough for the lowest score, and tenths of
//! seconds are fine enough.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::tuning::rules::HealthRules;

/// Score without any event, hundredths.
const BEST: u8 = 100;
/// What one event takes off.
const PENALTY: u8 = 30;
/// Lowest score.
const FLOOR: u8 = 10;
/// Events that lead to the lowest score; older ones change nothing more.
const EVENTS: usize = 3;

/// Tenths of seconds on the caller's clock, plus one.
type Tick = NonZeroU32;

/// What to do about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before this moment, or before the next event.
    Wait(Option<Duration>),
    /// It goes.
    Evict,
}

/// The recent past of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthScore {
    /// The latest events, oldest first.
    events: [Option<Tick>; EVENTS],
    /// Since when the score has been below the threshold.
    below: Option<Tick>,
    /// Start of the stall that was counted last.
    counted: Option<Tick>,
}

impl HealthScore {
    /// The socket took nothing for too long.
    pub fn stall(&mut self, now: Duration, rules: &HealthRules) {
        self.event(now, rules);
    }

    /// An answer came late.
    pub fn timeout(&mut self, now: Duration, rules: &HealthRules) {
        self.event(now, rules);
    }

    /// How long the stall lasted that was counted last, once it is over; said once.
    pub fn ended_stall(
        &mut self,
        stuck_since: Option<Duration>,
        now: Duration,
    ) -> Option<Duration> {
        let over = self
            .counted
            .filter(|start| stuck_since.map(tick) != Some(*start))?;
        self.counted = None;
        Some(now.saturating_sub(from_tick(over)))
    }

    /// Whether rules need not be asked: nothing has happened, and nothing is happening.
    pub fn is_spotless(&self, stuck_since: Option<Duration>) -> bool {
        stuck_since.is_none() && self.counted.is_none() && self.events[EVENTS - 1].is_none()
    }

    /// Hundredths, from what happened within the window.
    pub fn score(&self, now: Duration, rules: &HealthRules) -> u8 {
        let counting = self.events.iter().flatten();
        let recent = counting.filter(|at| counts_until(**at, rules) > now);
        (0..recent.count()).fold(BEST, |score, _| score.saturating_sub(PENALTY).max(FLOOR))
    }

    /// What to do now.
    pub fn verdict(&mut self, now: Duration, rules: &HealthRules) -> Verdict {
        let score = self.score(now, rules);
        if score == BEST {
            self.events = [None; EVENTS];
        }
        if score >= rules.evict_below {
            self.below = None;
            return Verdict::Wait(None);
        }
        let since = from_tick(*self.below.get_or_insert(tick(now)));
        let evicted_at = since + Duration::from_secs(rules.evict_after_seconds.into());
        if now >= evicted_at {
            return Verdict::Evict;
        }
        Verdict::Wait(Some(evicted_at))
    }

    /// Counts a stall once it has lasted long enough, each only once. True when it was counted now.
    pub fn count_stall(
        &mut self,
        stuck_since: Option<Duration>,
        now: Duration,
        rules: &HealthRules,
    ) -> bool {
        let due = self
            .stalls_at(stuck_since, rules)
            .is_some_and(|at| now >= at);
        if due {
            self.counted = stuck_since.map(tick);
            self.stall(now, rules);
        }
        due
    }

    /// When the socket will have stalled; nothing when it is not stuck, or was counted already.
    pub fn stalls_at(
        &self,
        stuck_since: Option<Duration>,
        rules: &HealthRules,
    ) -> Option<Duration> {
        let since = stuck_since.filter(|since| self.counted != Some(tick(*since)))?;
        Some(since + Duration::from_secs(rules.stall_seconds.into()))
    }

    fn event(&mut self, now: Duration, rules: &HealthRules) {
        // It may have recovered since the last look.
        if self.score(now, rules) >= rules.evict_below {
            self.below = None;
        }
        self.events.rotate_left(1);
        self.events[EVENTS - 1] = Some(tick(now));
        if self.score(now, rules) < rules.evict_below {
            self.below.get_or_insert(tick(now));
        }
    }
}

fn tick(at: Duration) -> Tick {
    let tenths = u32::try_from(at.as_millis() / 100).unwrap_or(u32::MAX - 1);
    NonZeroU32::MIN.saturating_add(tenths)
}

fn from_tick(tick: Tick) -> Duration {
    Duration::from_millis(u64::from(tick.get() - 1) * 100)
}

fn counts_until(event: Tick, rules: &HealthRules) -> Duration {
    from_tick(event) + Duration::from_secs(rules.window_seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: HealthRules = HealthRules {
        window_seconds: 60,
        stall_seconds: 5,
        answer_seconds: 3,
        evict_below: 40,
        evict_after_seconds: 5,
        trip_evictions: 0,
        trip_window_seconds: 300,
        trip_seconds: 60,
        trip_connections: 3,
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_event_takes_thirty_and_none_goes_below_ten() {
        let mut health = HealthScore::default();
        let mut seen = vec![health.score(s(100), &RULES)];
        for second in 100..105 {
            health.timeout(s(second), &RULES);
            seen.push(health.score(s(second), &RULES));
        }
        assert_eq!(seen, [100, 70, 40, 10, 10, 10]);
        assert_eq!(health.score(s(161), &RULES), 10);
        assert_eq!(health.score(s(162), &RULES), 40);
        assert_eq!(health.score(s(164), &RULES), 100);
    }

    #[test]
    fn below_forty_for_five_seconds_is_the_end() {
        let mut health = HealthScore::default();
        health.stall(s(10), &RULES);
        health.timeout(s(20), &RULES);
        assert_eq!(
            health.verdict(s(21), &RULES),
            Verdict::Wait(None),
            "40 is not below 40"
        );
        health.stall(s(30), &RULES);
        assert_eq!(health.verdict(s(30), &RULES), Verdict::Wait(Some(s(35))));
        assert_eq!(health.verdict(s(34), &RULES), Verdict::Wait(Some(s(35))));
        assert_eq!(health.verdict(s(35), &RULES), Verdict::Evict);
    }

    #[test]
    fn who_recovers_in_time_stays() {
        let mut health = HealthScore::default();
        for second in [10, 20, 67] {
            health.stall(s(second), &RULES);
        }
        assert_eq!(health.verdict(s(67), &RULES), Verdict::Wait(Some(s(72))));
        // The first one leaves the window before the five seconds are over.
        assert_eq!(health.verdict(s(70), &RULES), Verdict::Wait(None));
        // Below again, without a look in between: five more seconds.
        health.stall(s(79), &RULES);
        assert_eq!(health.verdict(s(79), &RULES), Verdict::Wait(Some(s(84))));
    }

    #[test]
    fn a_stall_counts_once_however_long_it_lasts() {
        let mut health = HealthScore::default();
        assert!(health.is_spotless(None) && !health.is_spotless(Some(s(7))));
        assert_eq!(health.stalls_at(Some(s(7)), &RULES), Some(s(12)));
        let counted = (8..40).filter(|at| health.count_stall(Some(s(7)), s(*at), &RULES));
        assert_eq!(counted.collect::<Vec<_>>(), [12]);
        assert_eq!(health.stalls_at(Some(s(7)), &RULES), None);
        assert_eq!(health.score(s(40), &RULES), 70);
        assert_eq!(health.ended_stall(Some(s(7)), s(40)), None);
        assert!(health.count_stall(Some(s(41)), s(46), &RULES));
        assert!(health.count_stall(Some(s(50)), s(55), &RULES));
        assert_eq!(health.verdict(s(55), &RULES), Verdict::Wait(Some(s(60))));
        assert_eq!(health.ended_stall(None, s(60)), Some(s(10)));
        assert_eq!(health.ended_stall(None, s(61)), None, "said once");
        assert!(!health.is_spotless(None));
        assert_eq!(health.verdict(s(200), &RULES), Verdict::Wait(None));
        assert!(health.is_spotless(None));
    }

    #[test]
    fn thresholds_of_the_moment_count() {
        let mut health = HealthScore::default();
        for second in 1..4 {
            health.stall(s(second), &RULES);
        }
        let never = HealthRules {
            evict_below: 0,
            ..RULES
        };
        assert_eq!(health.verdict(s(30), &never), Verdict::Wait(None));
        assert_eq!(health.verdict(s(30), &RULES), Verdict::Wait(Some(s(35))));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<HealthScore>() <= 20);
    }

    proptest! {
        /// Against the definition, with every event kept.
        #[test]
        fn the_score_is_what_the_definition_says(gaps in prop::collection::vec(0u64..40, 0..20), later in 0u64..100) {
            let mut health = HealthScore::default();
            let mut now = 1000;
            let mut all = Vec::new();
            for gap in gaps {
                now += gap;
                health.stall(s(now), &RULES);
                all.push(now);
            }
            let at = now + later;
            let recent = all.iter().filter(|event| **event + 60 > at).count();
            let wanted = 100_usize.saturating_sub(30 * recent).max(10);
            prop_assert_eq!(usize::from(health.score(s(at), &RULES)), wanted);
        }

        /// Nobody goes before five seconds below the threshold, and everybody does then.
        #[test]
        fn eviction_follows_five_seconds_below(gaps in prop::collection::vec(1u64..30, 1..12)) {
            let mut health = HealthScore::default();
            let mut events: Vec<u64> = Vec::new();
            let mut next = 0;
            for gap in gaps {
                next += gap;
                events.push(next);
            }
            let mut below = 0;
            for now in 0..next + 10 {
                if health.score(s(now), &RULES) >= 40 {
                    below = 0;
                }
                if events.contains(&now) {
                    health.timeout(s(now), &RULES);
                }
                let verdict = health.verdict(s(now), &RULES);
                below = if health.score(s(now), &RULES) < 40 { below + 1 } else { 0 };
                prop_assert_eq!(verdict == Verdict::Evict, below > 5, "at {}", now);
                if verdict == Verdict::Evict {
                    break;
                }
            }
        }
    }
}
