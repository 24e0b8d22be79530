//! `status` of a `NotifyGateway` (pure data).

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw and decided. Counts are rounded, so that a quiet fleet writes nothing.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NotifyGatewayStatus {
    /// metadata.generation this status was made from.
    pub observed_generation: Option<i64>,
    /// Pods that exist and are not draining.
    pub replicas: i32,
    /// Of those, pods that are ready.
    pub ready_replicas: i32,
    /// Pods whose clients are being moved.
    pub draining_replicas: i32,
    /// Label selector of the pods counted in `replicas`; read by PDBs and autoscalers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Clients connected, summed over the pods and rounded to two digits above 100.
    pub connections: i64,
    /// Reconnects per second that drains use now / the budget, for example 50/200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_budget: Option<String>,
    /// Revision that new pods are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// Revision that last reached every pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// Name of the running ChaosExperiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
    /// Ready, Progressing, Draining, ScalingActive and SpecValid.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
