//! Drains that run, and what each is told (pure).

use super::census::{Census, Member, Stage};
use super::roster::{Roster, same};
use super::settled::Settled;
use crate::fleet::observed::{DrainReason, ServingState};
use crate::fleet::pacing::{self, Load};
use crate::limits;
use jiff::{SignedDuration, Timestamp};

/// One drain that runs.
pub struct Drain<'a, 'c> {
    /// The pod.
    pub member: &'c Member<'a>,
    /// Why it goes.
    pub reason: DrainReason,
    /// What is left to move, until when.
    pub load: Load,
    /// The rate it should go at, thousandths per second.
    pub rate_milli: u64,
    /// Before this, endpoints that lag behind may still send its clients to another pod that goes.
    pub not_before: Timestamp,
}

/// The reconnect budget without what gateways use that drain though no mark says so: the mark is
/// too new to be seen, or too old to be still there.
pub fn budget_left(settled: &Settled<'_>, census: &Census<'_>) -> u64 {
    let unmarked: u64 = census
        .staying()
        .filter_map(|member| member.gateway)
        .filter(|state| state.state != ServingState::Serving && state.connections > 0)
        .map(|state| state.rate_milli)
        .sum();
    settled
        .budget_milli
        .saturating_sub(unmarked)
        .max(limits::SLOWEST_DRAIN_MILLI)
}

/// Drains that run or should run, each with its share of the budget.
pub fn drains<'a, 'c>(
    settled: &Settled<'_>,
    census: &'c Census<'a>,
    roster: &Roster<'a, 'c>,
) -> Vec<Drain<'a, 'c>> {
    let mut drains: Vec<_> = census
        .going()
        .filter(|member| member.pod.container_running)
        .filter(|member| !roster.taken_back.iter().any(|other| same(other, member)))
        .filter_map(|member| {
            let mut not_before = settled.now;
            let (reason, deadline, hard) = match member.stage {
                Stage::Marked(mark) => {
                    let lag = settled.spec.drain.endpoint_lag_seconds;
                    let lag = SignedDuration::from_secs(lag.into());
                    not_before = mark.since.saturating_add(lag).unwrap_or(mark.since);
                    (mark.reason, mark.deadline, false)
                }
                Stage::Terminating(at) => {
                    let reason = member
                        .pod
                        .drain
                        .as_ref()
                        .map_or(DrainReason::Eviction, |mark| mark.reason);
                    (
                        reason,
                        at.saturating_sub(limits::TERMINATION_RESERVE).unwrap_or(at),
                        true,
                    )
                }
                Stage::Finished | Stage::Staying => return None,
            };
            let draining = member
                .gateway
                .filter(|state| state.state != ServingState::Serving);
            Some(Drain {
                member,
                reason,
                load: Load {
                    remaining: member.connections_at_most(settled),
                    deadline,
                    hard,
                    current_milli: draining.map_or(0, |state| state.rate_milli),
                },
                rate_milli: 0,
                not_before,
            })
        })
        .collect();
    let loads: Vec<Load> = drains.iter().map(|drain| drain.load.clone()).collect();
    let rates = pacing::divide(&loads, budget_left(settled, census), settled.now);
    for (drain, rate) in drains.iter_mut().zip(rates) {
        drain.rate_milli = rate.max(limits::SLOWEST_DRAIN_MILLI);
    }
    drains
}

impl Drain<'_, '_> {
    /// Whether its gateway can be told, and would hear something new.
    pub fn is_news(&self, now: Timestamp) -> bool {
        let Some(state) = self.member.gateway else {
            return false;
        };
        if state.state == ServingState::Serving {
            return now >= self.not_before;
        }
        let same_deadline = state.deadline.is_some_and(|told| {
            told.duration_since(self.load.deadline).abs() <= limits::DEADLINE_TOLERANCE
        });
        let over = self.load.deadline <= now || state.connections == 0;
        !(over || same_deadline && state.rate_milli == self.rate_milli)
    }

    /// Whether others leave it too little of the budget for its own deadline. Close to the
    /// deadline only stragglers are left, and moving it for them would never end.
    pub fn is_starved(&self, now: Timestamp) -> bool {
        let left = self.load.deadline.duration_since(now);
        !self.load.hard
            && self.member.gateway.is_some()
            && left > limits::STRAGGLER_TIME
            && pacing::reachable(self.load.remaining, self.rate_milli * 11 / 10, now)
                > self.load.deadline
    }
}
