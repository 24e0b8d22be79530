//! Pure: from readings to the breaker's next state.
//!
//! ```text
//!            a reading at its threshold
//!  closed ─────────────────────────────► open ◄──────────────┐
//!    ▲                                    │ all readings good │ a reading at its threshold
//!    │  readings good for                 ▼ for open_seconds  │
//!    └──── half_open_seconds ───────── half-open ─────────────┘
//! ```
//!
//! Good is a margin below the threshold, so that a reading that sways around it does not open and close the breaker.

use std::time::Duration;

use crate::tuning::rules::BreakerRules;

/// Something that is used up, and what there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// In use.
    pub used: u64,
    /// The limit, in the same unit; 0 means that there is none.
    pub limit: u64,
}

impl Level {
    /// Whether at least this share of the limit is used.
    pub fn reaches(self, percent: u8) -> bool {
        self.limit > 0
            && u128::from(self.used) * 100 >= u128::from(self.limit) * u128::from(percent)
    }
}

/// One look at what newcomers use up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// When, on a clock that only goes forward.
    pub at: Duration,
    /// Connections.
    pub connections: Level,
    /// Memory, bytes.
    pub memory: Level,
    /// Tasks of the runtimes.
    pub tasks: Level,
}

/// Which readings keep newcomers out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// Too many connections.
    pub connections: bool,
    /// Too little memory is left.
    pub memory: bool,
    /// Too many tasks.
    pub tasks: bool,
}

impl Causes {
    /// Labels in metrics and logs, in the order of [`Self::flags`].
    pub const WORDS: [&'static str; 3] = ["connections", "memory", "tasks"];

    /// The readings that reach their threshold less so many percent points.
    fn of(readings: &Readings, rules: &BreakerRules, margin: u8) -> Self {
        Self {
            connections: readings
                .connections
                .reaches(rules.connections_percent.saturating_sub(margin)),
            memory: readings
                .memory
                .reaches(rules.memory_percent.saturating_sub(margin)),
            tasks: readings.tasks.reaches(100u8.saturating_sub(margin)),
        }
    }

    /// One flag for each of [`Self::WORDS`].
    pub fn flags(self) -> [bool; 3] {
        [self.connections, self.memory, self.tasks]
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.flags().contains(&true)
    }

    /// The words of those that hold, for people.
    pub fn words(self) -> String {
        let holding = Self::WORDS
            .iter()
            .zip(self.flags())
            .filter(|(_, holds)| *holds);
        let words: Vec<_> = holding.map(|(word, _)| *word).collect();
        words.join(", ")
    }
}

/// Who is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Everybody.
    #[default]
    Closed,
    /// Nobody new.
    Open {
        /// Because of these.
        causes: Causes,
        /// Since when all readings have been good.
        good_since: Option<Duration>,
    },
    /// A few, to see whether readings stay good.
    HalfOpen {
        /// Since when.
        since: Duration,
    },
}

/// The state after these readings.
pub fn decide(readings: &Readings, rules: &BreakerRules, state: State) -> State {
    let over = Causes::of(readings, rules, 0);
    let opened = State::Open {
        causes: over,
        good_since: None,
    };
    let passed = |since: Duration, seconds: u16| {
        readings.at.saturating_sub(since) >= Duration::from_secs(seconds.into())
    };
    match state {
        State::Closed | State::HalfOpen { .. } if over.any() => opened,
        State::Closed => State::Closed,
        State::HalfOpen { since } if passed(since, rules.half_open_seconds) => State::Closed,
        State::HalfOpen { since } => State::HalfOpen { since },
        State::Open { causes, good_since } => {
            let tense = Causes::of(readings, rules, rules.margin_percent);
            if tense.any() {
                return State::Open {
                    causes: tense,
                    good_since: None,
                };
            }
            let since = good_since.unwrap_or(readings.at);
            if passed(since, rules.open_seconds) {
                State::HalfOpen { since: readings.at }
            } else {
                // What opened it is still why: nothing else is known yet.
                State::Open {
                    causes,
                    good_since: Some(since),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: BreakerRules = BreakerRules {
        connections_percent: 95,
        memory_percent: 80,
        margin_percent: 5,
        max_tasks: 0,
        open_seconds: 5,
        half_open_seconds: 3,
        probes_per_second: 10,
    };

    fn readings(at: u64, connections: u64, memory: u64, tasks: u64) -> Readings {
        let level = |used| Level { used, limit: 100 };
        Readings {
            at: Duration::from_secs(at),
            connections: level(connections),
            memory: level(memory),
            tasks: level(tasks),
        }
    }

    fn causes(words: &str) -> Causes {
        Causes {
            connections: words.contains("connections"),
            memory: words.contains("memory"),
            tasks: words.contains("tasks"),
        }
    }

    fn open(words: &str, good_since: Option<u64>) -> State {
        State::Open {
            causes: causes(words),
            good_since: good_since.map(Duration::from_secs),
        }
    }

    fn half_open(since: u64) -> State {
        State::HalfOpen {
            since: Duration::from_secs(since),
        }
    }

    #[test]
    fn every_state_with_every_kind_of_reading() {
        let table = [
            // From closed.
            (State::Closed, readings(1, 94, 79, 99), State::Closed),
            (
                State::Closed,
                readings(1, 95, 10, 10),
                open("connections", None),
            ),
            (State::Closed, readings(1, 10, 80, 10), open("memory", None)),
            (State::Closed, readings(1, 10, 10, 100), open("tasks", None)),
            (
                State::Closed,
                readings(1, 99, 99, 100),
                open("connections memory tasks", None),
            ),
            // Open: still tense within the margin, good below it.
            (
                open("memory", None),
                readings(2, 10, 75, 10),
                open("memory", None),
            ),
            (
                open("memory", None),
                readings(2, 90, 74, 10),
                open("connections", None),
            ),
            (
                open("memory", None),
                readings(2, 89, 74, 94),
                open("memory", Some(2)),
            ),
            (
                open("memory", Some(2)),
                readings(6, 10, 10, 10),
                open("memory", Some(2)),
            ),
            (
                open("memory", Some(2)),
                readings(6, 10, 76, 10),
                open("memory", None),
            ),
            (
                open("memory", Some(2)),
                readings(7, 10, 10, 10),
                half_open(7),
            ),
            // Half-open: the margin has done its work, thresholds count.
            (half_open(7), readings(8, 94, 79, 99), half_open(7)),
            (
                half_open(7),
                readings(8, 95, 10, 10),
                open("connections", None),
            ),
            (half_open(7), readings(10, 94, 79, 10), State::Closed),
            (half_open(7), readings(10, 10, 80, 10), open("memory", None)),
        ];
        for (before, seen, after) in table {
            assert_eq!(decide(&seen, &RULES, before), after, "{before:?} {seen:?}");
        }
    }

    #[test]
    fn what_has_no_limit_opens_nothing() {
        let mut seen = readings(1, 0, 0, 0);
        seen.memory = Level {
            used: u64::MAX,
            limit: 0,
        };
        assert_eq!(decide(&seen, &RULES, State::Closed), State::Closed);
    }

    #[test]
    fn thresholds_count_from_the_next_reading_on() {
        let seen = readings(1, 60, 10, 10);
        let strict = BreakerRules {
            connections_percent: 50,
            ..RULES
        };
        assert_eq!(decide(&seen, &RULES, State::Closed), State::Closed);
        assert_eq!(
            decide(&seen, &strict, State::Closed),
            open("connections", None)
        );
        assert_eq!(
            decide(&seen, &RULES, open("connections", None)),
            open("connections", Some(1))
        );
    }

    proptest! {
        /// Whatever the readings were: a breaker that lets anybody in has just seen no reading at its threshold, and
        /// between two states of taking everybody lie the waits of open and half-open.
        #[test]
        fn nobody_is_let_in_at_a_threshold(levels in prop::collection::vec((0u64..110, 0u64..110, 0u64..110), 1..60)) {
            let mut state = State::Closed;
            let mut opened_at = None;
            for (second, (connections, memory, tasks)) in levels.into_iter().enumerate() {
                let seen = readings(second as u64, connections, memory, tasks);
                let over = connections >= 95 || memory >= 80 || tasks >= 100;
                state = decide(&seen, &RULES, state);
                match state {
                    State::Open { causes, .. } => {
                        prop_assert!(causes.any());
                        opened_at.get_or_insert(second);
                    }
                    _ => prop_assert!(!over, "{seen:?} {state:?}"),
                }
                if state == State::Closed && let Some(at) = opened_at.take() {
                    prop_assert!(second - at >= 8, "opened at {at}, closed at {second}");
                }
            }
        }

        /// Good readings always end in a closed breaker, in bounded time.
        #[test]
        fn it_always_recovers(connections in 0u64..90, memory in 0u64..75, tasks in 0u64..95, causes in 0usize..3) {
            let mut state = open(Causes::WORDS[causes], None);
            for second in 0..=9 {
                state = decide(&readings(second, connections, memory, tasks), &RULES, state);
            }
            prop_assert_eq!(state, State::Closed);
        }

        /// Shares are exact, without overflow.
        #[test]
        fn a_share_is_exact(used: u64, limit in 1u64.., percent in 1u8..=100) {
            let reaches = Level { used, limit }.reaches(percent);
            let exact = u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
            prop_assert_eq!(reaches, exact);
            let full = Level { used: limit, limit };
            prop_assert!(full.reaches(100));
        }
    }
}
