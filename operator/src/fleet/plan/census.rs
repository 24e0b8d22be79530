//! Every pod of the fleet, sorted by what it is to the plan (pure).

use super::settled::Settled;
use crate::fleet::observed::{
    DrainMark, GatewayState, GatewayView, PodPhase, PodView, ServingState,
};
use crate::fleet::plan::PodRef;
use crate::limits;
use jiff::Timestamp;

/// All pods.
pub struct Census<'a> {
    /// In the order of their names.
    pub members: Vec<Member<'a>>,
}

/// One pod.
pub struct Member<'a> {
    /// As it was seen.
    pub pod: &'a PodView,
    /// Where it is with respect to leaving.
    pub stage: Stage<'a>,
    /// Zone it is in or meant for.
    pub zone: String,
    /// Whether its node goes away.
    pub doomed: bool,
    /// Whether it is of another revision than new pods are.
    pub outdated: bool,
    /// Whether it waits in vain for room in its zone.
    pub stuck: bool,
    /// What its gateway said, if lately enough.
    pub gateway: Option<&'a GatewayState>,
}

/// Where a pod is with respect to leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Its containers have exited for good.
    Finished,
    /// It is being deleted and killed at this moment.
    Terminating(Timestamp),
    /// It was chosen to go.
    Marked(&'a DrainMark),
    /// None of these.
    Staying,
}

impl<'a> Census<'a> {
    /// Sorts the pods.
    pub fn take(settled: &Settled<'a>) -> Self {
        let mut members: Vec<_> = settled
            .observed
            .pods
            .iter()
            .map(|pod| Member::of(settled, pod))
            .collect();
        members.sort_by(|a, b| (a.pod.slot, &a.pod.name).cmp(&(b.pod.slot, &b.pod.name)));
        Self { members }
    }

    /// Pods that were not chosen to go.
    pub fn staying(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members
            .iter()
            .filter(|member| member.stage == Stage::Staying)
    }

    /// Pods whose clients are on the move.
    pub fn going(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| match member.stage {
            Stage::Marked(_) => true,
            Stage::Terminating(_) => !member.is_empty(),
            Stage::Finished | Stage::Staying => false,
        })
    }
}

impl<'a> Member<'a> {
    fn of(settled: &Settled<'_>, pod: &'a PodView) -> Self {
        let stage = match (&pod.killed_at, pod.phase, &pod.drain) {
            (Some(at), _, _) => Stage::Terminating(*at),
            (None, PodPhase::Succeeded | PodPhase::Failed, _) => Stage::Finished,
            (None, _, Some(mark)) => Stage::Marked(mark),
            (None, _, None) => Stage::Staying,
        };
        let fresh = |state: &&GatewayState| {
            settled.now.duration_since(state.at) <= limits::GATEWAY_STALE_AFTER
        };
        let waited = pod.unschedulable_since.is_some_and(|since| {
            settled.now.duration_since(since) >= limits::UNSCHEDULABLE_PATIENCE
        });
        Self {
            pod,
            stage,
            zone: settled.landscape.zone_of(pod),
            doomed: settled.landscape.is_doomed(pod),
            outdated: pod.revision != settled.hash,
            // A pod that may run anywhere has nowhere else to wait.
            stuck: waited && pod.node.is_none() && !pod.zone.is_empty(),
            gateway: match &pod.gateway {
                GatewayView::Seen(state) => Some(state).filter(fresh),
                GatewayView::Unseen => None,
            },
        }
    }

    /// How writes name it.
    pub fn reference(&self) -> PodRef {
        PodRef {
            name: self.pod.name.clone(),
            uid: self.pod.uid.clone(),
            resource_version: self.pod.resource_version.clone(),
        }
    }

    /// Clients connected; nothing when that is not known.
    pub fn connections(&self) -> Option<u64> {
        if self.pod.container_running {
            self.gateway.map(|state| state.connections)
        } else {
            Some(0)
        }
    }

    /// Clients connected, or as many as a pod may hold when that is not known.
    pub fn connections_at_most(&self, settled: &Settled<'_>) -> u64 {
        self.connections().unwrap_or_else(|| settled.capacity())
    }

    /// Whether it has no clients and gets none any more.
    pub fn is_empty(&self) -> bool {
        !self.pod.container_running
            || self
                .gateway
                .is_some_and(|state| state.connections == 0 && state.state != ServingState::Serving)
    }

    /// Clients it can still take; none when nothing is known of it.
    pub fn room(&self, settled: &Settled<'_>) -> u64 {
        let serving = self.gateway.filter(|_| self.pod.ready);
        serving.map_or(0, |state| {
            settled.planned_fill.saturating_sub(state.connections)
        })
    }
}
