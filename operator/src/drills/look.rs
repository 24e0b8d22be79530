//! A fleet as a drill sees it (pure): whether it is quiet, whole again, or has something more
//! important to do.

use crate::fleet::observed::{DrainReason, FleetView, PodPhase, PodView, SpecView};

/// A fleet at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLook {
    /// Whether the fleet is being deleted.
    pub deleting: bool,
    /// Whether its status was made from its current spec.
    pub status_current: bool,
    /// Whether every pod is of the current revision.
    pub rolled_out: bool,
    /// Pods wanted.
    pub desired: u32,
    /// Its pods, finished ones aside.
    pub pods: Vec<PodLook>,
    /// Clients connected, as the gateways say.
    pub connections: u64,
    /// The Prometheus it scales on.
    pub prometheus: Option<String>,
}

/// A pod at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLook {
    /// metadata.name
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Why it is chosen to go, if it is.
    pub drain: Option<DrainReason>,
}

impl FleetLook {
    /// The fleet from what was observed of it; `None` when its spec cannot be read.
    pub fn of(fleet: &FleetView, pods: &[PodView], connections: u64) -> Option<Self> {
        let SpecView::Read(spec) = &fleet.spec else {
            return None;
        };
        let status = &fleet.status;
        let current = status.current_revision.as_deref();
        let pods: Vec<_> = pods
            .iter()
            .filter(|pod| !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed))
            .collect();
        Some(Self {
            deleting: fleet.deleted.is_some(),
            status_current: status.observed_generation == Some(fleet.generation),
            rolled_out: status.current_revision == status.stable_revision
                && pods
                    .iter()
                    .all(|pod| Some(pod.revision.as_str()) == current),
            desired: u32::try_from(spec.replicas).unwrap_or(0),
            pods: pods.into_iter().map(PodLook::of).collect(),
            connections,
            prometheus: spec
                .scaling
                .as_ref()
                .map(|scaling| scaling.prometheus.url.clone()),
        })
    }

    /// Ready pods that stay.
    pub fn ready(&self) -> usize {
        let stays = |pod: &&PodLook| pod.ready && !pod.terminating && pod.drain.is_none();
        self.pods.iter().filter(stays).count()
    }

    /// The pod with a UID.
    pub fn pod(&self, uid: &str) -> Option<&PodLook> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }
}

impl PodLook {
    fn of(pod: &PodView) -> Self {
        Self {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ready: pod.ready,
            terminating: pod.killed_at.is_some(),
            drain: pod.drain.as_ref().map(|mark| mark.reason),
        }
    }
}

/// What keeps a fleet from being quiet and whole, as the end of a sentence.
pub fn disturbance(fleet: Option<&FleetLook>) -> Option<String> {
    let Some(fleet) = fleet else {
        return Some("there is no such NotifyGateway, or its spec cannot be read".to_owned());
    };
    if let Some(why) = gives_way(Some(fleet)) {
        return Some(why);
    }
    if !fleet.status_current {
        return Some("its spec was just changed".to_owned());
    }
    if let Some(pod) = fleet
        .pods
        .iter()
        .find(|p| p.terminating || p.drain.is_some())
    {
        return Some(format!("pod {} is going", pod.name));
    }
    let (ready, desired) = (fleet.ready(), fleet.desired as usize);
    (ready != desired || fleet.pods.len() != desired)
        .then(|| format!("{ready} of {desired} pods are ready"))
}

/// What is more important than a drill, as the end of a sentence. Losing and replacing pods is not:
/// that is what drills are for.
pub fn gives_way(fleet: Option<&FleetLook>) -> Option<String> {
    let Some(fleet) = fleet else {
        return Some("the fleet is gone".to_owned());
    };
    if fleet.deleting {
        return Some("the fleet is being deleted".to_owned());
    }
    if !fleet.rolled_out {
        return Some("a rollout is going on".to_owned());
    }
    let by_order = |pod: &&PodLook| {
        matches!(
            pod.drain,
            Some(DrainReason::NodeDrain | DrainReason::Rollout | DrainReason::ScaleIn)
        )
    };
    fleet
        .pods
        .iter()
        .find(by_order)
        .map(|pod| format!("pod {} is being drained", pod.name))
}
