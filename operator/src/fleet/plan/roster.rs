//! Who stays, who is taken back, who is surplus and who is new (pure).
//!
//! The pool is every pod that could be part of the fleet to come: pods that stay, and pods chosen to
//! go whose reason has passed (a node uncordoned, a scale-in undone). What the pool lacks is
//! created; what it has too much becomes surplus.

use super::action::{Action, Plan, PlannedEvent};
use super::census::{Census, Member, Stage};
use super::departures::Departures;
use super::settled::Settled;
use crate::fleet::observed::{DrainReason, ServingState};
use crate::fleet::placement::free_slots;
use crate::fleet::render::pod::{Wanted, pod};
use crate::limits;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The fleet to come.
pub struct Roster<'a, 'c> {
    /// Pods of the pool that are too many, in the order they should go.
    pub surplus: Vec<&'c Member<'a>>,
    /// Pods chosen to go that stay after all.
    pub taken_back: Vec<&'c Member<'a>>,
    /// Pods that stay, and whether each takes new clients.
    pub accepting: Vec<(&'c Member<'a>, bool)>,
    /// Zones of the pods to create, in order.
    pub new_zones: Vec<String>,
    slots: Vec<u32>,
}

impl<'a, 'c> Roster<'a, 'c> {
    /// Draws up the fleet to come.
    pub fn draw_up(settled: &Settled<'_>, census: &'c Census<'a>) -> Self {
        let pool: Vec<_> = census
            .members
            .iter()
            .filter(|member| in_pool(member))
            .collect();
        let surplus = surplus(settled, &pool);
        let is_surplus = |member: &Member<'_>| surplus.iter().any(|other| same(other, member));
        // A gateway that drains without a mark was left so by someone who is not there any more.
        let drains = |member: &Member<'_>| match member.stage {
            Stage::Marked(_) => true,
            _ => member
                .gateway
                .is_some_and(|state| state.state == ServingState::Draining),
        };
        let taken_back: Vec<_> = pool
            .iter()
            .copied()
            .filter(|member| drains(member) && !is_surplus(member))
            .filter(|member| !(member.outdated && settled.may_begin(DrainReason::Rollout)))
            .collect();
        let create = missing(settled, census, &pool);
        Self {
            accepting: accepting(settled, census, &surplus),
            new_zones: zones(settled, census, &pool, &surplus, create),
            slots: {
                let taken = census
                    .members
                    .iter()
                    .filter_map(|member| member.pod.slot)
                    .collect();
                free_slots(&taken).take(create).collect()
            },
            surplus,
            taken_back,
        }
    }

    /// Take-backs, and the switch for new clients of pods that nothing else is written to.
    pub fn keep(&self, departures: &Departures<'_, '_>, plan: &mut Plan) {
        for member in &self.taken_back {
            plan.actions.push(Action::CancelDrain {
                pod: member.reference(),
            });
            plan.events.push(PlannedEvent {
                warning: false,
                reason: "DrainCancelled".to_owned(),
                note: format!("{} is wanted again and keeps its clients", member.pod.name),
            });
        }
        // On before off, so that there is always someone to take clients.
        let mut changes: Vec<_> = self
            .accepting
            .iter()
            .filter(|(member, accepting)| member.pod.accepting != *accepting)
            .filter(|(member, _)| !departures.writes(member))
            .filter(|(member, _)| !self.taken_back.iter().any(|other| same(other, member)))
            .collect();
        changes.sort_by_key(|(_, accepting)| !accepting);
        plan.actions.extend(
            changes
                .into_iter()
                .map(|(member, accepting)| Action::SetAccepting {
                    pod: member.reference(),
                    accepting: *accepting,
                }),
        );
    }

    /// New pods.
    pub fn create(&self, settled: &Settled<'_>, plan: &mut Plan) {
        for (slot, zone) in self.slots.iter().zip(&self.new_zones) {
            let wanted = Wanted {
                slot: *slot,
                zone,
                hash: &settled.hash,
                revision: &settled.revision,
                tuning: &settled.tuning,
                rate_per_second: settled.spec.reconnect_budget.rate_per_second,
            };
            // That a pod can be rendered was checked with the spec.
            let Ok(object) = pod(settled.fleet, &wanted) else {
                continue;
            };
            plan.events.push(PlannedEvent {
                warning: false,
                reason: "PodCreated".to_owned(),
                note: format!("{}-{slot} of revision {}", settled.fleet.name, settled.hash),
            });
            plan.actions.push(Action::CreatePod {
                slot: *slot,
                zone: zone.clone(),
                revision: settled.hash.clone(),
                object: Box::new(object),
            });
        }
    }
}

/// Whether two members are the same pod.
pub fn same(a: &Member<'_>, b: &Member<'_>) -> bool {
    a.pod.uid == b.pod.uid
}

/// Whether a pod could be part of the fleet to come.
fn in_pool(member: &Member<'_>) -> bool {
    match member.stage {
        Stage::Staying => !member.doomed && !member.stuck,
        Stage::Marked(_) => !member.doomed && !member.outdated && member.pod.container_running,
        Stage::Finished | Stage::Terminating(_) => false,
    }
}

/// Chooses the pods that are too many: of an old revision first, then those that serve nobody yet,
/// then from the fullest zone the one already chosen or with the fewest clients.
fn surplus<'a, 'c>(settled: &Settled<'_>, pool: &[&'c Member<'a>]) -> Vec<&'c Member<'a>> {
    let mut left = pool.to_vec();
    let mut chosen = Vec::new();
    while left.len() > settled.wanted as usize {
        let mut crowd: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &left {
            *crowd.entry(&member.zone).or_default() += 1;
        }
        let worst = left.iter().enumerate().min_by_key(|(_, member)| {
            (
                !member.outdated,
                member.pod.ready,
                Reverse(crowd.get(member.zone.as_str()).copied()),
                !is_scale_in(member),
                member.connections().unwrap_or(u64::MAX),
                Reverse(member.pod.slot),
            )
        });
        let Some((index, _)) = worst else { break };
        chosen.push(left.remove(index));
    }
    chosen
}

fn is_scale_in(member: &Member<'_>) -> bool {
    matches!(member.stage, Stage::Marked(mark) if mark.reason == DrainReason::ScaleIn)
}

/// How many pods to create: what the pool lacks, and for a rollout as many on top as allowed.
fn missing(settled: &Settled<'_>, census: &Census<'_>, pool: &[&Member<'_>]) -> usize {
    let wanted = settled.wanted as usize;
    let lacking = wanted.saturating_sub(pool.len());
    let outdated = pool.iter().filter(|member| member.outdated).count();
    let mut create = lacking;
    if outdated > 0 && settled.may_begin(DrainReason::Rollout) {
        let leaving = census
            .members
            .iter()
            .filter(|member| {
                matches!(member.stage, Stage::Marked(_)) && member.outdated && !member.doomed
            })
            .count();
        let most = wanted + settled.spec.rollout.max_surge.max(1) as usize;
        let room = most.saturating_sub(pool.len() + leaving + lacking);
        let new = pool.len() - outdated + lacking;
        create += room.min(wanted.saturating_sub(new));
    }
    create.min(limits::CREATES_PER_PLAN)
}

/// A zone for each new pod: the emptiest of those with room.
fn zones(
    settled: &Settled<'_>,
    census: &Census<'_>,
    pool: &[&Member<'_>],
    surplus: &[&Member<'_>],
    create: usize,
) -> Vec<String> {
    let full: BTreeSet<String> = census
        .members
        .iter()
        .filter(|member| member.stuck)
        .map(|member| member.zone.clone())
        .collect();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for member in pool {
        if !surplus.iter().any(|other| same(other, member)) {
            *taken.entry(member.zone.clone()).or_default() += 1;
        }
    }
    (0..create)
        .map(|_| {
            let zone = settled.landscape.next_zone(&taken, &full);
            *taken.entry(zone.clone()).or_default() += 1;
            zone
        })
        .collect()
}

/// Which of the staying pods take new clients: those that will be there tomorrow, as soon as they
/// have room for everyone who is about to move; until then all of them. A client that moved once is
/// then not moved again by the same disruption.
fn accepting<'a, 'c>(
    settled: &Settled<'_>,
    census: &'c Census<'a>,
    surplus: &[&'c Member<'a>],
) -> Vec<(&'c Member<'a>, bool)> {
    let may_roll_out = settled.may_begin(DrainReason::Rollout);
    let keeper = |member: &Member<'_>| {
        let chosen = surplus.iter().any(|other| same(other, member));
        !member.doomed && !member.stuck && !(may_roll_out && (member.outdated || chosen))
    };
    let leaving: u64 = census
        .staying()
        .filter(|member| !keeper(member))
        .map(|member| member.connections_at_most(settled))
        .max()
        .unwrap_or(0);
    let moving: u64 = census
        .going()
        .map(|member| member.connections_at_most(settled))
        .sum();
    let ready = census
        .staying()
        .filter(|member| keeper(member) && member.pod.ready);
    let (count, room) = ready.fold((0, 0u64), |(count, room), member| {
        (count + 1, room + member.room(settled))
    });
    let enough = count > 0 && room >= leaving.saturating_add(moving);
    census
        .staying()
        .map(|member| (member, keeper(member) || !enough))
        .collect()
}
