//! The Kubernetes objects of a fleet (pure): what is written, from what the user said.

pub mod patch;
pub mod pod;

use super::observed::{ChildKind, FleetView, RevisionData};
use super::revision::canonical;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluice_crds::NotifyGatewaySpec;
use sluice_crds::names;
use std::collections::BTreeMap;

/// Annotation on Services and the PDB: hash of what was rendered. Server-side apply takes fields
/// away that are no longer rendered, but only when it is asked to; this says when.
pub const RENDERED: &str = "sluice.dev/rendered";

/// Labels every object of a fleet carries.
pub fn labels(fleet: &FleetView) -> BTreeMap<String, String> {
    [
        (names::LABEL_FLEET, fleet.name.as_str()),
        ("app.kubernetes.io/name", names::APP_NAME),
        ("app.kubernetes.io/instance", &fleet.name),
        ("app.kubernetes.io/managed-by", names::MANAGER),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The owner reference every object of a fleet carries.
pub fn owner(fleet: &FleetView) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "NotifyGateway",
        "name": fleet.name,
        "uid": fleet.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Selector of the pods that stay, as `/scale` shows it.
pub fn selector(fleet: &str) -> String {
    format!("{}={fleet},!{}", names::LABEL_FLEET, names::LABEL_DRAINING)
}

/// The Services and the PDB, in the order they are wanted: clients are let in last.
pub fn children(fleet: &FleetView, spec: &NotifyGatewaySpec) -> Vec<(ChildKind, String, Value)> {
    [
        (
            ChildKind::InternalService,
            names::internal_service(&fleet.name),
            internal_service(fleet),
        ),
        (
            ChildKind::DisruptionBudget,
            fleet.name.clone(),
            disruption_budget(fleet),
        ),
        (
            ChildKind::ClientService,
            fleet.name.clone(),
            client_service(fleet, spec),
        ),
    ]
    .into_iter()
    .map(|(kind, name, mut object)| {
        let digest = Sha256::digest(canonical(&object).as_bytes());
        let start = digest.first_chunk().copied().unwrap_or_default();
        let hash = format!("{:016x}", u64::from_be_bytes(start));
        object["metadata"]["annotations"][RENDERED] = Value::from(hash);
        (kind, name, object)
    })
    .collect()
}

/// Metadata of a Service or PDB.
fn metadata(fleet: &FleetView, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": fleet.namespace,
        "labels": labels(fleet),
        "annotations": {},
        "ownerReferences": [owner(fleet)],
    })
}

fn client_service(fleet: &FleetView, spec: &NotifyGatewaySpec) -> Value {
    let service = &spec.service;
    let (port_name, _) = names::CLIENT_PORT;
    let mut entry = json!({"name": port_name, "port": service.port, "targetPort": port_name, "protocol": "TCP"});
    if let Some(node_port) = service.node_port {
        entry["nodePort"] = Value::from(node_port);
    }
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(fleet, &fleet.name),
        "spec": {
            "type": service.kind.as_str(),
            "selector": {names::LABEL_FLEET: fleet.name, names::LABEL_ACCEPTING: names::TRUE},
            "ports": [entry],
        },
    });
    for (key, value) in &service.annotations {
        object["metadata"]["annotations"][key] = Value::from(value.as_str());
    }
    object
}

fn internal_service(fleet: &FleetView) -> Value {
    let port = |(name, number): (&str, i32)| json!({"name": name, "port": number, "targetPort": name, "protocol": "TCP"});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(fleet, &names::internal_service(&fleet.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": false,
            "selector": {names::LABEL_FLEET: fleet.name},
            "ports": [port(names::PUBLISH_PORT), port(names::ADMIN_PORT)],
        },
    })
}

/// Bounds how many pods start to go when nobody is there to pace them. Draining pods are left out:
/// they are on their way, and evicting them changes only their deadline.
fn disruption_budget(fleet: &FleetView) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(fleet, &fleet.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {
                "matchLabels": {names::LABEL_FLEET: fleet.name},
                "matchExpressions": [{"key": names::LABEL_DRAINING, "operator": "DoesNotExist"}],
            },
        },
    })
}

/// The `ControllerRevision` that keeps a revision.
pub fn controller_revision(
    fleet: &FleetView,
    hash: &str,
    number: i64,
    data: &RevisionData,
) -> ControllerRevision {
    let mut all = labels(fleet);
    all.insert(names::LABEL_REVISION.to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(names::revision(&fleet.name, hash)),
            namespace: Some(fleet.namespace.clone()),
            labels: Some(all),
            owner_references: serde_json::from_value(json!([owner(fleet)])).ok(),
            ..ObjectMeta::default()
        },
        revision: number,
        data: serde_json::to_value(data).ok().map(RawExtension),
    }
}

/// Whether `actual` says everything `wanted` says. What the API server or others added is left alone.
pub fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            // Empty maps and lists do not survive the API server.
            actual
                .get(key)
                .map_or_else(|| is_empty(value), |found| contains(found, value))
        }),
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, w)| contains(a, w))
        }
        _ => actual == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(value) => !value,
        _ => false,
    }
}
