//! Effects: the nodes' control groups, in version 1 hierarchies or the version 2 tree.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::layout::{CGROUP, NODES};
use super::mounts::{self, Mount};
use crate::limits::{CGROUPS_GONE, LOOK_LOCAL};

/// Controllers without which a kubelet or a container does not start.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// Further ones of version 1 that containers use.
const NEEDED_V1: [&str; 3] = ["cpuacct", "devices", "freezer"];
/// Controllers handed down in version 2.
const DELEGATED: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
/// Processor share of all pods together, in tasks outside of them; the clients get the same. Beside the pods run a control plane,
/// three kubelets and their kin; on a real cluster these do not take the processors of three nodes' pods in turn.
const PODS_WEIGHT: u32 = 4;
/// The group of the clients, beside those of the nodes.
const CLIENTS: &str = "clients";
/// Processor share of the clients, in nodes. They stand for other machines: one that waits for a processor looks like a server
/// that does not answer.
const CLIENTS_WEIGHT: u32 = NODES.len() as u32;

/// How this machine's control groups are arranged.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// One tree.
    V2(PathBuf),
    /// One hierarchy per controller or group of controllers.
    V1(Vec<PathBuf>),
}

/// How this machine's control groups are arranged, or what is missing.
pub fn arrangement() -> Result<Arrangement> {
    let mounts = mounts::all()?;
    if let Some(tree) = mounts
        .iter()
        .find(|m| m.kind == "cgroup2" && m.point == Path::new("/sys/fs/cgroup"))
    {
        let present = std::fs::read_to_string(tree.point.join("cgroup.controllers"))?;
        let missing: Vec<_> = NEEDED
            .into_iter()
            .filter(|c| !present.split_whitespace().any(|p| p == *c))
            .collect();
        if !missing.is_empty() {
            bail!(
                "control group controllers {missing:?} are not available in /sys/fs/cgroup (kernel command line, container limits)"
            );
        }
        return Ok(Arrangement::V2(tree.point.clone()));
    }
    version_1(&mounts)
}

fn version_1(mounts: &[Mount]) -> Result<Arrangement> {
    let hierarchies: Vec<&Mount> = mounts
        .iter()
        .filter(|m| m.kind == "cgroup" && m.point.parent() == Some(Path::new("/sys/fs/cgroup")))
        .collect();
    let missing: Vec<_> = NEEDED
        .into_iter()
        .chain(NEEDED_V1)
        .filter(|c| {
            !hierarchies
                .iter()
                .any(|m| m.options.split(',').any(|o| o == *c))
        })
        .collect();
    if !missing.is_empty() {
        bail!("control groups {missing:?} are not mounted below /sys/fs/cgroup");
    }
    Ok(Arrangement::V1(
        hierarchies.iter().map(|m| m.point.clone()).collect(),
    ))
}

/// Makes each node's group.
pub fn create() -> Result<()> {
    match arrangement()? {
        Arrangement::V2(tree) => create_v2(&tree),
        Arrangement::V1(hierarchies) => hierarchies.iter().try_for_each(|h| create_v1(h)),
    }
}

fn create_v1(hierarchy: &Path) -> Result<()> {
    for name in groups() {
        let group = hierarchy.join(CGROUP).join(name);
        std::fs::create_dir_all(&group)
            .with_context(|| format!("making the control group {}", group.display()))?;
        // A cpuset group holds no process before it has processors and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let Ok(all) = std::fs::read_to_string(hierarchy.join(file)) else {
                continue;
            };
            std::fs::write(hierarchy.join(CGROUP).join(file), &all)?;
            std::fs::write(group.join(file), &all)?;
        }
    }
    weigh(&hierarchy.join(CGROUP), "cpu.shares", 1024)
}

fn create_v2(tree: &Path) -> Result<()> {
    let ours = tree.join(CGROUP);
    for name in groups() {
        std::fs::create_dir_all(ours.join(name))
            .with_context(|| format!("making control groups in {}", ours.display()))?;
    }
    for parent in [tree, &ours] {
        for controller in DELEGATED {
            // One by one, since a kernel without one of them would refuse them all; the kubelet names what it misses.
            let _ = std::fs::write(
                parent.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
    weigh(&ours, "cpu.weight", 100)
}

/// Each node's group, and the clients'.
fn groups() -> impl Iterator<Item = String> {
    NODES
        .iter()
        .map(|node| node.name())
        .chain([CLIENTS.to_owned()])
}

/// Gives pods and clients their shares of the processors, where `file` says that this hierarchy deals them out.
fn weigh(ours: &Path, file: &str, one: u32) -> Result<()> {
    let shares = [
        (ours.join(file), 2 * PODS_WEIGHT),
        (ours.join(CLIENTS).join(file), CLIENTS_WEIGHT),
    ];
    for (path, weight) in shares {
        if path.exists() {
            std::fs::write(&path, (weight * one).to_string())
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

/// From now on this process counts as the clients.
pub fn join() -> Result<()> {
    move_to(arrangement()?, &Path::new(CGROUP).join(CLIENTS))
}

/// Moves this process into a group of the hierarchies that deal out processors; `""` is the one that everybody begins in.
fn move_to(arrangement: Arrangement, group: &Path) -> Result<()> {
    let hierarchies = match arrangement {
        Arrangement::V2(tree) => vec![tree],
        Arrangement::V1(hierarchies) => hierarchies,
    };
    for hierarchy in hierarchies {
        let clients = hierarchy.join(CGROUP).join(CLIENTS);
        if clients.join("cpu.shares").exists() || clients.join("cpu.weight").exists() {
            let processes = hierarchy.join(group).join("cgroup.procs");
            std::fs::write(&processes, std::process::id().to_string())
                .with_context(|| format!("writing {}", processes.display()))?;
        }
    }
    Ok(())
}

/// Removes every group of ours; they can be removed once nothing runs in them.
pub fn remove() -> Result<()> {
    if let Ok(arrangement) = arrangement() {
        move_to(arrangement, Path::new(""))?;
    }
    let begun = Instant::now();
    loop {
        let Err(error) = remove_once() else {
            return Ok(());
        };
        if begun.elapsed() > CGROUPS_GONE {
            return Err(error);
        }
        sleep(LOOK_LOCAL);
    }
}

fn remove_once() -> Result<()> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup").join(CGROUP)];
    for entry in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        roots.push(entry.path().join(CGROUP));
    }
    roots
        .iter()
        .filter(|r| r.is_dir())
        .try_for_each(|r| remove_tree(r))
}

/// Innermost first: a group is a folder whose files cannot be removed one by one.
fn remove_tree(group: &Path) -> Result<()> {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the control group {}", group.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn missing_hierarchies_are_named() {
        let mount = |name: &str, options: &str| Mount {
            point: format!("/sys/fs/cgroup/{name}").into(),
            kind: "cgroup".into(),
            options: options.into(),
        };
        let some = [
            mount("cpu,cpuacct", "rw,cpu,cpuacct"),
            mount("memory", "rw,memory"),
            mount("pids", "rw,pids"),
        ];
        let error = version_1(&some).unwrap_err().to_string();
        assert!(
            error.contains("cpuset") && error.contains("freezer") && !error.contains("cpuacct"),
            "{error}"
        );
    }
}
