//! What an experiment writes down (pure): targets that are confirmed, the report, and the condition
//! `Complete`.

use super::experiment::ExperimentView;
use super::look::FleetLook;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sluice_crds::ChaosExperimentStatus;
use sluice_crds::chaos_experiment::{Phase, Verdict};

/// The status of an experiment that goes on, saying why.
pub fn running(
    view: &ExperimentView,
    status: ChaosExperimentStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> ChaosExperimentStatus {
    complete(view, status, "False", (reason, message), now)
}

/// The status of an experiment that is over.
pub fn finished(
    view: &ExperimentView,
    verdict: Verdict,
    message: &str,
    now: Timestamp,
) -> ChaosExperimentStatus {
    let mut status = view.status.clone();
    confirm(&mut status, view.fleet.as_ref());
    let mut report = status.report.unwrap_or_default();
    message.clone_into(&mut report.message);
    if let Some(fleet) = &view.fleet {
        report.connections_after = fleet.connections.cast_signed();
        report.pods_ready_after = count(fleet.ready());
    }
    status.report = Some(report);
    status.phase = Phase::Completed;
    status.verdict = Some(verdict);
    status.finished_at = Some(Time(now));
    complete(
        view,
        status,
        "True",
        (&format!("{verdict:?}"), message),
        now,
    )
}

/// Sets the condition `Complete`, keeping its time while it does not change.
fn complete(
    view: &ExperimentView,
    mut status: ChaosExperimentStatus,
    value: &str,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> ChaosExperimentStatus {
    let before = status.conditions.iter().find(|c| c.type_ == "Complete");
    let since = before
        .filter(|c| c.status == value)
        .map(|c| c.last_transition_time.clone());
    let condition = Condition {
        type_: "Complete".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(view.generation),
        last_transition_time: since.unwrap_or(Time(now)),
    };
    status.conditions.retain(|c| c.type_ != "Complete");
    status.conditions.push(condition);
    status.observed_generation = Some(view.generation);
    status
}

/// A target is confirmed when its UID is gone. Once confirmed stays confirmed.
pub fn confirm(status: &mut ChaosExperimentStatus, fleet: Option<&FleetLook>) {
    let Some(fleet) = fleet else {
        return;
    };
    for target in &mut status.targets {
        target.confirmed |= fleet.pod(&target.uid).is_none();
    }
}

/// Pods as the status counts them.
pub fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}
