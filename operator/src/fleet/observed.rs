//! What was seen of a fleet at one moment (pure data): the whole input of `plan`, plain enough to
//! be kept, printed and replayed.

use super::revision::Template;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use sluice_crds::{NotifyGatewaySpec, NotifyGatewayStatus};
use std::collections::BTreeMap;

/// Everything a plan is made from, but for the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The `NotifyGateway` itself.
    pub fleet: FleetView,
    /// The operator's own settings that reach pods.
    pub defaults: Defaults,
    /// Every pod that carries the fleet's label and is owned by it.
    #[serde(default)]
    pub pods: Vec<PodView>,
    /// Every node of the cluster.
    #[serde(default)]
    pub nodes: Vec<NodeView>,
    /// The fleet's Services and PDB that exist.
    #[serde(default)]
    pub children: Vec<ChildView>,
    /// Whether the fleet Secret exists with all its keys.
    #[serde(default)]
    pub secret_present: bool,
    /// The fleet's `ControllerRevision`s.
    #[serde(default)]
    pub revisions: Vec<RevisionView>,
    /// The last look at the scaling metrics; absent when there was none yet.
    #[serde(default)]
    pub metrics: Option<MetricsView>,
    /// What the scaler remembers.
    #[serde(default)]
    pub scale_memory: ScaleMemory,
    /// Name of the experiment that is running against the fleet.
    #[serde(default)]
    pub drill: Option<String>,
}

/// The `NotifyGateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetView {
    /// metadata.name
    pub name: String,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.uid
    pub uid: String,
    /// metadata.generation
    pub generation: i64,
    /// Since when it is being deleted.
    #[serde(default)]
    pub deleted: Option<Timestamp>,
    /// The spec, or why it cannot be read.
    pub spec: SpecView,
    /// The status as last written.
    #[serde(default)]
    pub status: NotifyGatewayStatus,
}

/// A spec that may not be readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpecView {
    /// It was read.
    Read(Box<NotifyGatewaySpec>),
    /// It was not, with the reason.
    Unreadable(String),
}

/// The operator's own settings that reach pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Image for fleets that name none.
    pub gateway_image: String,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// metadata.name
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// metadata.resourceVersion
    pub resource_version: String,
    /// metadata.creationTimestamp
    pub created: Timestamp,
    /// Slot from its label; absent when the label is missing or no number.
    pub slot: Option<u32>,
    /// Revision hash from its label.
    pub revision: String,
    /// Zone it was meant for, from its label; empty when none.
    #[serde(default)]
    pub zone: String,
    /// Node it runs on.
    #[serde(default)]
    pub node: Option<String>,
    /// status.phase
    pub phase: PodPhase,
    /// Whether its gateway container runs at this moment. One that does not has no clients.
    #[serde(default)]
    pub container_running: bool,
    /// Whether the condition `Ready` is true.
    #[serde(default)]
    pub ready: bool,
    /// Since when the scheduler says that no node fits (condition `PodScheduled` false,
    /// reason `Unschedulable`).
    #[serde(default)]
    pub unschedulable_since: Option<Timestamp>,
    /// metadata.deletionTimestamp: the moment its grace period ends.
    #[serde(default)]
    pub killed_at: Option<Timestamp>,
    /// Whether it carries the label `sluice.dev/accepting`.
    #[serde(default)]
    pub accepting: bool,
    /// The drain it was chosen for: label and annotation together.
    #[serde(default)]
    pub drain: Option<DrainMark>,
    /// What its gateway says.
    #[serde(default)]
    pub gateway: GatewayView,
}

/// status.phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not started.
    #[default]
    Pending,
    /// At least one container runs or restarts.
    Running,
    /// Every container exited with 0.
    Succeeded,
    /// Every container exited and one failed, or the kubelet evicted it.
    Failed,
    /// The kubelet is not heard of.
    Unknown,
}

/// The annotation `sluice.dev/drain`, written when a pod is chosen to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainMark {
    /// Why it goes.
    pub reason: DrainReason,
    /// When it was chosen.
    pub since: Timestamp,
    /// When it may be deleted with clients still connected.
    pub deadline: Timestamp,
}

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainReason {
    /// Its pod is being deleted by someone else (eviction, `kubectl delete`).
    Eviction,
    /// Its node is cordoned or carries a disruption taint.
    NodeDrain,
    /// It is of an old revision.
    Rollout,
    /// There are more pods than wanted.
    ScaleIn,
}

impl DrainReason {
    /// The word in annotations, admin calls, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eviction => "eviction",
            Self::NodeDrain => "node-drain",
            Self::Rollout => "rollout",
            Self::ScaleIn => "scale-in",
        }
    }
}

/// What a pod's gateway says over its admin port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayView {
    /// Nothing: not asked yet, not reachable, or no sense in the answer. Never taken for zero.
    #[default]
    Unseen,
    /// It answered.
    Seen(GatewayState),
}

/// An answer of `GET /v1/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayState {
    /// When it answered.
    pub at: Timestamp,
    /// Random per process: tells a restarted gateway from the one before.
    #[serde(default)]
    pub boot_id: String,
    /// What it does.
    pub state: ServingState,
    /// Clients connected.
    pub connections: u64,
    /// Clients moved by this drain.
    #[serde(default)]
    pub moved: u64,
    /// Rate of its drain, thousandths of a client per second.
    #[serde(default)]
    pub rate_milli: u64,
    /// When its drain ends by force.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// What it calls its thresholds; absent when it cannot be told any.
    #[serde(default)]
    pub limits: Option<String>,
}

/// What a gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServingState {
    /// Takes and keeps clients.
    Serving,
    /// Moves clients away and takes none.
    Draining,
    /// Shuts down.
    Closing,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeView {
    /// metadata.name
    pub name: String,
    /// metadata.labels
    pub labels: BTreeMap<String, String>,
    /// spec.unschedulable: it is cordoned.
    pub cordoned: bool,
    /// spec.taints
    pub taints: Vec<Taint>,
    /// Whether the condition `Ready` is true.
    pub ready: bool,
}

/// A Service or PDB of the fleet, as it is in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildView {
    /// Which of the fleet's objects.
    pub kind: ChildKind,
    /// The whole object as JSON.
    pub object: serde_json::Value,
}

/// The fleet's objects that are kept as rendered by server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChildKind {
    /// Service for clients.
    ClientService,
    /// Headless Service for publishers, the operator and Prometheus.
    InternalService,
    /// PodDisruptionBudget.
    DisruptionBudget,
}

/// A `ControllerRevision` of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// metadata.name
    pub name: String,
    /// Hash it stands for, from its label `sluice.dev/revision`.
    pub hash: String,
    /// Its place in the order of revisions.
    pub number: i64,
    /// Its content; absent when it cannot be read.
    #[serde(default)]
    pub data: Option<RevisionData>,
}

/// Content of a `ControllerRevision`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionData {
    /// The settings that make the revision.
    pub template: Template,
    /// Image its pods run, settled when the revision was made, so that an upgrade of the operator
    /// changes no fleet.
    pub image: String,
}

/// One look at every scaling metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsView {
    /// When Prometheus was asked.
    pub at: Timestamp,
    /// One sample per metric: `connections` for `connectionsPerPod`, else the query's name.
    pub samples: Vec<MetricSample>,
}

/// One metric's fleet-wide total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricSample {
    /// Name of the metric.
    pub name: String,
    /// What came back.
    pub outcome: MetricOutcome,
}

/// Name of the sample that stands for `connectionsPerPod`.
pub const CONNECTIONS_METRIC: &str = "connections";

/// What a query gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricOutcome {
    /// A number, in thousandths.
    Value(i64),
    /// An empty result.
    NoData,
    /// A value from too long ago.
    Stale,
    /// NaN, infinite, negative, or more than one series.
    Senseless,
    /// The query failed, with the reason.
    Failed(String),
}

/// What the scaler remembers; kept in memory by the controller, lost with the leader. `since` makes
/// a new leader as careful as one that has watched the fleet stay as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleMemory {
    /// Since when recommendations are being remembered.
    pub since: Option<Timestamp>,
    /// When the replicas were last changed by the scaler.
    pub scaled_at: Option<Timestamp>,
    /// Recommendations within the window, oldest first.
    pub recommendations: Vec<Recommendation>,
}

/// How many pods the metrics asked for at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// When the metrics were read.
    pub at: Timestamp,
    /// Pods asked for.
    pub replicas: u32,
}
