//! One experiment as a state machine (pure): what was seen → the next step. Every step is written to
//! the status before the next is taken, and striking is bound to the UIDs in it, so an operator
//! that dies anywhere is followed by one that goes on without striking twice.

use super::look::{FleetLook, disturbance, gives_way};
use super::record::{confirm, count, finished, running};
use crate::limits::{QUIET_PATIENCE, RECOVERY_SETTLE};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest as _, Sha256};
use sluice_crds::chaos_experiment::{CheckResult, FaultType, Phase, Report, Target, Verdict};
use sluice_crds::{ChaosExperimentSpec, ChaosExperimentStatus};

/// An experiment and what it can see.
#[derive(Clone, Debug)]
pub struct ExperimentView {
    /// metadata.uid: also the seed of the choice of targets.
    pub uid: String,
    /// metadata.generation
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it carries the finalizer.
    pub finalizer: bool,
    /// The spec.
    pub spec: ChaosExperimentSpec,
    /// The status as last written.
    pub status: ChaosExperimentStatus,
    /// An older experiment on the same fleet that is not over.
    pub ahead: Option<String>,
    /// The fleet, if it exists and can be read.
    pub fleet: Option<FleetLook>,
}

/// Before the fault or after recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the fault.
    Before,
    /// After recovery.
    After,
}

impl When {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing, ever again.
    Done,
    /// Put the finalizer on.
    AddFinalizer,
    /// Take the finalizer off.
    RemoveFinalizer,
    /// Look again soon; the status already says why.
    Wait,
    /// Write this status, then look again.
    Write(Box<ChaosExperimentStatus>),
    /// Ask for the steady state, then [`checked`].
    Check(When),
    /// Do the fault to these, then look again.
    Strike(FaultType, Vec<Target>),
}

/// The next step at `now`.
pub fn step(view: &ExperimentView, now: Timestamp) -> Step {
    let status = &view.status;
    if status.phase == Phase::Completed {
        return if view.finalizer {
            Step::RemoveFinalizer
        } else {
            Step::Done
        };
    }
    if view.deleting {
        return if view.finalizer {
            write(finished(
                view,
                Verdict::Interrupted,
                "The experiment was deleted.",
                now,
            ))
        } else {
            Step::Done
        };
    }
    if !view.finalizer {
        return Step::AddFinalizer;
    }
    match status.phase {
        Phase::Pending => pending(view, now),
        Phase::CheckingBefore => match disturbance(view.fleet.as_ref()) {
            Some(why) => {
                let message = format!("Nothing was done: {why}.");
                write(finished(view, Verdict::Interrupted, &message, now))
            }
            None => Step::Check(When::Before),
        },
        Phase::Injecting => injecting(view, now),
        Phase::Recovering => recovering(view, now),
        Phase::CheckingAfter => {
            if let Some(why) = gives_way(view.fleet.as_ref()) {
                return interrupted(view, &why, now);
            }
            let settled = since_fault(view, now) >= recovery(status) + RECOVERY_SETTLE;
            if settled {
                Step::Check(When::After)
            } else {
                Step::Wait
            }
        }
        Phase::Completed => Step::Done,
    }
}

/// The status after the checks of `when` gave `results`; `None` to ask again later.
pub fn checked(
    view: &ExperimentView,
    when: When,
    results: Vec<CheckResult>,
    now: Timestamp,
) -> Option<ChaosExperimentStatus> {
    let wrong = describe_wrong(&results);
    let mut view = view.clone();
    view.status
        .checks
        .retain(|check| check.when != when.as_str());
    view.status.checks.extend(results);
    match (when, wrong) {
        (When::Before, Some(wrong)) => {
            let message =
                format!("Nothing was done: the steady state did not hold before ({wrong}).");
            Some(finished(&view, Verdict::Failed, &message, now))
        }
        (When::Before, None) => Some(inject(&view, now)),
        (When::After, Some(_)) if since_fault(&view, now) < timeout(&view) => None,
        (When::After, Some(wrong)) => {
            let message = format!("The steady state did not come back ({wrong}).");
            Some(finished(&view, Verdict::Failed, &message, now))
        }
        (When::After, None) => {
            let seconds = recovery(&view.status).as_secs();
            let message =
                format!("The fleet was whole again after {seconds} s and its steady state held.");
            Some(finished(&view, Verdict::Passed, &message, now))
        }
    }
}

fn pending(view: &ExperimentView, now: Timestamp) -> Step {
    if let Some(ahead) = &view.ahead {
        return waiting(
            view,
            "OtherExperiment",
            &format!("Waits for {ahead} to end."),
            now,
        );
    }
    let Some(started) = &view.status.started_at else {
        let mut status = view.status.clone();
        status.started_at = Some(Time(now));
        return write(running(
            view,
            status,
            "Waiting",
            "Waits for a quiet fleet.",
            now,
        ));
    };
    let Some(why) = disturbance(view.fleet.as_ref()) else {
        let mut status = view.status.clone();
        status.phase = Phase::CheckingBefore;
        return write(running(
            view,
            status,
            "Running",
            "Asks for the steady state.",
            now,
        ));
    };
    if now.duration_since(started.0) > QUIET_PATIENCE {
        let seconds = QUIET_PATIENCE.as_secs();
        let message =
            format!("Nothing was done: the fleet was not quiet within {seconds} s: {why}.");
        return write(finished(view, Verdict::Interrupted, &message, now));
    }
    waiting(
        view,
        "FleetNotQuiet",
        &format!("Waits for a quiet fleet: {why}."),
        now,
    )
}

/// Chooses targets, or says why there are none to choose.
fn inject(view: &ExperimentView, now: Timestamp) -> ChaosExperimentStatus {
    let fleet = match (&view.fleet, disturbance(view.fleet.as_ref())) {
        (Some(fleet), None) => fleet,
        (_, why) => {
            let why = why.unwrap_or_else(|| "the fleet is gone".to_owned());
            let message = format!("Nothing was done: {why}.");
            return finished(view, Verdict::Interrupted, &message, now);
        }
    };
    let wanted = usize::try_from(view.spec.fault.count).unwrap_or(0);
    // In a quiet fleet nothing is unavailable, so the whole allowance is there.
    let allowed = fleet.pods.len() * view.spec.max_affected_percent.max(0) as usize / 100;
    if wanted > allowed {
        let message = format!(
            "Nothing was done: {wanted} of {} pods are more than maxAffectedPercent {} allows ({allowed}).",
            fleet.pods.len(),
            view.spec.max_affected_percent,
        );
        return finished(view, Verdict::Unproven, &message, now);
    }
    let mut status = view.status.clone();
    status.phase = Phase::Injecting;
    status.injected_at = Some(Time(now));
    status.targets = choose(&view.uid, fleet, wanted);
    status.report = Some(Report {
        connections_before: fleet.connections.cast_signed(),
        pods_ready_before: count(fleet.ready()),
        ..Report::default()
    });
    running(view, status, "Running", "Does the fault.", now)
}

/// The `count` pods that come first in an order given by the seed: repeatable, and fair over
/// experiments.
fn choose(seed: &str, fleet: &FleetLook, count: usize) -> Vec<Target> {
    let mut order: Vec<_> = fleet
        .pods
        .iter()
        .map(|pod| (Sha256::digest(format!("{seed}/{}", pod.uid)), pod))
        .collect();
    order.sort_by_key(|(place, _)| *place);
    order
        .into_iter()
        .take(count)
        .map(|(_, pod)| Target {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            confirmed: false,
        })
        .collect()
}

fn injecting(view: &ExperimentView, now: Timestamp) -> Step {
    if let Some(why) = gives_way(view.fleet.as_ref()) {
        return interrupted(view, &why, now);
    }
    let untouched: Vec<_> = view
        .status
        .targets
        .iter()
        .filter(|target| {
            let pod = view.fleet.as_ref().and_then(|fleet| fleet.pod(&target.uid));
            pod.is_some_and(|pod| !pod.terminating)
        })
        .cloned()
        .collect();
    if untouched.is_empty() {
        let mut status = view.status.clone();
        status.phase = Phase::Recovering;
        confirm(&mut status, view.fleet.as_ref());
        return write(running(view, status, "Running", "Waits for recovery.", now));
    }
    if since_fault(view, now) > timeout(view) {
        return unproven(view, now);
    }
    Step::Strike(view.spec.fault.kind, untouched)
}

fn recovering(view: &ExperimentView, now: Timestamp) -> Step {
    if let Some(why) = gives_way(view.fleet.as_ref()) {
        return interrupted(view, &why, now);
    }
    let mut status = view.status.clone();
    confirm(&mut status, view.fleet.as_ref());
    let confirmed = status.targets.iter().all(|target| target.confirmed);
    let trouble = disturbance(view.fleet.as_ref());
    if confirmed && trouble.is_none() {
        status.phase = Phase::CheckingAfter;
        let mut report = status.report.unwrap_or_default();
        report.recovery_seconds = Some(since_fault(view, now).as_secs().max(0) as i32);
        status.report = Some(report);
        return write(running(
            view,
            status,
            "Running",
            "Asks for the steady state.",
            now,
        ));
    }
    if since_fault(view, now) > timeout(view) {
        if !confirmed {
            return unproven(view, now);
        }
        let why = trouble.unwrap_or_default();
        let seconds = timeout(view).as_secs();
        let message = format!("The fleet was not whole again after {seconds} s: {why}.");
        return write(finished(view, Verdict::Failed, &message, now));
    }
    if status.targets == view.status.targets {
        return Step::Wait;
    }
    write(running(view, status, "Running", "Waits for recovery.", now))
}

fn unproven(view: &ExperimentView, now: Timestamp) -> Step {
    let mut view = view.clone();
    confirm(&mut view.status, view.fleet.as_ref());
    let left: Vec<_> = view
        .status
        .targets
        .iter()
        .filter(|t| !t.confirmed)
        .collect();
    let names: Vec<_> = left.iter().map(|target| target.pod.as_str()).collect();
    let seconds = timeout(&view).as_secs();
    let message = format!(
        "The fault did not reach {} within {seconds} s.",
        names.join(", ")
    );
    write(finished(&view, Verdict::Unproven, &message, now))
}

fn interrupted(view: &ExperimentView, why: &str, now: Timestamp) -> Step {
    let message = format!("The experiment gave way: {why}.");
    write(finished(view, Verdict::Interrupted, &message, now))
}

fn since_fault(view: &ExperimentView, now: Timestamp) -> SignedDuration {
    let injected = view.status.injected_at.as_ref().map_or(now, |time| time.0);
    now.duration_since(injected)
}

fn timeout(view: &ExperimentView) -> SignedDuration {
    SignedDuration::from_secs(i64::from(view.spec.recovery_timeout_seconds))
}

fn recovery(status: &ChaosExperimentStatus) -> SignedDuration {
    let seconds = status
        .report
        .as_ref()
        .and_then(|report| report.recovery_seconds);
    SignedDuration::from_secs(i64::from(seconds.unwrap_or_default()))
}

fn describe_wrong(results: &[CheckResult]) -> Option<String> {
    let wrong: Vec<_> = results
        .iter()
        .filter(|result| !result.ok)
        .map(|result| format!("{}: {}", result.name, result.value))
        .collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn write(status: ChaosExperimentStatus) -> Step {
    Step::Write(Box::new(status))
}

/// Says why it waits, once.
fn waiting(view: &ExperimentView, reason: &str, message: &str, now: Timestamp) -> Step {
    let status = running(view, view.status.clone(), reason, message, now);
    if status == view.status {
        Step::Wait
    } else {
        write(status)
    }
}

/// Whether an end is one that people should hear of as a warning.
pub fn is_bad(verdict: Option<Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Failed | Verdict::Unproven))
}
