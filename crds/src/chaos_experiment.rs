//! `ChaosExperiment`: one run of something broken on purpose, with its report (pure data).

use crate::{rules, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is broken, in which fleet, and how it is judged.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "ChaosExperiment",
    plural = "chaosexperiments",
    shortname = "cexp",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "ChaosExperimentStatus",
    doc = "One run of a fault against a fleet: checked before, injected, watched until it recovered, checked after, reported.",
    printcolumn(
        name = "Fleet",
        type_ = "string",
        json_path = ".spec.fleet",
        description = "NotifyGateway it runs against"
    ),
    printcolumn(
        name = "Fault",
        type_ = "string",
        json_path = ".spec.fault.type",
        description = "What is broken"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How far it is"
    ),
    printcolumn(
        name = "Verdict",
        type_ = "string",
        json_path = ".status.verdict",
        description = "How it ended"
    ),
    printcolumn(
        name = "Recovery",
        type_ = "integer",
        json_path = ".status.report.recoverySeconds",
        description = "Seconds until the fleet was whole again"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::experiment_spec()))]
pub struct ChaosExperimentSpec {
    /// Name of the NotifyGateway in this namespace.
    #[schemars(length(min = 1, max = 63))]
    pub fleet: String,

    /// What is done to it.
    pub fault: Fault,

    /// Percent of the fleet's pods that may be touched, rounded down; the experiment is refused
    /// when even one pod is more than that.
    #[serde(default = "default_max_affected")]
    #[schemars(range(min = 1, max = 100))]
    pub max_affected_percent: i32,

    /// What must hold before the fault and again after recovery.
    #[serde(default)]
    pub steady_state: SteadyState,

    /// Seconds the fleet has to be whole again.
    #[serde(default = "default_recovery")]
    #[schemars(range(min = 1, max = 86_400))]
    pub recovery_timeout_seconds: i32,
}

fn default_max_affected() -> i32 {
    34
}

fn default_recovery() -> i32 {
    180
}

/// A fault.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Fault {
    /// podKill deletes pods without grace, as a crash would; podEviction evicts them as
    /// `kubectl drain` would.
    #[serde(rename = "type")]
    pub kind: FaultType,
    /// Pods to do it to.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
}

fn default_count() -> i32 {
    1
}

/// Kind of fault.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FaultType {
    /// Pods are deleted without grace.
    PodKill,
    /// Pods are evicted.
    PodEviction,
}

/// What must hold before the fault and again after recovery.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SteadyState {
    /// Address of the Prometheus to ask; the fleet's scaling.prometheus.url when absent.
    #[schemars(length(max = 2048), regex(pattern = "^https?://.+"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_url: Option<String>,
    /// Queries with bounds. That all pods are ready and reachable is always checked.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<Check>,
}

/// A PromQL query and the bounds of its value.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::check()))]
pub struct Check {
    /// Name shown in the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// PromQL with a single value.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// Lowest value that passes, as a quantity: 1, 0.99, 500m.
    #[schemars(length(min = 1, max = 32))]
    pub min: Option<String>,
    /// Highest value that passes, as a quantity.
    #[schemars(length(min = 1, max = 32))]
    pub max: Option<String>,
}

/// How far an experiment is, and what it found.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChaosExperimentStatus {
    /// metadata.generation this status was made from.
    pub observed_generation: Option<i64>,
    /// How far it is.
    pub phase: Phase,
    /// How it ended; absent until it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// When it began.
    #[schemars(schema_with = "schema::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the first fault was injected.
    #[schemars(schema_with = "schema::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injected_at: Option<Time>,
    /// When it ended.
    #[schemars(schema_with = "schema::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Pods chosen, and whether the fault was seen to have reached them.
    pub targets: Vec<Target>,
    /// Values of the steady-state checks.
    pub checks: Vec<CheckResult>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Complete, with the verdict as reason.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How far an experiment is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Waits for a quiet fleet.
    #[default]
    Pending,
    /// Asks whether the steady state holds.
    CheckingBefore,
    /// Breaks something.
    Injecting,
    /// Waits for the fleet to be whole again.
    Recovering,
    /// Asks whether the steady state holds again.
    CheckingAfter,
    /// Is over; see the verdict.
    Completed,
}

/// How an experiment ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Verdict {
    /// The fleet recovered in time and the steady state held before and after.
    Passed,
    /// It did not.
    Failed,
    /// Nothing was proven: the steady state did not hold before, or could not be measured.
    Unproven,
    /// Something more important came up and the experiment gave way.
    Interrupted,
}

/// A pod chosen for a fault.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(default)]
pub struct Target {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod, so that its successor is not taken for it.
    pub uid: String,
    /// Whether the fault was seen to have happened.
    pub confirmed: bool,
}

/// One value of a steady-state check.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(default)]
pub struct CheckResult {
    /// Name of the check.
    pub name: String,
    /// before or after.
    pub when: String,
    /// The value as a decimal number, or why there was none.
    pub value: String,
    /// Whether it was within its bounds.
    pub ok: bool,
}

/// What an experiment did and saw.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Clients connected before the fault.
    pub connections_before: i64,
    /// Clients connected after recovery.
    pub connections_after: i64,
    /// Ready pods before the fault.
    pub pods_ready_before: i32,
    /// Ready pods after recovery.
    pub pods_ready_after: i32,
    /// Seconds from the fault until the fleet was whole again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_seconds: Option<i32>,
    /// A sentence for the reader.
    pub message: String,
}
