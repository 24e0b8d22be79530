//! Who goes, when, and how fast (pure).
//!
//! A pod may be chosen to go once its place is taken (as many ready pods as wanted remain), its
//! clients have somewhere to go, and its drain and all running ones fit the reconnect budget.
//! It is deleted when it is empty or its deadline has passed, never before.

use super::action::{Action, DeleteReason, Plan, PlannedEvent, Wait};
use super::census::{Census, Member, Stage};
use super::drains::{Drain, drains};
use super::gate::Gate;
use super::roster::{Roster, same};
use super::settled::Settled;
use crate::fleet::observed::{DrainMark, DrainReason};
use crate::fleet::pacing;
use crate::limits;
use jiff::Timestamp;
use std::cmp::Reverse;

/// Pods on their way.
pub struct Departures<'a, 'c> {
    /// Pods to be chosen now, or whose mark changes.
    marks: Vec<(&'c Member<'a>, DrainMark)>,
    /// Drains that run, with the rate each should have.
    drains: Vec<Drain<'a, 'c>>,
    /// Pods to delete.
    deletes: Vec<(&'c Member<'a>, DeleteReason)>,
    /// Pods that should go and must wait.
    pub waits: Vec<Wait>,
}

impl<'a, 'c> Departures<'a, 'c> {
    /// Arranges who goes when.
    pub fn arrange(settled: &Settled<'_>, census: &'c Census<'a>, roster: &Roster<'a, 'c>) -> Self {
        let mut departures = Self {
            marks: Vec::new(),
            drains: drains(settled, census, roster),
            deletes: Vec::new(),
            waits: Vec::new(),
        };
        departures.choose_deletes(settled, census, roster);
        departures.keep_marks_true(settled, census, roster);
        departures.choose_marks(settled, census, roster);
        departures
    }

    /// Sum of the rates given, thousandths per second.
    pub fn rate_in_use(&self) -> u64 {
        self.drains
            .iter()
            .filter(|drain| drain.load.remaining > 0)
            .map(|drain| drain.rate_milli)
            .sum()
    }

    /// Whether a pod is written by a mark or a delete: one write per pod and plan, because each
    /// carries the resourceVersion that was seen.
    pub fn writes(&self, member: &Member<'_>) -> bool {
        let marked = self.marks.iter().map(|(other, _)| *other);
        let deleted = self.deletes.iter().map(|(other, _)| *other);
        marked.chain(deleted).any(|other| same(other, member))
    }

    /// Whether a pod is deleted now.
    pub fn deletes(&self, member: &Member<'_>) -> bool {
        self.deletes.iter().any(|(other, _)| same(other, member))
    }

    /// Writes marks.
    pub fn mark(&self, plan: &mut Plan) {
        for (member, mark) in &self.marks {
            if !matches!(member.stage, Stage::Marked(_)) {
                plan.events.push(PlannedEvent {
                    warning: false,
                    reason: "Draining".to_owned(),
                    note: format!("{} goes: {}", member.pod.name, mark.reason.as_str()),
                });
            }
            plan.actions.push(Action::MarkDraining {
                pod: member.reference(),
                mark: mark.clone(),
            });
        }
    }

    /// Tells gateways their rates: lower ones first, so that the sum is never above the budget.
    pub fn pace(&self, settled: &Settled<'_>, plan: &mut Plan) {
        let mut changed: Vec<_> = self
            .drains
            .iter()
            .filter(|drain| drain.is_news(settled.now))
            .collect();
        changed.sort_by_key(|drain| drain.rate_milli > drain.load.current_milli);
        plan.actions
            .extend(changed.into_iter().map(|drain| Action::StartDrain {
                pod: drain.member.reference(),
                reason: drain.reason,
                rate_milli: drain.rate_milli,
                deadline: drain.load.deadline,
            }));
    }

    /// Deletes what is done.
    pub fn delete(&self, plan: &mut Plan) {
        for (member, reason) in &self.deletes {
            let late = *reason == DeleteReason::DeadlinePassed;
            plan.events.push(PlannedEvent {
                warning: late,
                reason: "PodDeleted".to_owned(),
                note: format!("{}: {}", member.pod.name, why_deleted(*reason)),
            });
            plan.actions.push(Action::DeletePod {
                pod: member.reference(),
                reason: *reason,
            });
        }
    }

    fn choose_deletes(
        &mut self,
        settled: &Settled<'_>,
        census: &'c Census<'a>,
        roster: &Roster<'a, 'c>,
    ) {
        let patience = limits::DEADLINE_TOLERANCE;
        for member in &census.members {
            let idle = !member.pod.container_running;
            let surplus = roster.surplus.iter().any(|other| same(other, member));
            let reason = match member.stage {
                Stage::Finished => Some(DeleteReason::Finished),
                Stage::Marked(_) if roster.taken_back.iter().any(|other| same(other, member)) => {
                    None
                }
                Stage::Marked(_) if idle => Some(DeleteReason::NotRunning),
                Stage::Marked(_) if member.is_empty() => Some(DeleteReason::Drained),
                Stage::Marked(mark) if settled.now.duration_since(mark.deadline) >= patience => {
                    Some(DeleteReason::DeadlinePassed)
                }
                // Nobody is connected to these, so there is nothing to drain.
                Stage::Staying if idle && (member.doomed || member.stuck) => {
                    Some(DeleteReason::NotRunning)
                }
                Stage::Staying if idle && surplus && may_go(settled, member) => {
                    Some(DeleteReason::NotRunning)
                }
                Stage::Terminating(_) | Stage::Marked(_) | Stage::Staying => None,
            };
            self.deletes.extend(reason.map(|reason| (member, reason)));
        }
    }

    /// Marks that say something else than what is true now: the reason has passed but another
    /// holds, the budget needs longer, or someone put `accepting` back.
    fn keep_marks_true(
        &mut self,
        settled: &Settled<'_>,
        census: &'c Census<'a>,
        roster: &Roster<'a, 'c>,
    ) {
        let total: u64 = self.drains.iter().map(|drain| drain.load.remaining).sum();
        for member in &census.members {
            let Stage::Marked(mark) = member.stage else {
                continue;
            };
            let stays = roster.taken_back.iter().any(|other| same(other, member));
            let deleted = self.deletes.iter().any(|(other, _)| same(other, member));
            if stays || deleted {
                continue;
            }
            let mut truth = mark.clone();
            if roster.surplus.iter().any(|other| same(other, member)) {
                truth.reason = DrainReason::ScaleIn;
            }
            let drain = self
                .drains
                .iter_mut()
                .find(|drain| same(drain.member, member));
            if let Some(drain) = drain.filter(|drain| drain.is_starved(settled.now)) {
                let later =
                    with_stragglers(pacing::reachable(total, settled.budget_milli, settled.now));
                truth.deadline = truth.deadline.max(later);
                drain.load.deadline = truth.deadline;
            }
            if truth != *mark || member.pod.accepting {
                self.marks.push((member, truth));
            }
        }
    }

    fn choose_marks(
        &mut self,
        settled: &Settled<'_>,
        census: &'c Census<'a>,
        roster: &Roster<'a, 'c>,
    ) {
        let mut gate = Gate::of(settled, census, roster, &self.drains);
        for (member, reason) in candidates(settled, census, roster) {
            match gate.admit(settled, member) {
                Ok(deadline) => self.marks.push((
                    member,
                    DrainMark {
                        reason,
                        since: settled.now,
                        deadline,
                    },
                )),
                Err(why) => self.waits.push(Wait {
                    what: format!("{} of {}", reason.as_str(), member.pod.name),
                    why,
                }),
            }
        }
    }
}

fn why_deleted(reason: DeleteReason) -> &'static str {
    match reason {
        DeleteReason::Drained => "its clients have moved",
        DeleteReason::DeadlinePassed => {
            "its drain deadline passed; clients still there are cut off"
        }
        DeleteReason::NotRunning => "it serves nobody",
        DeleteReason::Finished => "its containers have exited",
    }
}

fn with_stragglers(deadline: Timestamp) -> Timestamp {
    deadline
        .saturating_add(limits::STRAGGLER_TIME)
        .unwrap_or(deadline)
}

/// Whether a surplus pod may go at all now.
fn may_go(settled: &Settled<'_>, member: &Member<'_>) -> bool {
    settled.may_begin(if member.outdated {
        DrainReason::Rollout
    } else {
        DrainReason::ScaleIn
    })
}

/// Staying pods that should go, most urgent first.
fn candidates<'a, 'c>(
    settled: &Settled<'_>,
    census: &'c Census<'a>,
    roster: &Roster<'a, 'c>,
) -> Vec<(&'c Member<'a>, DrainReason)> {
    let running =
        |member: &&Member<'_>| member.stage == Stage::Staying && member.pod.container_running;
    let mut doomed: Vec<_> = census
        .members
        .iter()
        .filter(running)
        .filter(|member| member.doomed)
        .collect();
    doomed.sort_by_key(|member| (Reverse(member.connections()), member.pod.slot));
    let surplus = roster
        .surplus
        .iter()
        .copied()
        .filter(running)
        .filter(|member| may_go(settled, member));
    doomed
        .into_iter()
        .map(|member| (member, DrainReason::NodeDrain))
        .chain(surplus.map(|member| {
            let reason = if member.outdated {
                DrainReason::Rollout
            } else {
                DrainReason::ScaleIn
            };
            (member, reason)
        }))
        .collect()
}
