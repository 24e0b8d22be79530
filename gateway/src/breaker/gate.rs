//! Effects (atomics): the breaker's last decision as handshakes on every thread ask for it, without a lock.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::decide::State;

/// What a handshake needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everybody is let in.
    Closed,
    /// A few are.
    HalfOpen,
    /// Connections are at their limit: only one that replaces another is let in.
    Full,
    /// Memory is short: nobody is let in.
    Memory,
    /// There are too many tasks: nobody is let in.
    Tasks,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Closed,
        Self::HalfOpen,
        Self::Full,
        Self::Memory,
        Self::Tasks,
    ];

    /// What matters of a state. What hurts everybody counts before what hurts newcomers only.
    pub fn of(state: State) -> Self {
        match state {
            State::Closed => Self::Closed,
            State::HalfOpen { .. } => Self::HalfOpen,
            State::Open { causes, .. } if causes.memory => Self::Memory,
            State::Open { causes, .. } if causes.tasks => Self::Tasks,
            State::Open { .. } => Self::Full,
        }
    }

    /// Label of the newcomers it refuses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed | Self::HalfOpen => "half_open",
            Self::Full => "connections",
            Self::Memory => "memory",
            Self::Tasks => "tasks",
        }
    }

    /// Whether nobody is let in, whoever it is.
    pub fn is_shut(self) -> bool {
        matches!(self, Self::Memory | Self::Tasks)
    }
}

/// The last decision.
#[derive(Debug, Default)]
pub struct Gate {
    kind: AtomicU8,
    /// Newcomers that may still be tried until the next decision.
    tries: AtomicU32,
}

impl Gate {
    /// Takes a decision over. A half-open gate tries so many until the next one.
    pub fn set(&self, state: State, tries: u32) {
        self.tries.store(tries, Ordering::Release);
        self.kind.store(Kind::of(state) as u8, Ordering::Release);
    }

    /// The decision.
    pub fn kind(&self) -> Kind {
        let kind = Kind::ALL.get(usize::from(self.kind.load(Ordering::Acquire)));
        kind.copied().unwrap_or(Kind::Closed)
    }

    /// Takes one of the tries; false when all are taken.
    pub fn try_one(&self) -> bool {
        let one_less = |tries: u32| tries.checked_sub(1);
        self.tries
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::decide::Causes;
    use std::time::Duration;

    fn open(connections: bool, memory: bool, tasks: bool) -> State {
        State::Open {
            causes: Causes {
                connections,
                memory,
                tasks,
            },
            good_since: None,
        }
    }

    #[test]
    fn the_gate_says_what_was_decided() {
        let gate = Gate::default();
        assert_eq!(gate.kind(), Kind::Closed);
        let half_open = State::HalfOpen {
            since: Duration::ZERO,
        };
        let table = [
            (half_open, Kind::HalfOpen, false),
            (open(true, false, false), Kind::Full, false),
            (open(true, true, true), Kind::Memory, true),
            (open(true, false, true), Kind::Tasks, true),
            (State::Closed, Kind::Closed, false),
        ];
        for (state, kind, shut) in table {
            gate.set(state, 1);
            assert_eq!(
                (gate.kind(), gate.kind().is_shut()),
                (kind, shut),
                "{state:?}"
            );
        }
    }

    #[test]
    fn only_so_many_are_tried_until_the_next_decision() {
        let gate = Gate::default();
        let half_open = State::HalfOpen {
            since: Duration::ZERO,
        };
        for _ in 0..2 {
            gate.set(half_open, 3);
            let tried = (0..10).filter(|_| gate.try_one()).count();
            assert_eq!(tried, 3);
        }
    }
}
