//! Effects: what every cluster has inside: DNS, resource metrics, and volumes that outlive their pods.

use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::layout::{Layout, NOBODY, NODES, STORAGE_CLASS};
use super::pki::METRICS_SERVER;
use crate::limits::{API_READY, DNS_READY, LOOK_API, VOLUMES_PER_NODE};

const COREDNS: &str = include_str!("manifests/coredns.yaml");
const METRICS: &str = include_str!("manifests/metrics-server.yaml");
const STORAGE: &str = include_str!("manifests/storage.yaml");
/// Who owns the fields, for server-side apply.
const MANAGER: &str = "sluice-e2e";
/// Size that volumes claim to have; folders have no limit of their own.
const VOLUME_SIZE: &str = "10Gi";

/// Applies everything.
pub async fn apply(client: &Client, layout: &Layout) -> Result<()> {
    let mut objects = parse(STORAGE)?;
    objects.extend(volumes(layout)?);
    objects.extend(parse(COREDNS)?);
    objects.extend(parse(&metrics(layout)?)?);
    for object in objects {
        apply_one(client, object).await?;
    }
    Ok(())
}

/// Waits until names resolve.
pub async fn dns_ready(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let begun = Instant::now();
    loop {
        let status = deployments.get("coredns").await?.status.unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or(0);
        if ready as usize == NODES.len() {
            return Ok(());
        }
        if begun.elapsed() > DNS_READY {
            bail!(
                "{ready} of {} DNS servers are ready after {} s; kubectl -n kube-system describe pods tells more",
                NODES.len(),
                DNS_READY.as_secs()
            );
        }
        tokio::time::sleep(LOOK_API).await;
    }
}

async fn apply_one(client: &Client, object: DynamicObject) -> Result<()> {
    let name = object.name_any();
    let types = object.types.clone().unwrap_or_default();
    let resource = ApiResource::from_gvk(
        &GroupVersionKind::try_from(types).context("reading a manifest's type")?,
    );
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let parameters = PatchParams::apply(MANAGER).force();
    let begun = Instant::now();
    loop {
        match api.patch(&name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => return Ok(()),
            // A young API server has yet to make its own namespaces.
            Err(kube::Error::Api(said)) if said.code == 404 && begun.elapsed() < API_READY => {
                tokio::time::sleep(LOOK_API).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("applying {} {name}", resource.kind));
            }
        }
    }
}

fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| DynamicObject::deserialize(document).context("reading a manifest"))
        .collect()
}

/// The manifest with the cluster's certificates.
fn metrics(layout: &Layout) -> Result<String> {
    let read = |file: &str| -> Result<String> {
        let path = layout.pki(file);
        Ok(STANDARD
            .encode(std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?))
    };
    Ok(METRICS
        .replace("${CERTIFICATE}", &read(&format!("{METRICS_SERVER}.crt"))?)
        .replace("${KEY}", &read(&format!("{METRICS_SERVER}.key"))?)
        .replace("${AUTHORITY}", &read("ca.crt")?))
}

/// Makes the folders and describes them. hostPath volumes do not follow `fsGroup`, so the folders belong to the workloads' user.
fn volumes(layout: &Layout) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for node in NODES {
        for number in 1..=VOLUMES_PER_NODE {
            let folder = layout.volume(node, number);
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o770))?;
            chown(&folder, Some(NOBODY), Some(NOBODY))
                .with_context(|| format!("giving {} to user {NOBODY}", folder.display()))?;
            objects.push(volume(
                &format!("{}-{number}", node.name()),
                &folder.display().to_string(),
                &node.name(),
            ));
        }
    }
    Ok(objects)
}

fn volume(name: &str, folder: &str, node: &str) -> DynamicObject {
    let spec: Value = json!({
        "storageClassName": STORAGE_CLASS,
        "capacity": { "storage": VOLUME_SIZE },
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": { "path": folder, "type": "Directory" },
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }] } },
    });
    let mut object = DynamicObject::new(
        name,
        &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "PersistentVolume")),
    );
    object.types = Some(TypeMeta {
        api_version: "v1".into(),
        kind: "PersistentVolume".into(),
    });
    object.data = json!({ "spec": spec });
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cluster::layout::DNS_SERVICE;

    #[test]
    fn manifests_are_whole_objects() {
        for (yaml, count) in [(COREDNS, 7), (METRICS, 10), (STORAGE, 1)] {
            let objects = parse(yaml).unwrap();
            assert_eq!(objects.len(), count);
            assert!(
                objects
                    .iter()
                    .all(|o| o.types.is_some() && !o.name_any().is_empty())
            );
        }
    }

    #[test]
    fn names_in_manifests_are_those_of_the_code() {
        assert!(COREDNS.contains(&format!("clusterIP: {DNS_SERVICE}")));
        assert_eq!(parse(STORAGE).unwrap()[0].name_any(), STORAGE_CLASS);
    }

    #[test]
    fn a_volume_stays_with_its_node() {
        let object = serde_json::to_value(volume("n2-1", "/data/n2-1", "n2")).unwrap();
        assert_eq!(object["kind"], "PersistentVolume");
        assert_eq!(
            object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"]
                [0]["values"][0],
            "n2"
        );
    }
}
