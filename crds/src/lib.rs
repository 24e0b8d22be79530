//! The types SREs apply (pure data): `NotifyGateway`, `ChaosDrill` and `ChaosExperiment` in
//! `sluice.dev/v1alpha1`.
//!
//! ```text
//! notify_gateway ── parts, limits, scaling, tuning, status   what a fleet is
//! chaos_drill ───── creates ─► chaos_experiment              what is broken on purpose, and what was seen
//! names ─────────── labels, annotations and object names every crate shares
//! quantity ──────── numbers as Kubernetes writes them
//! rules ─────────── CEL: which fields fit together, with messages that name the value that works
//! schema ────────── helpers that write structural schemas
//! ```
//!
//! What a change of a `NotifyGateway` does: `breaker` and `health` are told to running gateways; `broker`, `auth`, `pod`, `heartbeat`,
//! `limits`, `placement`, `drain` (but for its taints), the image and `maxConnectionsPerPod` are a rollout; `replicas`, `paused`,
//! `scaling`, `service`, `reconnectBudget` and `rollout` are for the operator alone.
//!
//! `yaml/` holds the generated CRDs; a test fails when they are stale, and
//! `UPDATE=1 cargo test -p sluice-crds` rewrites them. Numbers are integers with their unit in the
//! name: floats do not survive a round trip through the API server's storage unchanged.

// Printer columns repeat `type_`, which is what the derive asks for.
#![allow(clippy::duplicated_attributes)]

pub mod chaos_drill;
pub mod chaos_experiment;
pub mod names;
pub mod notify_gateway;
pub mod quantity;
mod rules;
mod schema;

pub use chaos_drill::{ChaosDrill, ChaosDrillSpec, ChaosDrillStatus};
pub use chaos_experiment::{ChaosExperiment, ChaosExperimentSpec, ChaosExperimentStatus};
pub use notify_gateway::{NotifyGateway, NotifyGatewaySpec, NotifyGatewayStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every CRD this project installs, in the order of `yaml/`'s reading.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        schema::with_root_rules(NotifyGateway::crd(), &rules::fleet_name()),
        schema::with_root_rules(ChaosDrill::crd(), &rules::drill_name()),
        ChaosExperiment::crd(),
    ]
}

/// The YAML of one CRD as committed in `yaml/` and printed by `sluice-operator crds`.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    // Through a JSON value, so that keys come out sorted and the file does not depend on struct order.
    let mut value =
        serde_json::to_value(crd).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    schema::whole_numbers(&mut value);
    serde_yaml::to_string(&value)
}
