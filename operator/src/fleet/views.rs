//! Kubernetes objects as plain observed data (pure). What cannot be read is said to be so; nothing
//! is made up.

use super::observed::{
    ChildKind, ChildView, DrainMark, FleetView, GatewayView, NodeView, PodPhase, PodView,
    RevisionView, SpecView,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use kube::core::DynamicObject;
use sluice_crds::names;
use std::collections::BTreeMap;

/// A `NotifyGateway` whatever its spec looks like.
pub fn fleet(object: &DynamicObject) -> FleetView {
    let meta = &object.metadata;
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let status = object.data.get("status").cloned().unwrap_or_default();
    FleetView {
        name: object.name_any(),
        namespace: object.namespace().unwrap_or_default(),
        uid: object.uid().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        deleted: meta.deletion_timestamp.as_ref().map(|time| time.0),
        spec: match serde_json::from_value(spec) {
            Ok(spec) => SpecView::Read(Box::new(spec)),
            Err(error) => SpecView::Unreadable(error.to_string()),
        },
        // A status that cannot be read is made anew.
        status: serde_json::from_value(status).unwrap_or_default(),
    }
}

/// Whether an object belongs to the fleet with this UID.
pub fn owned(meta: &ObjectMeta, uid: &str) -> bool {
    let owners = meta.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| owner.uid == uid)
}

/// A pod, without what its gateway says.
pub fn pod(pod: &Pod) -> PodView {
    let label = |key: &str| pod.labels().get(key).cloned();
    let present = |key: &str| label(key).as_deref() == Some(names::TRUE);
    let status = pod.status.as_ref();
    let condition = |kind: &str| {
        let all = status.and_then(|status| status.conditions.as_ref());
        all.into_iter().flatten().find(|c| c.type_ == kind)
    };
    let unschedulable = condition("PodScheduled")
        .filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
    PodView {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        created: created(&pod.metadata),
        slot: label(names::LABEL_SLOT).and_then(|slot| slot.parse().ok()),
        revision: label(names::LABEL_REVISION).unwrap_or_default(),
        zone: label(names::LABEL_ZONE).unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        container_running: status
            .and_then(|status| status.container_statuses.as_ref())
            .into_iter()
            .flatten()
            .filter(|container| container.name == names::CONTAINER)
            .any(|container| {
                container
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
            }),
        ready: condition("Ready").is_some_and(|c| c.status == "True"),
        unschedulable_since: unschedulable
            .and_then(|c| c.last_transition_time.as_ref())
            .map(|time| time.0),
        killed_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        accepting: present(names::LABEL_ACCEPTING),
        drain: present(names::LABEL_DRAINING).then(|| mark(pod)).flatten(),
        gateway: GatewayView::Unseen,
    }
}

fn phase(text: Option<&str>) -> PodPhase {
    match text {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some("Pending") | None => PodPhase::Pending,
        Some(_) => PodPhase::Unknown,
    }
}

fn mark(pod: &Pod) -> Option<DrainMark> {
    let text = pod.annotations().get(names::ANNOTATION_DRAIN)?;
    serde_json::from_str(text).ok()
}

/// metadata.creationTimestamp; the beginning of time when the API server gave none.
pub fn created(meta: &ObjectMeta) -> Timestamp {
    let Time(at) = meta
        .creation_timestamp
        .clone()
        .unwrap_or(Time(Timestamp::UNIX_EPOCH));
    at
}

/// A node.
pub fn node(node: &Node) -> NodeView {
    let spec = node.spec.as_ref();
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    NodeView {
        name: node.name_any(),
        labels: node
            .labels()
            .clone()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
        taints: spec
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default(),
        ready: conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True"),
    }
}

/// A Service of the fleet; `None` when it is none that is rendered.
pub fn service(fleet: &str, service: &Service) -> Option<ChildView> {
    let kind = match service.name_any() {
        name if name == fleet => ChildKind::ClientService,
        name if name == names::internal_service(fleet) => ChildKind::InternalService,
        _ => return None,
    };
    let mut object = serde_json::to_value(service).ok()?;
    object["apiVersion"] = "v1".into();
    object["kind"] = "Service".into();
    Some(ChildView { kind, object })
}

/// The fleet's PDB; `None` when it is another one.
pub fn budget(fleet: &str, budget: &PodDisruptionBudget) -> Option<ChildView> {
    if budget.name_any() != fleet {
        return None;
    }
    let mut object = serde_json::to_value(budget).ok()?;
    object["apiVersion"] = "policy/v1".into();
    object["kind"] = "PodDisruptionBudget".into();
    Some(ChildView {
        kind: ChildKind::DisruptionBudget,
        object,
    })
}

/// A `ControllerRevision` of the fleet.
pub fn revision(revision: &ControllerRevision) -> RevisionView {
    let hash = revision.labels().get(names::LABEL_REVISION);
    let data = revision.data.as_ref().map(|raw| raw.0.clone());
    RevisionView {
        name: revision.name_any(),
        hash: hash.cloned().unwrap_or_default(),
        number: revision.revision,
        data: data.and_then(|data| serde_json::from_value(data).ok()),
    }
}

/// A key of the fleet Secret as text.
pub fn secret_key(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone())
        .ok()
        .filter(|text| !text.is_empty())
}

/// Whether the fleet Secret has all its keys.
pub fn secret_complete(secret: &Secret) -> bool {
    names::FLEET_KEYS
        .iter()
        .all(|key| secret_key(secret, key).is_some())
}
