//! Gateways whose thresholds are not those of the spec (pure).

use super::action::{Action, Plan, PlannedEvent};
use super::census::Census;
use super::departures::Departures;
use super::settled::Settled;
use crate::limits;

/// Tells every gateway that stays and answers. One that names no thresholds is of a version that knows none, and one that
/// goes lets nobody in any more.
pub fn tell(
    settled: &Settled<'_>,
    census: &Census<'_>,
    departures: &Departures<'_, '_>,
    plan: &mut Plan,
) {
    let wanted = settled.tuning.generation();
    let mut told = Vec::new();
    for member in census.staying() {
        let has = member.gateway.and_then(|state| state.limits.as_deref());
        if has.is_none_or(|has| has == wanted) || departures.deletes(member) {
            continue;
        }
        told.push(member.pod.name.as_str());
        plan.actions.push(Action::SetLimits {
            pod: member.reference(),
            generation: wanted.clone(),
            limits: Box::new(settled.tuning.clone()),
        });
    }
    if !told.is_empty() {
        let note = format!("limits {wanted} without a restart: {}", told.join(", "));
        plan.events.push(PlannedEvent {
            warning: false,
            reason: "LimitsChanged".to_owned(),
            note: note.chars().take(limits::EVENT_NOTE_CHARS).collect(),
        });
    }
}
