//! Effects: one fleet on a cluster as a person with kubectl sees it: pods, readiness, addresses, and the waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::wait::{self, Look};

/// A fleet by its names.
#[derive(Clone)]
pub struct Fleet {
    client: Client,
    /// Namespace of the `NotifyGateway`.
    pub namespace: String,
    /// Name of the `NotifyGateway`.
    pub name: String,
}

/// What the scenarios look at in one gateway pod.
#[derive(Clone, Debug)]
pub struct PodSeen {
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Node it runs on, empty while unscheduled.
    pub node: String,
    /// The Ready condition.
    pub ready: bool,
    /// A deletion time is set.
    pub terminating: bool,
    /// The operator has chosen it to go.
    pub draining: bool,
    /// The revision label.
    pub revision: String,
}

/// The resource description of one of our kinds.
#[must_use]
pub fn kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "sluice.dev".into(),
        version: "v1alpha1".into(),
        api_version: "sluice.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

impl Fleet {
    /// The fleet `name` in `namespace`; nothing is read yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The API of one of our kinds in the fleet's namespace.
    #[must_use]
    pub fn objects(&self, k: &str, plural: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind(k, plural))
    }

    /// The `NotifyGateway` as the API server has it now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self) -> Result<Value> {
        let object = self
            .objects("NotifyGateway", "notifygateways")
            .get(&self.name)
            .await
            .with_context(|| format!("reading NotifyGateway {}", self.name))?;
        Ok(serde_json::to_value(object)?)
    }

    /// Applies a JSON merge patch to the `NotifyGateway`, as `kubectl patch --type=merge` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn patch(&self, patch: Value) -> Result<()> {
        self.objects("NotifyGateway", "notifygateways")
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("patching NotifyGateway {}", self.name))?;
        Ok(())
    }

    /// All pods of the fleet, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<PodSeen>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = ListParams::default().labels(&format!("sluice.dev/fleet={}", self.name));
        let mut seen: Vec<PodSeen> = pods
            .list(&selector)
            .await
            .context("listing the fleet's pods")?
            .items
            .iter()
            .map(PodSeen::of)
            .collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    /// Nodes by name with whether they are cordoned.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn nodes(&self) -> Result<BTreeMap<String, bool>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .map(|node| {
                let cordoned = node
                    .spec
                    .as_ref()
                    .and_then(|s| s.unschedulable)
                    .unwrap_or(false);
                (node.name_any(), cordoned)
            })
            .collect())
    }

    /// Waits until the fleet is what its spec asks for: the wanted number of ready pods, none draining or on its way out,
    /// status up to date with the spec.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub async fn settled(&self, limit: Duration) -> Result<Duration> {
        let what = format!("fleet {} settled", self.name);
        let ((), took) = wait::until(&what, limit, || async {
            let object = self.read().await?;
            let pods = self.pods().await?;
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(3) as usize;
            let fresh = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let ready = pods
                .iter()
                .filter(|p| p.ready && !p.draining && !p.terminating)
                .count();
            let revisions: std::collections::BTreeSet<&str> =
                pods.iter().map(|p| p.revision.as_str()).collect();
            if fresh && ready == wanted && pods.len() == wanted && revisions.len() <= 1 {
                return Ok(Look::Done(()));
            }
            Ok(Look::NotYet(format!(
                "{ready} of {wanted} ready, {} pods, {} revisions, status {}: {}",
                pods.len(),
                revisions.len(),
                if fresh { "fresh" } else { "stale" },
                describe(&pods)
            )))
        })
        .await?;
        Ok(took)
    }

    /// Scales as `kubectl scale` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn scale(&self, replicas: i64) -> Result<()> {
        self.objects("NotifyGateway", "notifygateways")
            .patch_scale(
                &self.name,
                &PatchParams::default(),
                &Patch::Merge(json!({ "spec": { "replicas": replicas } })),
            )
            .await
            .context("scaling the fleet")?;
        Ok(())
    }

    /// One key of the fleet's own Secret, as text.
    ///
    /// # Errors
    /// When the Secret or the key is missing.
    pub async fn key(&self, key: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets.get(&format!("{}-fleet", self.name)).await?;
        let bytes = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .ok_or_else(|| anyhow!("Secret {}-fleet has no key {key}", self.name))?;
        Ok(String::from_utf8(bytes.0.clone())?)
    }

    /// The node port of the client Service.
    ///
    /// # Errors
    /// When the Service is missing or has none.
    pub async fn node_port(&self) -> Result<i32> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        services
            .get(&self.name)
            .await?
            .spec
            .and_then(|s| s.ports)
            .and_then(|ports| ports.first().and_then(|p| p.node_port))
            .ok_or_else(|| {
                anyhow!(
                    "Service {} has no node port: set spec.service.type: NodePort",
                    self.name
                )
            })
    }
}

impl PodSeen {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let ready = status
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|c| c.type_ == "Ready" && c.status == "True")
            });
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            node: pod
                .spec
                .as_ref()
                .and_then(|s| s.node_name.clone())
                .unwrap_or_default(),
            ready,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            draining: label("sluice.dev/draining") == "true",
            revision: label("sluice.dev/revision"),
        }
    }
}

/// Pods in one line, for messages.
#[must_use]
pub fn describe(pods: &[PodSeen]) -> String {
    let words = pods.iter().map(|p| {
        let state = match (p.terminating, p.draining, p.ready) {
            (true, _, _) => "terminating",
            (_, true, _) => "draining",
            (_, _, true) => "ready",
            _ => "not ready",
        };
        format!("{} on {} {state}", p.name, p.node)
    });
    words.collect::<Vec<_>>().join(", ")
}
