//! Which zone a pod goes to, and which nodes go away (pure).

use super::observed::{NodeView, PodView};
use k8s_openapi::api::core::v1::{Taint, Toleration};
use sluice_crds::NotifyGatewaySpec;
use std::collections::{BTreeMap, BTreeSet};

/// The taint that stands for a cordon in the list of disruption taints.
const CORDON_TAINT: &str = "node.kubernetes.io/unschedulable";

/// The cluster as one fleet sees it.
pub struct Landscape {
    zone_of_node: BTreeMap<String, String>,
    doomed: BTreeSet<String>,
    open: BTreeSet<String>,
}

impl Landscape {
    /// Looks at the nodes with a fleet's settings.
    pub fn of(spec: &NotifyGatewaySpec, nodes: &[NodeView]) -> Self {
        let zone = |node: &NodeView| node.labels.get(&spec.placement.zone_topology_key).cloned();
        let doomed = |node: &&NodeView| goes_away(node, &spec.drain.disruption_taints);
        Self {
            zone_of_node: nodes
                .iter()
                .filter_map(|node| Some((node.name.clone(), zone(node)?)))
                .collect(),
            doomed: nodes
                .iter()
                .filter(doomed)
                .map(|node| node.name.clone())
                .collect(),
            open: nodes
                .iter()
                .filter(|node| !doomed(node) && takes_pods(node, spec))
                .filter_map(zone)
                .collect(),
        }
    }

    /// Whether the pod's node is being drained.
    pub fn is_doomed(&self, pod: &PodView) -> bool {
        pod.node
            .as_ref()
            .is_some_and(|node| self.doomed.contains(node))
    }

    /// Zone a pod is in, else the one it is meant for.
    pub fn zone_of(&self, pod: &PodView) -> String {
        pod.node
            .as_ref()
            .and_then(|node| self.zone_of_node.get(node))
            .unwrap_or(&pod.zone)
            .clone()
    }

    /// The zone with the fewest of `taken`, of those that take pods and are not `full`; empty when
    /// there is none, which lets the scheduler choose.
    pub fn next_zone(&self, taken: &BTreeMap<String, usize>, full: &BTreeSet<String>) -> String {
        self.open
            .iter()
            .filter(|zone| !full.contains(*zone))
            .min_by_key(|zone| taken.get(*zone).copied().unwrap_or(0))
            .cloned()
            .unwrap_or_default()
    }
}

/// Whether a node is cordoned or carries a taint that announces its end.
fn goes_away(node: &NodeView, taints: &[String]) -> bool {
    let listed = |key: &str| taints.iter().any(|taint| taint == key);
    node.cordoned && listed(CORDON_TAINT) || node.taints.iter().any(|taint| listed(&taint.key))
}

/// Whether the scheduler would consider a node for the fleet, room aside.
fn takes_pods(node: &NodeView, spec: &NotifyGatewaySpec) -> bool {
    let selected = spec
        .pod
        .node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let repelled = node.taints.iter().any(|taint| {
        ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str())
            && !spec.pod.tolerations.iter().any(|own| tolerates(own, taint))
    });
    node.ready && !node.cordoned && selected && !repelled
}

/// Kubernetes' rule for one toleration and one taint.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let effect = toleration.effect.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || key.is_empty() && exists)
        && (exists
            || toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default())
}

/// The lowest slots no pod of whatever age still holds.
pub fn free_slots(taken: &BTreeSet<u32>) -> impl Iterator<Item = u32> {
    (0..).filter(|slot| !taken.contains(slot))
}
