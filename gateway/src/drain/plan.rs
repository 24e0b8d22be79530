//! Pure: what the operator and SIGTERM have ordered, and what follows from it. Times are on any clock that only goes forward.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pacing::forced_rate;
use crate::limits;

/// Which operator leader speaks: a lease and how often it changed hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// UID of the Lease object.
    pub lease: String,
    /// Its `leaseTransitions`.
    pub transitions: u64,
}

/// A drain as ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Why, one snake_case word.
    pub reason: String,
    /// Thousandths of a connection per second; `None` when nobody said.
    pub rate_milli: Option<u64>,
    /// When all that are left are closed.
    pub deadline: Duration,
}

/// What the gateway says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Takes newcomers.
    Serving,
    /// Moves its connections elsewhere; may be told to stop doing so.
    Draining,
    /// The same on the way to exit.
    Closing,
}

/// The order cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer leader has spoken.
    #[error("the term is older than {lease}/{transitions}, which this gateway has seen: another operator leads now", lease = .0.lease, transitions = .0.transitions)]
    Stale(Term),
    /// There is no way back after SIGTERM.
    #[error("the pod is terminating: a drain cannot be taken back")]
    Terminating,
}

/// What was ordered so far.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    term: Option<Term>,
    order: Option<Order>,
    refusing_since: Option<Duration>,
    terminating: bool,
    /// SIGTERM's drain has begun.
    closing: bool,
}

impl Plan {
    /// The operator wants this pod empty; said again, it changes rate and deadline.
    pub fn drain(
        &mut self,
        term: Option<Term>,
        order: Order,
        now: Duration,
    ) -> Result<(), Refused> {
        self.fence(term)?;
        self.refusing_since.get_or_insert(now);
        self.order = Some(order);
        Ok(())
    }

    /// The operator takes it back. True when there was something to take back.
    pub fn undo(&mut self, term: Option<Term>) -> Result<bool, Refused> {
        self.fence(term)?;
        if self.terminating {
            return Err(Refused::Terminating);
        }
        self.refusing_since = None;
        Ok(self.order.take().is_some())
    }

    /// SIGTERM came. Newcomers are still taken unless a drain runs.
    pub fn terminate(&mut self) {
        self.terminating = true;
    }

    /// After the endpoint lag: everybody has to go by the deadline. A drain that runs keeps its rate.
    pub fn close_by(&mut self, deadline: Duration, now: Duration) {
        self.closing = true;
        self.refusing_since.get_or_insert(now);
        match &mut self.order {
            Some(order) => order.deadline = deadline,
            None => {
                self.order = Some(Order {
                    reason: "shutdown".into(),
                    rate_milli: None,
                    deadline,
                });
            }
        }
    }

    /// The present state.
    pub fn state(&self) -> State {
        match (&self.order, self.closing) {
            (_, true) => State::Closing,
            (Some(_), false) => State::Draining,
            (None, false) => State::Serving,
        }
    }

    /// The present order.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Since when newcomers are refused.
    pub fn refusing_since(&self) -> Option<Duration> {
        self.refusing_since
    }

    /// Rate at this moment, thousandths per second. `budget` is the fleet's, per second.
    pub fn rate_milli(&self, left: usize, budget: u32, now: Duration) -> u64 {
        let Some(order) = &self.order else { return 0 };
        let share = u64::from(budget) * 1000 / u64::from(limits::UNSUPERVISED_BUDGET_SHARE);
        let wanted = order.rate_milli.unwrap_or(share.max(1));
        if !self.terminating {
            return wanted;
        }
        forced_rate(
            wanted,
            left,
            order.deadline.saturating_sub(now),
            limits::MIGRATE_DEADLINE,
        )
    }

    /// Refuses who led before the latest leader that was heard of.
    pub fn fence(&mut self, term: Option<Term>) -> Result<(), Refused> {
        let Some(term) = term else { return Ok(()) };
        if let Some(seen) = &self.term {
            let older = term.transitions < seen.transitions;
            let rival = term.transitions == seen.transitions && term.lease != seen.lease;
            if older || rival {
                return Err(Refused::Stale(seen.clone()));
            }
        }
        self.term = Some(term);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn term(lease: &str, transitions: u64) -> Term {
        Term {
            lease: lease.into(),
            transitions,
        }
    }

    fn order(rate_milli: u64, deadline: u64) -> Order {
        Order {
            reason: "node_drain".into(),
            rate_milli: Some(rate_milli),
            deadline: Duration::from_secs(deadline),
        }
    }

    #[test]
    fn a_drain_and_its_undo_end_where_they_began() {
        let mut plan = Plan::default();
        assert_eq!(plan.state(), State::Serving);
        plan.drain(Some(term("a", 1)), order(5000, 160), NOW)
            .unwrap();
        assert_eq!(
            (plan.state(), plan.rate_milli(9, 200, NOW)),
            (State::Draining, 5000)
        );
        assert_eq!(plan.undo(Some(term("a", 1))), Ok(true));
        assert_eq!(
            (plan.state(), plan.refusing_since()),
            (State::Serving, None)
        );
        assert_eq!(plan.undo(Some(term("a", 1))), Ok(false));
    }

    #[test]
    fn said_again_it_changes_rate_and_deadline() {
        let mut plan = Plan::default();
        plan.drain(Some(term("a", 1)), order(5000, 160), NOW)
            .unwrap();
        plan.drain(Some(term("a", 1)), order(9000, 150), NOW + NOW)
            .unwrap();
        assert_eq!(plan.order(), Some(&order(9000, 150)));
        assert_eq!(plan.refusing_since(), Some(NOW));
    }

    #[test]
    fn former_leaders_are_refused() {
        let mut plan = Plan::default();
        plan.drain(Some(term("a", 3)), order(1, 160), NOW).unwrap();
        let stale = |plan: &mut Plan, t| {
            matches!(
                plan.drain(Some(t), order(2, 160), NOW),
                Err(Refused::Stale(_))
            )
        };
        assert!(stale(&mut plan, term("a", 2)));
        assert!(stale(&mut plan, term("b", 2)));
        assert!(stale(&mut plan, term("b", 3)));
        assert!(matches!(
            plan.undo(Some(term("a", 2))),
            Err(Refused::Stale(_))
        ));
        assert_eq!(plan.order(), Some(&order(1, 160)));
        assert!(plan.drain(Some(term("b", 4)), order(2, 160), NOW).is_ok());
        assert!(stale(&mut plan, term("a", 3)));
    }

    #[test]
    fn sigterm_without_an_operator_spreads_over_the_time_there_is() {
        let mut plan = Plan::default();
        plan.terminate();
        assert_eq!(plan.state(), State::Serving);
        plan.close_by(NOW + Duration::from_secs(75), NOW);
        assert_eq!(plan.state(), State::Closing);
        assert_eq!(plan.rate_milli(6500, 200, NOW), 100_000);
        assert_eq!(
            plan.rate_milli(10, 200, NOW),
            20_000,
            "a tenth of the budget at least"
        );
    }

    #[test]
    fn sigterm_during_a_drain_changes_its_deadline_only() {
        let mut plan = Plan::default();
        plan.drain(Some(term("a", 1)), order(5000, 160), NOW)
            .unwrap();
        plan.terminate();
        plan.close_by(NOW + Duration::from_secs(75), NOW);
        assert_eq!(plan.order(), Some(&order(5000, 175)));
        assert_eq!(plan.undo(Some(term("a", 1))), Err(Refused::Terminating));
        plan.drain(Some(term("a", 1)), order(8000, 140), NOW)
            .unwrap();
        assert_eq!(
            (plan.state(), plan.rate_milli(1, 200, NOW)),
            (State::Closing, 8000)
        );
    }
}
