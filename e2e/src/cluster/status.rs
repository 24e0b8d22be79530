//! Effects: what a running cluster looks like: nodes, daemons, memory, images.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::Cluster;
use super::layout::{NODES, Node};
use super::process::ProcessId;

/// Bytes of a memory page.
const PAGE: u64 = 4096;
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The whole report, some twenty lines; `wrong` says why the cluster is not as it should be.
pub(super) async fn report(cluster: &Cluster, wrong: Option<&str>) -> Result<String> {
    let mut text = String::new();
    if let Some(wrong) = wrong {
        writeln!(
            text,
            "not as it should be: {wrong}; `cargo cluster up` starts it anew"
        )?;
    }
    writeln!(text, "kubeconfig  {}", cluster.kubeconfig().display())?;
    writeln!(text, "logs        {}", cluster.layout().logs().display())?;
    let client = cluster.client().await?;
    let health = super::api_health(&client).await;
    writeln!(text, "API server  {health}")?;
    if health == "ok" {
        nodes(&client, &mut text).await?;
    }
    let mut total = daemons(cluster, &mut text)?;
    for node in NODES {
        total += on_node(cluster, node, &mut text)?;
    }
    writeln!(text, "memory of everything  {} MiB", total / MIB)?;
    writeln!(text, "images")?;
    for (image, nodes) in images(cluster).await {
        writeln!(text, "  {image:<34} {nodes}")?;
    }
    Ok(text)
}

async fn nodes(client: &Client, text: &mut String) -> Result<()> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list(&ListParams::default()).await?.items;
    writeln!(text, "nodes")?;
    for node in nodes.list(&ListParams::default()).await? {
        let name = node.name_any();
        let ready = if super::is_ready(&node) {
            "Ready"
        } else {
            "NotReady"
        };
        let closed = node
            .spec
            .as_ref()
            .and_then(|s| s.unschedulable)
            .unwrap_or(false);
        let here = pods
            .iter()
            .filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(&name));
        writeln!(
            text,
            "  {name}  {}  {ready}{}  {} pods",
            node.labels()
                .get("topology.kubernetes.io/zone")
                .map_or("", String::as_str),
            if closed { ", cordoned" } else { "" },
            here.count()
        )?;
    }
    Ok(())
}

/// The machine's own daemons and their resident memory.
fn daemons(cluster: &Cluster, text: &mut String) -> Result<u64> {
    let mut total = 0;
    writeln!(text, "daemons")?;
    for recorded in &cluster.state().processes {
        let alive = recorded.process.alive();
        let bytes = resident(recorded.process.pid);
        total += bytes;
        let said = if alive {
            format!("{} MiB", bytes / MIB)
        } else {
            "has ended".into()
        };
        writeln!(
            text,
            "  {:<24} process {:<8} {said}",
            recorded.name, recorded.process.pid
        )?;
    }
    Ok(total)
}

/// Memory on a node by program: everything in its process namespace.
fn on_node(cluster: &Cluster, node: Node, text: &mut String) -> Result<u64> {
    let name = format!("node-{}", node.name());
    let recorded = cluster.state().processes.iter().find(|r| r.name == name);
    let Some(namespace) = recorded
        .and_then(|r| r.process.children().first().copied())
        .and_then(|init: ProcessId| std::fs::read_link(format!("/proc/{}/ns/pid", init.pid)).ok())
    else {
        writeln!(text, "  {name} has no processes")?;
        return Ok(0);
    };
    let mut programs: BTreeMap<String, u64> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        if std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|ns| ns == namespace)
            || in_pods_of(node, &entry.path())
        {
            let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            *programs.entry(program.trim().to_owned()).or_default() += resident(pid);
        }
    }
    let mut largest: Vec<(&String, &u64)> = programs.iter().collect();
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let shown: Vec<String> = largest
        .iter()
        .map(|(p, b)| format!("{p} {}", **b / MIB))
        .collect();
    writeln!(text, "  on {} (MiB): {}", node.name(), shown.join(", "))?;
    Ok(programs.values().sum())
}

/// Pods have process namespaces of their own; their control groups say where they belong.
fn in_pods_of(node: Node, process: &std::path::Path) -> bool {
    let groups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    groups.contains(&format!("{}/", node.cgroup()))
}

fn resident(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * PAGE
}

/// Images by name, with the nodes that have them.
async fn images(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for node in NODES {
        // A node that is gone has none.
        let list = cluster
            .ctr(node, &["images", "list", "--quiet"])
            .await
            .unwrap_or_default();
        for image in list.lines().filter(|l| !l.starts_with("sha256:")) {
            let nodes = all.entry(image.to_owned()).or_default();
            if !nodes.is_empty() {
                nodes.push(' ');
            }
            nodes.push_str(&node.name());
        }
    }
    all
}
