//! Effects: one bridge, three network namespaces on cables to it, and the routes between machine, nodes and pods.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

use super::layout::{BRIDGE, MACHINE, NODE_NETWORK, NODES, Node, POD_NETWORK, SERVICE_NETWORK};
use super::process::{run, run_with};

/// The mark on our rule in the machine's firewall.
const RULE: [&str; 8] = [
    "-i",
    BRIDGE,
    "-o",
    BRIDGE,
    "-m",
    "comment",
    "--comment",
    "sluice-e2e",
];

/// Refuses addresses that the machine uses for something else.
pub fn check_free() -> Result<()> {
    let routes = run(Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    for ours in [NODE_NETWORK, POD_NETWORK, SERVICE_NETWORK] {
        if let Some(route) = routes.lines().find(|line| conflicts(line, ours)) {
            bail!(
                "the local cluster needs the network {ours}, but this machine has the route '{}'",
                route.trim()
            );
        }
    }
    Ok(())
}

/// A route that covers part of `ours` and more than the default route does.
fn conflicts(route: &str, ours: &str) -> bool {
    let target = route.split_whitespace().find(|word| {
        !matches!(
            *word,
            "local" | "broadcast" | "unreachable" | "blackhole" | "prohibit" | "multicast"
        )
    });
    let (Some(theirs), Some(ours)) = (target.and_then(network), network(ours)) else {
        return false;
    };
    let shorter = theirs.1.min(ours.1);
    shorter > 0 && (u32::from(theirs.0) ^ u32::from(ours.0)) >> (32 - shorter) == 0
}

fn network(text: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    Some((
        address.parse().ok()?,
        bits.parse().ok().filter(|b| *b <= 32)?,
    ))
}

/// Lays bridge, namespaces, cables and routes. Returns whether the machine's firewall needed a rule.
pub fn create() -> Result<bool> {
    let mut batch = vec![
        format!("link add {BRIDGE} type bridge"),
        format!("addr add {MACHINE}/24 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
    ];
    for node in NODES {
        create_namespace(node)?;
        let cable = node.cable();
        batch.push(format!(
            "link add {cable} type veth peer name eth0 netns {}",
            node.namespace().display()
        ));
        batch.push(format!("link set {cable} master {BRIDGE} up"));
        batch.push(format!(
            "route add {} via {}",
            node.pod_network(),
            node.address()
        ));
    }
    run_with(Command::new("ip").args(["-batch", "-"]), &batch.join("\n"))
        .context("laying the cluster's network")?;
    for node in NODES {
        run_with(
            in_namespace(node, "ip").args(["-batch", "-"]),
            &inside(node),
        )
        .with_context(|| format!("setting up the network of {}", node.name()))?;
    }
    open_firewall()
}

/// The commands for a node's own end.
fn inside(node: Node) -> String {
    let mut batch = vec![
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev eth0", node.address()),
        "link set eth0 up".to_owned(),
        format!("route add default via {MACHINE}"),
    ];
    let others = NODES.into_iter().filter(|n| *n != node);
    batch.extend(others.map(|n| format!("route add {} via {}", n.pod_network(), n.address())));
    batch.join("\n")
}

/// A namespace held by a file of ours: `ip netns` would leave its own folder mounted on the machine, and its `exec`
/// mounts `/sys` anew, which hides the control groups from a kubelet.
fn create_namespace(node: Node) -> Result<()> {
    let file = node.namespace();
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    std::fs::write(&file, "")?;
    let mut holder = std::ffi::OsString::from("--net=");
    holder.push(&file);
    run(Command::new("unshare").arg(holder).arg("true"))
        .with_context(|| format!("making the network namespace of {}", node.name()))?;
    Ok(())
}

/// A command inside a node's network.
fn in_namespace(node: Node, program: &str) -> Command {
    let mut holder = std::ffi::OsString::from("--net=");
    holder.push(node.namespace());
    let mut command = Command::new("nsenter");
    command.arg(holder).arg(program);
    command
}

/// Where bridged packets pass the firewall and it drops what it does not know (as with Docker beside us), a rule lets the
/// nodes speak with each other.
fn open_firewall() -> Result<bool> {
    let bridged =
        std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").unwrap_or_default();
    if bridged.trim() != "1" {
        return Ok(false);
    }
    let policy = run(Command::new("iptables").args(["-w", "-S", "FORWARD"]))?;
    if !policy.starts_with("-P FORWARD DROP") {
        return Ok(false);
    }
    run(Command::new("iptables")
        .args(["-w", "-I", "FORWARD"])
        .args(RULE)
        .args(["-j", "ACCEPT"]))?;
    Ok(true)
}

/// Takes everything away; what is not there is fine.
pub fn remove(firewall: bool) -> Result<()> {
    if firewall {
        // Gone already when somebody flushed the firewall meanwhile.
        let _ = run(Command::new("iptables")
            .args(["-w", "-D", "FORWARD"])
            .args(RULE)
            .args(["-j", "ACCEPT"]));
    }
    for node in NODES {
        // A namespace ends some time after its last user; its cable must be gone now, or its name stays taken.
        delete_link(&node.cable())?;
        let file = node.namespace();
        if file.exists() {
            let _ = umount2(&file, MntFlags::MNT_DETACH);
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    delete_link(BRIDGE)
}

fn delete_link(name: &str) -> Result<()> {
    if !Path::new("/sys/class/net").join(name).exists() {
        return Ok(());
    }
    run(Command::new("ip").args(["link", "del", name]))?;
    Ok(())
}

/// Pulls or plugs a node's cable.
pub fn set_cable(node: Node, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    run(Command::new("ip").args(["link", "set", &node.cable(), state]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_overlapping_networks_conflict() {
        assert!(conflicts("10.200.0.0/16 dev tun0 scope link", NODE_NETWORK));
        assert!(conflicts(
            "local 10.200.0.7 dev eth0 table local",
            NODE_NETWORK
        ));
        assert!(!conflicts("default via 192.168.1.1 dev eth0", NODE_NETWORK));
        assert!(!conflicts("10.96.0.0/16 via 10.0.0.1", NODE_NETWORK));
        assert!(conflicts(
            "10.0.0.0/8 via 10.0.0.1 dev wg0",
            SERVICE_NETWORK
        ));
        assert!(!conflicts("0.0.0.0/0 via 10.0.0.1", POD_NETWORK));
    }

    #[test]
    fn each_node_knows_the_way_to_the_others_pods() {
        let batch = inside(NODES[1]);
        assert!(batch.contains("route add 10.201.0.0/24 via 10.200.0.11"));
        assert!(batch.contains("route add 10.201.2.0/24 via 10.200.0.13"));
        assert!(!batch.contains("10.201.1.0/24"));
    }
}
