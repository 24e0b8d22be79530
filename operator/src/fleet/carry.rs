//! Carries out a whole plan through an actuator (effects by way of it): in order, and no failure
//! stops more than it must.

use super::actuator::{ActError, Actuator};
use super::plan::{Action, Plan};
use crate::world::World;
use std::collections::BTreeSet;

/// What became of a plan's actions.
#[derive(Debug, Default)]
pub struct Carried {
    /// First failure that a new look alone does not cure.
    pub failure: Option<String>,
    /// Whether something had changed since it was seen: a new look is due.
    pub conflict: bool,
    /// Whether the replicas were written.
    pub scaled: bool,
}

/// Tries a plan's actions in order. One that fails holds back only what follows for the same pod;
/// word of a newer leader ends everything.
pub async fn carry_out(
    plan: &Plan,
    actuator: &impl Actuator,
    world: &World,
    fleet: &str,
) -> Carried {
    let mut carried = Carried::default();
    let mut held_back = BTreeSet::new();
    for action in &plan.actions {
        if !world.tenure.holds() {
            carried.failure = Some("this process leads no longer".to_owned());
            return carried;
        }
        let pod = pod_of(action);
        if pod.is_some_and(|pod| held_back.contains(pod)) {
            continue;
        }
        let result = actuator.act(action).await;
        let why = result.as_ref().err().map(ActError::to_string);
        world.facts.acted(fleet, action, why.as_deref());
        let Err(error) = result else {
            carried.scaled |= matches!(action, Action::SetReplicas { .. });
            continue;
        };
        held_back.extend(pod.map(str::to_owned));
        match error {
            ActError::Conflict { .. } => carried.conflict = true,
            ActError::Failed { .. } => carried.failure = carried.failure.or(why),
            ActError::StaleLeader { .. } => {
                world.superseded.cancel();
                carried.failure = why;
                return carried;
            }
        }
    }
    carried
}

/// Name of the pod an action is about.
fn pod_of(action: &Action) -> Option<&str> {
    match action {
        Action::CancelDrain { pod }
        | Action::SetAccepting { pod, .. }
        | Action::MarkDraining { pod, .. }
        | Action::StartDrain { pod, .. }
        | Action::SetLimits { pod, .. }
        | Action::DeletePod { pod, .. } => Some(&pod.name),
        Action::CreatePod { object, .. } => object.metadata.name.as_deref(),
        Action::CreateSecret { .. }
        | Action::EnsureChild { .. }
        | Action::CreateRevision { .. }
        | Action::DeleteRevision { .. }
        | Action::SetReplicas { .. } => None,
    }
}
