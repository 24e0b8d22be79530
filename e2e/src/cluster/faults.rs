//! Effects: real faults on the local cluster: a zone's cable, a container's process.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Node;
use super::network;

/// Pulls the cable of a zone's node (named by zone or node): nothing gets in or out until it is plugged in again.
///
/// # Errors
/// When there is no such zone, or no cluster.
pub fn cut_zone(zone: &str) -> Result<()> {
    network::set_cable(find(zone)?, false)
}

/// Plugs the cable in again.
///
/// # Errors
/// When there is no such zone, or no cluster.
pub fn restore_zone(zone: &str) -> Result<()> {
    network::set_cable(find(zone)?, true)
}

fn find(zone: &str) -> Result<Node> {
    Node::find(zone).with_context(|| format!("the local cluster has no zone or node '{zone}'"))
}

/// `kill -9` of the processes named `program` in the pod with this UID, past kubelet and grace period.
///
/// # Errors
/// When the pod runs no such process on this machine.
pub fn kill_container(pod_uid: &str, program: &str) -> Result<()> {
    ensure!(pod_uid.len() >= 32, "'{pod_uid}' is not the UID of a pod");
    let group = format!("pod{pod_uid}");
    let mut found = false;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        // Processes come and go while one looks.
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if groups.contains(&group) && runs(&command, program) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)
                .with_context(|| format!("killing {program} ({pid})"))?;
            found = true;
        }
    }
    if !found {
        bail!("no process {program} runs in the pod {pod_uid} on this machine");
    }
    Ok(())
}

/// Whether a command line (words ended by zero bytes) starts this program.
fn runs(command: &[u8], program: &str) -> bool {
    let first = command.split(|b| *b == 0).next().unwrap_or_default();
    first.rsplit(|b| *b == b'/').next() == Some(program.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_last_part_of_the_first_word() {
        assert!(runs(
            b"/sluice-gateway\0--fleet\0sluice\0",
            "sluice-gateway"
        ));
        assert!(!runs(b"/bin/sh\0/sluice-gateway\0", "sluice-gateway"));
        assert!(!runs(b"", "sluice-gateway"));
    }

    #[test]
    fn zones_that_do_not_exist_are_refused() {
        assert!(cut_zone("zone-x").is_err());
    }
}
