//! `spec.scaling` of a `NotifyGateway` (pure data).

use crate::rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Automatic scaling of `replicas`, with the arithmetic of the HorizontalPodAutoscaler. With
/// several metrics the largest answer wins; missing, stale or senseless ones never scale in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::scaling()))]
pub struct Scaling {
    /// Fewest pods.
    #[serde(default = "default_min")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,

    /// Most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,

    /// Connections per pod to aim for.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_pod: Option<i32>,

    /// The Prometheus that is asked.
    pub prometheus: Prometheus,

    /// Further metrics to scale on.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub queries: Vec<ScalingQuery>,

    /// Percent a metric may be off its target before anything is done.
    #[serde(default = "default_tolerance")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance_percent: i32,

    /// Seconds that fewer pods must have been enough before pods are taken away.
    #[serde(default = "default_stabilization")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_seconds: i32,

    /// Seconds between two looks at the metrics.
    #[serde(default = "default_sync")]
    #[schemars(range(min = 1, max = 3600))]
    pub sync_seconds: i32,
}

fn default_min() -> i32 {
    1
}

fn default_tolerance() -> i32 {
    10
}

fn default_stabilization() -> i32 {
    300
}

fn default_sync() -> i32 {
    15
}

/// A Prometheus server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Prometheus {
    /// Its address, for example http://sluice-prometheus.sluice-system:9090.
    #[schemars(length(max = 2048), regex(pattern = "^https?://.+"))]
    pub url: String,
}

/// A PromQL query to scale on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::scaling_query()))]
pub struct ScalingQuery {
    /// Name shown in status and events.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// PromQL whose single value is the fleet's total.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The value per pod to aim for, as a quantity: 80, 1.5k, 500m.
    #[schemars(length(min = 1, max = 32))]
    pub target: String,
}
