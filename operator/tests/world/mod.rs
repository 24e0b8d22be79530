//! A small cluster in memory: an API server's preconditions, a scheduler, kubelets, and gateways
//! whose clients move. Time advances by whole seconds.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use crate::story;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sluice_crds::{NotifyGatewaySpec, NotifyGatewayStatus, names};
use sluice_operator::fleet::actuator::{ActError, Actuator};
use sluice_operator::fleet::observed::{
    ChildView, Defaults, FleetView, GatewayState, GatewayView, NodeView, Observed, PodPhase,
    PodView, RevisionView, ScaleMemory, ServingState, SpecView,
};
use sluice_operator::fleet::plan::{Action, PodRef};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Seconds from a pod's creation until it is ready.
const START_SECONDS: i64 = 2;

/// The cluster; `Actuator` takes it shared, as the real one is.
pub struct World(Mutex<State>);

/// What the cluster is.
#[derive(Clone)]
pub struct State {
    pub now: Timestamp,
    pub spec: NotifyGatewaySpec,
    pub status: NotifyGatewayStatus,
    pub pods: BTreeMap<String, Body>,
    pub nodes: BTreeMap<String, NodeView>,
    pub children: Vec<ChildView>,
    pub secret: bool,
    pub revisions: Vec<RevisionView>,
    pub effects: Effects,
    /// Clients connected nowhere at this moment, for want of a pod that takes them.
    pub homeless: u64,
    /// Clients that were cut off rather than moved.
    pub cut_off: u64,
    /// Moves of clients, each of a client once.
    pub moves: u64,
    /// Nodes whose gateways do not answer the operator.
    pub silent: Vec<String>,
    /// Most moves within one second while every deadline was ours.
    pub peak: u64,
    versions: u64,
    last_mark: (u32, u64, usize),
}

/// A pod and its gateway.
#[derive(Clone)]
pub struct Body {
    pub view: PodView,
    pub clients: u64,
    state: ServingState,
    rate_milli: u64,
    deadline: Option<Timestamp>,
    owed_milli: u64,
    limits: String,
}

/// Writes that had an effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub created: u32,
    pub deleted: u32,
    pub scaled: u32,
    /// Everything, marks and labels and admin calls included.
    pub all: u32,
}

impl World {
    /// A cluster of three zones with one node each, and a fleet of which nothing exists yet.
    pub fn new(spec: NotifyGatewaySpec) -> Self {
        let nodes = [("n1", "a"), ("n2", "b"), ("n3", "c")].map(|(name, zone)| {
            let labels = [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into();
            (
                name.to_owned(),
                NodeView {
                    name: name.to_owned(),
                    labels,
                    ready: true,
                    ..NodeView::default()
                },
            )
        });
        Self(Mutex::new(State {
            now: story::NOW.parse().unwrap(),
            spec,
            status: NotifyGatewayStatus::default(),
            pods: BTreeMap::new(),
            nodes: nodes.into(),
            children: Vec::new(),
            secret: false,
            revisions: Vec::new(),
            effects: Effects::default(),
            homeless: 0,
            cut_off: 0,
            moves: 0,
            silent: Vec::new(),
            peak: 0,
            versions: 0,
            last_mark: (0, 0, 0),
        }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn cordon(&self, node: &str, cordoned: bool) {
        self.state().nodes.get_mut(node).unwrap().cordoned = cordoned;
    }

    pub fn change(&self, change: impl FnOnce(&mut NotifyGatewaySpec)) {
        change(&mut self.state().spec);
    }

    pub fn connect(&self, clients: u64) {
        let mut state = self.state();
        state.homeless += clients;
        state.settle_clients();
    }

    /// What `kubectl drain` and others do: the pod is told to end.
    pub fn evict(&self, pod: &str) {
        let mut state = self.state();
        let now = state.now;
        let version = state.version();
        let Some(body) = state.pods.get_mut(pod) else {
            return;
        };
        body.terminate(now, version);
    }

    /// What a crash does: the pod is gone at once.
    pub fn kill(&self, pod: &str) {
        let mut state = self.state();
        if let Some(body) = state.pods.remove(pod) {
            state.homeless += body.clients;
            state.settle_clients();
        }
    }

    /// One second passes.
    pub fn tick(&self) {
        self.state().tick();
    }

    pub fn observe(&self) -> Observed {
        self.state().observe()
    }
}

impl State {
    fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    pub fn observe(&self) -> Observed {
        Observed {
            fleet: FleetView {
                name: "news".to_owned(),
                namespace: "default".to_owned(),
                uid: "fleet-uid".to_owned(),
                generation: 1,
                deleted: None,
                spec: SpecView::Read(Box::new(self.spec.clone())),
                status: self.status.clone(),
            },
            defaults: Defaults {
                gateway_image: "gateway:default".to_owned(),
            },
            pods: self.pods.values().map(|body| self.view(body)).collect(),
            nodes: self.nodes.values().cloned().collect(),
            children: self.children.clone(),
            secret_present: self.secret,
            revisions: self.revisions.clone(),
            metrics: None,
            scale_memory: ScaleMemory::default(),
            drill: None,
        }
    }

    fn view(&self, body: &Body) -> PodView {
        let mut view = body.view.clone();
        let silent = view
            .node
            .as_ref()
            .is_some_and(|node| self.silent.contains(node));
        if view.container_running && !silent {
            view.gateway = GatewayView::Seen(GatewayState {
                at: self.now,
                boot_id: view.uid.clone(),
                state: body.state,
                connections: body.clients,
                moved: 0,
                rate_milli: body.rate_milli,
                deadline: body.deadline,
                limits: Some(body.limits.clone()),
            });
        }
        view
    }

    fn tick(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let now = self.now;
        let names: Vec<String> = self.pods.keys().cloned().collect();
        let before = self.moves;
        let ours = !self.pods.values().any(|body| body.view.killed_at.is_some());
        for name in names {
            self.kubelet(&name, now);
            self.drain(&name, now);
        }
        self.settle_clients();
        if ours {
            self.peak = self.peak.max(self.moves - before);
        }
        let gone = |body: &Body| {
            body.view.killed_at.is_some_and(|at| {
                at <= now || body.clients == 0 && body.state == ServingState::Closing
            })
        };
        for name in self
            .pods
            .iter()
            .filter(|(_, body)| gone(body))
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
        {
            let body = self.pods.remove(&name).unwrap();
            self.cut_off += body.clients;
            self.homeless += body.clients;
        }
        self.settle_clients();
    }

    /// Schedules and starts a pod.
    fn kubelet(&mut self, name: &str, now: Timestamp) {
        let version = self.version();
        let node = {
            let view = &self.pods[name].view;
            if view.node.is_some() {
                None
            } else {
                self.schedule(view)
            }
        };
        let body = self.pods.get_mut(name).unwrap();
        if body.view.killed_at.is_some() {
            // A pod that never ran ends at once.
            if !body.view.container_running {
                body.state = ServingState::Closing;
            }
            return;
        }
        if body.view.node.is_none() {
            let Some(node) = node else {
                body.view.unschedulable_since.get_or_insert(now);
                return;
            };
            body.view.node = Some(node);
            body.view.unschedulable_since = None;
            body.view.resource_version.clone_from(&version);
        }
        let age = now.duration_since(body.view.created).as_secs();
        if age >= START_SECONDS && !body.view.container_running {
            body.view.phase = PodPhase::Running;
            body.view.container_running = true;
            body.view.ready = true;
            body.view.resource_version = version;
        }
    }

    fn schedule(&self, view: &PodView) -> Option<String> {
        let load = |name: &str| {
            self.pods
                .values()
                .filter(|body| body.view.node.as_deref() == Some(name))
                .count()
        };
        self.nodes
            .values()
            .filter(|node| node.ready && !node.cordoned)
            .filter(|node| {
                view.zone.is_empty() || node.labels.values().any(|zone| *zone == view.zone)
            })
            .min_by_key(|node| load(&node.name))
            .map(|node| node.name.clone())
    }

    /// A gateway moves its clients at its rate, and cuts the rest off at its deadline.
    fn drain(&mut self, name: &str, now: Timestamp) {
        let body = self.pods.get_mut(name).unwrap();
        if body.state == ServingState::Serving {
            return;
        }
        let left = body
            .deadline
            .map_or(1, |deadline| deadline.duration_since(now).as_secs().max(1))
            as u64;
        let own = if body.view.killed_at.is_some() {
            body.clients * 1000 / left
        } else {
            0
        };
        body.owed_milli += body.rate_milli.max(own);
        let due = (body.owed_milli / 1000).min(body.clients);
        body.owed_milli %= 1000;
        body.clients -= due;
        self.homeless += due;
        self.moves += due;
        let body = self.pods.get_mut(name).unwrap();
        if body.deadline.is_some_and(|deadline| deadline <= now) {
            self.cut_off += body.clients;
            self.homeless += body.clients;
            self.moves += body.clients;
            body.clients = 0;
        }
    }

    /// Clients without a pod connect through the Service: to the pods that accept and are ready.
    fn settle_clients(&mut self) {
        let open = |body: &&mut Body| {
            body.view.accepting
                && body.view.ready
                && body.view.killed_at.is_none()
                && body.state == ServingState::Serving
        };
        let most = self.spec.max_connections_per_pod as u64;
        while self.homeless > 0 {
            let mut pods: Vec<_> = self
                .pods
                .values_mut()
                .filter(open)
                .filter(|body| body.clients < most)
                .collect();
            if pods.is_empty() {
                return;
            }
            let share = (self.homeless / pods.len() as u64).max(1);
            for body in &mut pods {
                let some = share.min(self.homeless).min(most - body.clients);
                body.clients += some;
                self.homeless -= some;
            }
        }
    }

    /// Whether nothing was written and nobody moved since the last time this was asked.
    pub fn rests(&mut self) -> bool {
        let mark = (self.effects.all, self.moves, self.pods.len());
        std::mem::replace(&mut self.last_mark, mark) == mark
    }

    pub fn clients(&self) -> u64 {
        self.homeless + self.pods.values().map(|body| body.clients).sum::<u64>()
    }

    /// Everything that must be the same in the end, whatever happened on the way.
    pub fn summary(&self) -> Value {
        let mut zones: BTreeMap<String, u32> = BTreeMap::new();
        for body in self.pods.values() {
            *zones
                .entry(body.view.node.clone().unwrap_or_default())
                .or_default() += 1;
        }
        json!({
            "pods": self.pods.len(),
            "nodes": zones,
            "accepting": self.pods.values().filter(|body| body.view.accepting).count(),
            "marked": self.pods.values().filter(|body| body.view.drain.is_some()).count(),
            "limits": self.pods.values().map(|body| body.limits.clone()).collect::<std::collections::BTreeSet<_>>(),
            "draining": self.pods.values().filter(|body| body.state != ServingState::Serving).count(),
            "revisions": self.pods.values().map(|body| body.view.revision.clone()).collect::<std::collections::BTreeSet<_>>(),
            "clients": self.clients(),
            "homeless": self.homeless,
            "replicas": self.spec.replicas,
        })
    }

    /// The pod a write means, if it is still the one that was seen.
    fn exact(&mut self, pod: &PodRef) -> Result<&mut Body, ActError> {
        self.pods
            .get_mut(&pod.name)
            .filter(|body| {
                body.view.uid == pod.uid && body.view.resource_version == pod.resource_version
            })
            .ok_or_else(|| ActError::Conflict {
                what: pod.name.clone(),
            })
    }

    /// The gateway an admin call reaches.
    fn gateway(&mut self, pod: &PodRef) -> Result<&mut Body, ActError> {
        let silent = self.silent.clone();
        self.pods
            .get_mut(&pod.name)
            .filter(|body| body.view.uid == pod.uid && body.view.container_running)
            .filter(|body| {
                !body
                    .view
                    .node
                    .as_ref()
                    .is_some_and(|node| silent.contains(node))
            })
            .ok_or_else(|| ActError::Failed {
                what: pod.name.clone(),
                why: "no answer".to_owned(),
            })
    }

    fn create(&mut self, slot: u32, zone: &str, revision: &str, object: &Pod) {
        let name = object.metadata.name.clone().unwrap();
        if self.pods.contains_key(&name) {
            return;
        }
        self.effects.created += 1;
        let version = self.version();
        let view = PodView {
            uid: format!("uid-{version}"),
            name: name.clone(),
            resource_version: version,
            created: self.now,
            slot: Some(slot),
            revision: revision.to_owned(),
            zone: zone.to_owned(),
            node: None,
            phase: PodPhase::Pending,
            container_running: false,
            ready: false,
            unschedulable_since: None,
            killed_at: None,
            accepting: object
                .metadata
                .labels
                .as_ref()
                .unwrap()
                .contains_key(names::LABEL_ACCEPTING),
            drain: None,
            gateway: GatewayView::Unseen,
        };
        let body = Body {
            view,
            clients: 0,
            state: ServingState::Serving,
            rate_milli: 0,
            deadline: None,
            owed_milli: 0,
            limits: started_with(object),
        };
        self.pods.insert(name, body);
    }

    /// Carries out one action; breaking a promise panics.
    fn act(&mut self, action: &Action) -> Result<(), ActError> {
        let version = self.version();
        let now = self.now;
        match action {
            Action::CreateSecret { .. } => self.secret = true,
            Action::EnsureChild { kind, object, .. } => {
                self.children.retain(|child| child.kind != *kind);
                self.children.push(ChildView {
                    kind: *kind,
                    object: object.clone(),
                });
            }
            Action::CreateRevision { object } => {
                let name = object.metadata.name.clone().unwrap();
                if !self.revisions.iter().any(|view| view.name == name) {
                    self.revisions.push(RevisionView {
                        hash: object.metadata.labels.as_ref().unwrap()[names::LABEL_REVISION]
                            .clone(),
                        number: object.revision,
                        data: serde_json::from_value(object.data.clone().unwrap().0).ok(),
                        name,
                    });
                }
            }
            Action::CancelDrain { pod } => {
                self.exact(pod)?;
                let body = self.gateway(pod)?;
                body.state = ServingState::Serving;
                body.rate_milli = 0;
                body.deadline = None;
                let body = self.exact(pod)?;
                body.view.drain = None;
                body.view.accepting = true;
                body.view.resource_version = version;
            }
            Action::SetAccepting { pod, accepting } => {
                let body = self.exact(pod)?;
                body.view.accepting = *accepting;
                body.view.resource_version = version;
            }
            Action::CreatePod {
                slot,
                zone,
                revision,
                object,
            } => self.create(*slot, zone, revision, object),
            Action::MarkDraining { pod, mark } => {
                let body = self.exact(pod)?;
                body.view.drain = Some(mark.clone());
                body.view.accepting = false;
                body.view.resource_version = version;
            }
            Action::StartDrain {
                pod,
                rate_milli,
                deadline,
                ..
            } => {
                let body = self.gateway(pod)?;
                if body.state == ServingState::Serving {
                    body.state = ServingState::Draining;
                }
                body.rate_milli = *rate_milli;
                body.deadline = Some(*deadline);
            }
            Action::SetLimits {
                pod, generation, ..
            } => self.gateway(pod)?.limits.clone_from(generation),
            Action::DeletePod { pod, .. } => {
                let body = self.exact(pod)?;
                if body.view.killed_at.is_none() {
                    let passed = body
                        .view
                        .drain
                        .as_ref()
                        .is_some_and(|mark| mark.deadline <= now);
                    assert!(
                        body.clients == 0 || passed,
                        "{} is deleted with {} clients",
                        pod.name,
                        body.clients
                    );
                    body.terminate(now, version);
                    self.effects.deleted += 1;
                }
            }
            Action::DeleteRevision { name } => self.revisions.retain(|view| view.name != *name),
            Action::SetReplicas { from, to } => {
                if self.spec.replicas != from.cast_signed() {
                    return Err(ActError::Conflict {
                        what: "replicas".to_owned(),
                    });
                }
                self.spec.replicas = to.cast_signed();
                self.effects.scaled += 1;
            }
        }
        self.effects.all += 1;
        Ok(())
    }
}

/// What a pod's command line calls its thresholds.
fn started_with(pod: &Pod) -> String {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let args = containers[0].args.iter().flatten();
    let mut named = args.filter_map(|arg| arg.strip_prefix("--limits-generation="));
    named.next().unwrap().to_owned()
}

impl Body {
    fn terminate(&mut self, now: Timestamp, version: String) {
        self.view.killed_at = Some(now + SignedDuration::from_secs(90));
        self.view.resource_version = version;
        self.state = ServingState::Closing;
        self.deadline
            .get_or_insert(now + SignedDuration::from_secs(80));
    }
}

impl Actuator for World {
    fn act(&self, action: &Action) -> impl Future<Output = Result<(), ActError>> + Send {
        std::future::ready(self.state().act(action))
    }
}
