//! What a plan says (pure data): actions that leave nothing to choose, and what to tell people.

use crate::fleet::observed::{ChildKind, DrainMark, DrainReason, Recommendation};
use crate::fleet::tuning::Tuning;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

/// What is to be done about a fleet now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Writes, in order; after each one the operator may die without harm.
    pub actions: Vec<Action>,
    /// What the status should say.
    pub status: StatusSummary,
    /// What to tell people once; each belongs to an action of this plan.
    pub events: Vec<PlannedEvent>,
    /// What is not done yet, and why.
    pub waits: Vec<Wait>,
    /// Milliseconds after which to look again though nothing was seen to change.
    pub requeue_after_ms: Option<u64>,
    /// What the scaler should remember.
    pub recommendation: Option<Recommendation>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Create the fleet Secret with these keys, each `bytes` random bytes as base64url without
    /// padding; when it exists, add only keys that are missing. A plan is printed, kept and
    /// replayed, so it does not carry the secret itself.
    CreateSecret {
        /// Name of the Secret.
        name: String,
        /// Keys it must have.
        keys: Vec<String>,
        /// Random bytes behind each.
        bytes: usize,
    },
    /// Server-side apply one of the fleet's objects.
    EnsureChild {
        /// Which one.
        kind: ChildKind,
        /// Its name.
        name: String,
        /// The whole object.
        object: serde_json::Value,
    },
    /// Create a `ControllerRevision`; one that exists is as good.
    CreateRevision {
        /// The whole object.
        object: Box<ControllerRevision>,
    },
    /// Undo a drain: check that the pod is still as seen (the gateway cannot), then
    /// `DELETE /v1/drain`, then take mark and draining label off and put `accepting` on.
    CancelDrain {
        /// The pod.
        pod: PodRef,
    },
    /// Put the label `accepting` on a pod or take it off.
    SetAccepting {
        /// The pod.
        pod: PodRef,
        /// Whether it takes new clients.
        accepting: bool,
    },
    /// Create a pod by POST; one of that name that exists is as good.
    CreatePod {
        /// Its slot.
        slot: u32,
        /// Zone it is meant for; empty for any.
        zone: String,
        /// Hash of its revision.
        revision: String,
        /// The whole object.
        object: Box<Pod>,
    },
    /// In one patch: annotation `drain`, label `draining` on, label `accepting` off. On a pod that
    /// is marked already it changes reason or deadline.
    MarkDraining {
        /// The pod.
        pod: PodRef,
        /// What the annotation says.
        mark: DrainMark,
    },
    /// `POST /v1/drain`: begin, or change rate or deadline.
    StartDrain {
        /// The pod.
        pod: PodRef,
        /// Why, as the clients are told.
        reason: DrainReason,
        /// Thousandths of a client per second.
        rate_milli: u64,
        /// When the rest are disconnected.
        deadline: Timestamp,
    },
    /// `PUT /v1/limits`: replace the gateway's thresholds. Nothing is restarted.
    SetLimits {
        /// The pod.
        pod: PodRef,
        /// What it will call them when asked.
        generation: String,
        /// All thresholds.
        limits: Box<Tuning>,
    },
    /// Delete a pod, with UID and resourceVersion as preconditions, after a live read.
    DeletePod {
        /// The pod.
        pod: PodRef,
        /// Why.
        reason: DeleteReason,
    },
    /// Delete a `ControllerRevision` beyond the history limit.
    DeleteRevision {
        /// Its name.
        name: String,
    },
    /// Write `replicas` through `/scale`, if it still says `from`.
    SetReplicas {
        /// Replicas now.
        from: u32,
        /// Replicas to be.
        to: u32,
    },
}

/// A pod as it was observed: writes carry all three, so that none hits its successor or overwrites
/// what was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// metadata.name
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// metadata.resourceVersion
    pub resource_version: String,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteReason {
    /// Its drain is over and no client is left.
    Drained,
    /// Its drain's deadline has passed.
    DeadlinePassed,
    /// Its gateway does not run, so it has no clients.
    NotRunning,
    /// Its containers have exited for good.
    Finished,
}

/// What the status should say, before timestamps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusSummary {
    /// metadata.generation the plan was made from.
    pub observed_generation: i64,
    /// Pods that stay.
    pub replicas: u32,
    /// Pods that stay and are ready.
    pub ready_replicas: u32,
    /// Pods whose clients are being moved.
    pub draining_replicas: u32,
    /// Selector of the pods that stay.
    pub selector: String,
    /// Clients connected, rounded.
    pub connections: u64,
    /// Reconnects per second in use / allowed.
    pub reconnect_budget: String,
    /// Revision new pods are made from.
    pub current_revision: Option<String>,
    /// Revision that last reached every pod.
    pub stable_revision: Option<String>,
    /// Running experiment.
    pub drill: Option<String>,
    /// Conditions; the writer adds times and observedGeneration.
    pub conditions: Vec<PlannedCondition>,
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCondition {
    /// `Ready`, `Progressing`, `Draining`, `ScalingActive` or `SpecValid`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A Kubernetes Event about the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedEvent {
    /// Whether it is a warning.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// Something that is due but not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What waits.
    pub what: String,
    /// For what.
    pub why: String,
}
