//! Effects: is this machine able to run the local cluster? Installs Debian's packages where it may, and otherwise says
//! everything that is missing, at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster::layout::DATA_DIR;
use crate::cluster::{cgroups, process};
use crate::progress::step;

/// Said with every refusal.
const OTHERWISE: &str = "A cluster you have needs none of this: `cargo demo --context NAME` takes any context of your kubeconfig.";

/// A program that nodes need, and Debian's package of it.
const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("runc", "runc"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
];

/// CNI plugins that the pods' network uses, in one of the folders where distributions keep them.
const CNI_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const CNI_PACKAGE: &str = "containernetworking-plugins";

/// What a kernel must be able to do, each with a command that shows it, run in namespaces that end with it.
const KERNEL: [(&str, &str); 7] = [
    (
        "overlay file systems on this disk (CONFIG_OVERLAY_FS; not inside a container's own overlay)",
        "mkdir -p $DIR/l $DIR/u $DIR/w $DIR/m && mount -t overlay overlay -o lowerdir=$DIR/l,upperdir=$DIR/u,workdir=$DIR/w $DIR/m",
    ),
    ("tmpfs mounts", "mount -t tmpfs tmpfs $DIR"),
    (
        "bridges (CONFIG_BRIDGE)",
        "ip link add slcprobe0 type bridge",
    ),
    (
        "pairs of network interfaces (CONFIG_VETH)",
        "ip link add slcprobe1 type veth peer name slcprobe2",
    ),
    (
        "address translation in iptables (CONFIG_NF_NAT and MASQUERADE, DNAT targets)",
        "iptables -w -t nat -A POSTROUTING -m comment --comment x -j MASQUERADE --random-fully && \
         iptables -w -t nat -A PREROUTING -p tcp -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.0.2.1:1",
    ),
    (
        "the iptables match `statistic` (CONFIG_NETFILTER_XT_MATCH_STATISTIC)",
        "iptables -w -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j RETURN",
    ),
    (
        "connection tracking and marks in iptables (CONFIG_NF_CONNTRACK, XT_MARK)",
        "iptables -w -A FORWARD -m conntrack --ctstate INVALID -j DROP && iptables -w -t nat -A OUTPUT -j MARK --or-mark 0x4000",
    ),
];

/// Kernel modules that may not be loaded yet.
const MODULES: [&str; 6] = [
    "overlay",
    "bridge",
    "br_netfilter",
    "veth",
    "nf_conntrack",
    "xt_statistic",
];

/// Makes the machine ready, or says what is missing.
///
/// # Errors
/// With every missing thing, what to do about it, and the way without.
pub async fn prepare() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the local cluster needs root: it makes network, mount and process namespaces and starts containers. \
             Run it as root (for example `sudo -E env PATH=$PATH cargo cluster up`). {OTHERWISE}"
        );
    }
    install_packages().await?;
    let mut missing = Vec::new();
    // Kernels with everything built in have no modules to load.
    let _ = process::run(Command::new("modprobe").arg("-aq").args(MODULES));
    if let Err(error) = cgroups::arrangement() {
        missing.push(format!("{error:#}"));
    }
    missing.extend(
        kernel_lacks()?
            .into_iter()
            .map(|feature| format!("the kernel or this container does not allow {feature}")),
    );
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine cannot run the local cluster:\n  - {}\n{OTHERWISE}",
        missing.join("\n  - ")
    )
}

/// The folder with all CNI plugins.
///
/// # Errors
/// When no folder has them all.
pub fn cni_folder() -> Result<PathBuf> {
    CNI_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|folder| CNI_PLUGINS.iter().all(|p| folder.join(p).exists()))
        .with_context(|| {
            format!("no folder of {CNI_FOLDERS:?} has the CNI plugins {CNI_PLUGINS:?}")
        })
}

async fn install_packages() -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!(
            "programs of these Debian packages are missing, and this system has no apt-get: {list}. \
             Install your distribution's equivalents. {OTHERWISE}"
        );
    }
    step(&format!("installing Debian packages: {list}"), async {
        apt(&["update"]).await?;
        let mut install = vec!["install", "--yes", "--no-install-recommends"];
        install.extend(&packages);
        apt(&install).await
    })
    .await
    .with_context(|| {
        format!("install these packages by hand, then try again: {list}. {OTHERWISE}")
    })?;
    let still = missing_packages();
    if !still.is_empty() {
        bail!("apt-get installed {list}, but programs of {still:?} are still not found");
    }
    Ok(())
}

async fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new("apt-get");
    command
        .arg("--quiet")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    let output = command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if cni_folder().is_err() {
        packages.push(CNI_PACKAGE);
    }
    packages.dedup();
    packages
}

/// The program in the daemons' own search path.
fn find(program: &str) -> Option<PathBuf> {
    process::PATH
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}

/// Tries each feature in namespaces of its own, on the disk where the nodes will be.
fn kernel_lacks() -> Result<Vec<&'static str>> {
    let folder = crate::cluster::data_folder()?;
    let probe = folder.join("probe");
    std::fs::create_dir_all(&probe).with_context(|| {
        format!(
            "making {} (the environment variable SLUICE_STATE names another place than {DATA_DIR})",
            probe.display()
        )
    })?;
    let probes = KERNEL.iter().enumerate();
    let script: Vec<String> = probes
        .map(|(number, (_, command))| format!("( {command} ) >/dev/null 2>&1 || echo {number}"))
        .collect();
    let answer = process::run(
        Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "sh",
                "-c",
                &script.join("\n"),
            ])
            .env("DIR", &probe)
            .env("PATH", process::PATH),
    );
    let _ = std::fs::remove_dir_all(&probe);
    let answer = answer.context("network, mount and process namespaces are not allowed here (a container without privileges?)")?;
    let failed: Vec<usize> = answer.lines().filter_map(|l| l.parse().ok()).collect();
    Ok(failed
        .into_iter()
        .filter_map(|n| KERNEL.get(n))
        .map(|(feature, _)| *feature)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_daemons_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
