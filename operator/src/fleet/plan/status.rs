//! What the status says (pure). Messages hold no number that changes by itself, so that a quiet
//! fleet writes nothing.

use super::action::{Action, Plan, PlannedCondition, StatusSummary};
use super::census::{Census, Member, Stage};
use super::departures::Departures;
use super::settled::Settled;
use crate::fleet::observed::Observed;
use crate::fleet::render;
use crate::fleet::scaling::Decision;
use crate::limits;

/// The status of a fleet that is being looked after.
pub fn summarize(
    settled: &Settled<'_>,
    census: &Census<'_>,
    departures: &Departures<'_, '_>,
    decision: Option<&Decision>,
    plan: &mut Plan,
) {
    let staying = census.staying().count() as u32;
    let ready = census.staying().filter(|member| member.pod.ready).count() as u32;
    let draining = census.going().count() as u32;
    let outdated = census.staying().any(|member| member.outdated);
    let settled_down = staying == settled.wanted && ready == staying && draining == 0 && !outdated;
    let stable = settled.fleet.status.stable_revision.clone();
    plan.status = StatusSummary {
        observed_generation: settled.fleet.generation,
        replicas: staying,
        ready_replicas: ready,
        draining_replicas: draining,
        selector: render::selector(&settled.fleet.name),
        connections: connections(settled, census),
        reconnect_budget: format!(
            "{}/{}",
            departures.rate_in_use() / limits::MILLI as u64,
            settled.spec.reconnect_budget.rate_per_second
        ),
        current_revision: Some(settled.hash.clone()),
        stable_revision: if settled_down {
            Some(settled.hash.clone())
        } else {
            stable
        },
        drill: settled.observed.drill.clone(),
        conditions: vec![
            ready_condition(settled, ready),
            progressing(settled, settled_down, outdated, plan),
            draining_condition(census),
            scaling_condition(settled, decision),
            condition("SpecValid", true, "Valid", "the spec can be carried out"),
        ],
    };
}

/// The plan for a spec that makes no sense: nothing is touched.
pub fn invalid(observed: &Observed, faults: &[String]) -> Plan {
    let fleet = &observed.fleet;
    let kept = &fleet.status;
    let mut status = carried_over(observed);
    status.current_revision.clone_from(&kept.current_revision);
    status.conditions = vec![
        condition("SpecValid", false, "Invalid", &faults.join("; ")),
        condition(
            "Progressing",
            false,
            "SpecInvalid",
            "nothing is changed until the spec is valid",
        ),
    ];
    Plan {
        status,
        ..Plan::default()
    }
}

/// The plan for a fleet that is being deleted.
pub fn deleted(observed: &Observed) -> Plan {
    let mut status = carried_over(observed);
    status.conditions = vec![condition(
        "Progressing",
        true,
        "Deleting",
        "the fleet is being deleted with all its pods",
    )];
    Plan {
        status,
        ..Plan::default()
    }
}

/// What can be said without a spec.
fn carried_over(observed: &Observed) -> StatusSummary {
    let fleet = &observed.fleet;
    let here =
        |pod: &&crate::fleet::observed::PodView| pod.killed_at.is_none() && pod.drain.is_none();
    StatusSummary {
        observed_generation: fleet.generation,
        replicas: observed.pods.iter().filter(here).count() as u32,
        ready_replicas: observed
            .pods
            .iter()
            .filter(here)
            .filter(|pod| pod.ready)
            .count() as u32,
        draining_replicas: observed.pods.iter().filter(|pod| !here(pod)).count() as u32,
        selector: render::selector(&fleet.name),
        connections: u64::try_from(fleet.status.connections).unwrap_or(0),
        reconnect_budget: fleet.status.reconnect_budget.clone().unwrap_or_default(),
        stable_revision: fleet.status.stable_revision.clone(),
        drill: observed.drill.clone(),
        ..StatusSummary::default()
    }
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> PlannedCondition {
    PlannedCondition {
        kind: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn ready_condition(settled: &Settled<'_>, ready: u32) -> PlannedCondition {
    let wanted = settled.wanted;
    if ready >= wanted {
        condition(
            "Ready",
            true,
            "AllReady",
            "as many pods are ready as are wanted",
        )
    } else {
        condition(
            "Ready",
            false,
            "PodsNotReady",
            &format!("{ready} of {wanted} pods are ready"),
        )
    }
}

fn progressing(
    settled: &Settled<'_>,
    settled_down: bool,
    outdated: bool,
    plan: &Plan,
) -> PlannedCondition {
    let acting = plan
        .actions
        .iter()
        .any(|action| !matches!(action, Action::DeleteRevision { .. }));
    let waits = plan
        .waits
        .iter()
        .map(|wait| format!("{} waits for {}", wait.what, wait.why));
    let message = waits.collect::<Vec<_>>().join("; ");
    if settled.spec.paused {
        condition("Progressing", false, "Paused", "spec.paused is true")
    } else if outdated {
        condition(
            "Progressing",
            true,
            "RollingOut",
            &or(message, "pods of the new revision replace old ones"),
        )
    } else if !settled_down || acting {
        condition(
            "Progressing",
            true,
            "Changing",
            &or(message, "pods are being added, moved or taken away"),
        )
    } else {
        condition(
            "Progressing",
            false,
            "Settled",
            "the fleet is as the spec says",
        )
    }
}

fn or(message: String, otherwise: &str) -> String {
    if message.is_empty() {
        otherwise.to_owned()
    } else {
        message
    }
}

fn draining_condition(census: &Census<'_>) -> PlannedCondition {
    let going: Vec<_> = census
        .going()
        .map(|member| match member.stage {
            Stage::Marked(mark) => format!("{} ({})", member.pod.name, mark.reason.as_str()),
            _ => format!("{} (deleted)", member.pod.name),
        })
        .collect();
    if going.is_empty() {
        condition("Draining", false, "NoDrain", "no pod is being drained")
    } else {
        condition(
            "Draining",
            true,
            "PodsDraining",
            &format!("clients are moved off {}", going.join(", ")),
        )
    }
}

fn scaling_condition(settled: &Settled<'_>, decision: Option<&Decision>) -> PlannedCondition {
    match decision {
        Some(decision) => {
            // What a metric asks for is in events; here it would change with every client.
            let message = if decision.active {
                "the metrics can be read"
            } else {
                &decision.message
            };
            let reason = if decision.active {
                "MetricsRead"
            } else {
                decision.reason
            };
            condition("ScalingActive", decision.active, reason, message)
        }
        None if settled.spec.scaling.is_some() => {
            condition("ScalingActive", false, "Paused", "spec.paused is true")
        }
        None => condition(
            "ScalingActive",
            false,
            "NotConfigured",
            "spec.scaling is not set",
        ),
    }
}

/// Clients of every pod that answers; as before when none does, for silence is not zero.
fn connections(settled: &Settled<'_>, census: &Census<'_>) -> u64 {
    let known: Vec<u64> = census
        .members
        .iter()
        .filter_map(Member::connections)
        .collect();
    if known.is_empty() && !census.members.is_empty() {
        return u64::try_from(settled.fleet.status.connections).unwrap_or(0);
    }
    rounded(known.iter().sum())
}

/// Two digits above 100.
fn rounded(connections: u64) -> u64 {
    let mut unit = 1;
    while connections / unit >= 100 {
        unit *= 10;
    }
    connections.saturating_add(unit / 2) / unit * unit
}
