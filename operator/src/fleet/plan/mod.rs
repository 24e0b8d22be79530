//! What is to be done about a fleet (pure): `plan(observed, now)` leaves nothing to choose.
//!
//! ```text
//! observed ─► validate ─► Settled (which revision, which landscape)
//!                            │
//!                         census     every pod: gone, going, chosen to go, staying
//!                            │
//!               ┌────────────┼─────────────┬───────────┐
//!            objects       roster       departures    scale
//!            Services,     who stays,   marks, rates, replicas
//!            revisions     who is new   deletes
//!               └────────────┴──────┬──────┴───────────┘
//!                                 status
//! ```
//!
//! Actions are ordered so that the operator may die after any of them: what others need comes
//! first, capacity is added before it is taken away, rates are lowered before others are raised.

mod action;
mod census;
mod departures;
mod drains;
mod gate;
mod objects;
mod roster;
mod settled;
mod status;
mod tell;
mod validate;

pub use action::{
    Action, DeleteReason, Plan, PlannedCondition, PlannedEvent, PodRef, StatusSummary, Wait,
};

use super::observed::{Observed, SpecView};
use super::scaling;
use crate::limits;
use census::Census;
use departures::Departures;
use jiff::{SignedDuration, Timestamp};
use roster::Roster;
use settled::Settled;

/// Decides what is to be done about a fleet now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let spec = match &observed.fleet.spec {
        SpecView::Read(spec) => spec,
        SpecView::Unreadable(why) => return status::invalid(observed, std::slice::from_ref(why)),
    };
    if observed.fleet.deleted.is_some() {
        // Kubernetes deletes what the fleet owns; gateways spread their clients over their grace period.
        return status::deleted(observed);
    }
    let faults = validate::faults(&observed.fleet, spec, &observed.defaults);
    if !faults.is_empty() {
        return status::invalid(observed, &faults);
    }
    let settled = Settled::of(observed, spec, now);
    let census = Census::take(&settled);
    let roster = Roster::draw_up(&settled, &census);
    let departures = Departures::arrange(&settled, &census, &roster);
    let decision = settled.decide_scale();

    let mut plan = Plan::default();
    objects::ensure(&settled, &mut plan);
    roster.keep(&departures, &mut plan);
    roster.create(&settled, &mut plan);
    departures.mark(&mut plan);
    departures.pace(&settled, &mut plan);
    departures.delete(&mut plan);
    tell::tell(&settled, &census, &departures, &mut plan);
    objects::forget(&settled, &mut plan);
    scale(&settled, decision.as_ref(), &mut plan);
    plan.waits.extend(departures.waits.iter().cloned());
    status::summarize(&settled, &census, &departures, decision.as_ref(), &mut plan);
    plan.requeue_after_ms = requeue(&settled, &census, &plan);
    plan
}

/// Writes the scaler's decision and remembers what it looked at.
fn scale(settled: &Settled<'_>, decision: Option<&scaling::Decision>, plan: &mut Plan) {
    let Some(decision) = decision else { return };
    plan.recommendation = decision.recommendation;
    if decision.replicas != settled.wanted {
        plan.actions.push(Action::SetReplicas {
            from: settled.wanted,
            to: decision.replicas,
        });
        plan.events.push(PlannedEvent {
            warning: false,
            reason: decision.reason.to_owned(),
            note: format!(
                "replicas from {} to {}: {}",
                settled.wanted, decision.replicas, decision.message
            ),
        });
    }
}

/// When to look again though no watch event comes.
fn requeue(settled: &Settled<'_>, census: &Census<'_>, plan: &Plan) -> Option<u64> {
    let scaling = settled
        .spec
        .scaling
        .as_ref()
        .filter(|_| !settled.spec.paused);
    let unscheduled = census
        .members
        .iter()
        .any(|member| member.pod.unschedulable_since.is_some());
    [
        (census.going().next().is_some(), limits::DRAIN_POLL),
        (!plan.waits.is_empty() || unscheduled, limits::WAIT_POLL),
        (
            scaling.is_some(),
            SignedDuration::from_secs(scaling.map_or(0, |scaling| i64::from(scaling.sync_seconds))),
        ),
    ]
    .into_iter()
    .filter(|(due, _)| *due)
    .filter_map(|(_, after)| u64::try_from(after.as_millis()).ok())
    .min()
}
