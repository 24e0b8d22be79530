//! The status that follows from a plan (pure): written only when it says something new, and counts
//! that drift by themselves only now and then.

use super::plan::{PlannedCondition, StatusSummary};
use crate::limits::{STATUS_TICK, STATUS_TICK_DRAINING};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sluice_crds::NotifyGatewayStatus;

/// The status to write at `now`, if one is due. `written` is when this leader last wrote one.
pub fn next(
    before: &NotifyGatewayStatus,
    summary: &StatusSummary,
    written: Option<Timestamp>,
    now: Timestamp,
) -> Option<NotifyGatewayStatus> {
    let after = filled_in(before, summary, now);
    if after == *before {
        return None;
    }
    let tick = if summary.draining_replicas > 0 {
        STATUS_TICK_DRAINING
    } else {
        STATUS_TICK
    };
    let recent = written.is_some_and(|at| now.duration_since(at) < tick);
    let only_counts = NotifyGatewayStatus {
        connections: before.connections,
        reconnect_budget: before.reconnect_budget.clone(),
        ..after.clone()
    } == *before;
    (!recent || !only_counts).then_some(after)
}

fn filled_in(
    before: &NotifyGatewayStatus,
    summary: &StatusSummary,
    now: Timestamp,
) -> NotifyGatewayStatus {
    let StatusSummary {
        observed_generation,
        replicas,
        ready_replicas,
        draining_replicas,
        selector,
        connections,
        reconnect_budget,
        current_revision,
        stable_revision,
        drill,
        conditions,
    } = summary.clone();
    let condition = |planned: &PlannedCondition| {
        let old = before
            .conditions
            .iter()
            .find(|old| old.type_ == planned.kind);
        let since = old
            .filter(|old| old.status == planned.status)
            .map_or(Time(now), |old| old.last_transition_time.clone());
        Condition {
            type_: planned.kind.clone(),
            status: planned.status.clone(),
            reason: planned.reason.clone(),
            message: planned.message.clone(),
            observed_generation: Some(observed_generation),
            last_transition_time: since,
        }
    };
    NotifyGatewayStatus {
        observed_generation: Some(observed_generation),
        replicas: replicas.cast_signed(),
        ready_replicas: ready_replicas.cast_signed(),
        draining_replicas: draining_replicas.cast_signed(),
        selector,
        connections: i64::try_from(connections).unwrap_or(i64::MAX),
        reconnect_budget: Some(reconnect_budget).filter(|text| !text.is_empty()),
        current_revision,
        stable_revision,
        drill,
        conditions: conditions.iter().map(condition).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::next;
    use crate::fleet::plan::{PlannedCondition, StatusSummary};
    use jiff::Timestamp;
    use sluice_crds::NotifyGatewayStatus;

    #[test]
    fn nothing_new_is_not_written() {
        let first = next(&NotifyGatewayStatus::default(), &summary(), None, at(0)).unwrap();
        assert_eq!(next(&first, &summary(), Some(at(0)), at(100)), None);
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = next(&NotifyGatewayStatus::default(), &summary(), None, at(0)).unwrap();
        let mut other = summary();
        other.conditions[0].message = "else".to_owned();
        let second = next(&first, &other, Some(at(0)), at(5)).unwrap();
        assert_eq!(second.conditions[0].last_transition_time.0, at(0));
        other.conditions[0].status = "False".to_owned();
        let third = next(&second, &other, Some(at(5)), at(9)).unwrap();
        assert_eq!(third.conditions[0].last_transition_time.0, at(9));
    }

    #[test]
    fn counts_alone_wait_for_the_tick() {
        let first = next(&NotifyGatewayStatus::default(), &summary(), None, at(0)).unwrap();
        let mut more = summary();
        more.connections = 700;
        assert_eq!(next(&first, &more, Some(at(0)), at(29)), None);
        assert_eq!(
            next(&first, &more, Some(at(0)), at(30))
                .unwrap()
                .connections,
            700
        );
        more.ready_replicas = 2;
        assert!(next(&first, &more, Some(at(0)), at(1)).is_some());
        more.ready_replicas = 3;
        more.draining_replicas = 1;
        let draining = next(&first, &more, Some(at(0)), at(1)).unwrap();
        more.connections = 600;
        assert!(next(&draining, &more, Some(at(1)), at(2)).is_none());
        assert!(next(&draining, &more, Some(at(1)), at(3)).is_some());
    }

    fn summary() -> StatusSummary {
        StatusSummary {
            observed_generation: 4,
            replicas: 3,
            ready_replicas: 3,
            selector: "a=b".to_owned(),
            connections: 100,
            conditions: vec![PlannedCondition {
                kind: "Ready".to_owned(),
                status: "True".to_owned(),
                reason: "AllReady".to_owned(),
                message: "all".to_owned(),
            }],
            ..StatusSummary::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }
}
