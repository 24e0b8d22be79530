//! Effects: takes a cluster off this machine, whole or half-made: processes, mounts, namespaces, interfaces, control groups,
//! settings, folders. Logs stay until the next start.

use std::path::Path;

use anyhow::{Context, Result};

use super::layout::RUN_DIR;
use super::state::{Found, Lock, State};
use super::{cgroups, mounts, network, process, settings};
use crate::limits::PROCESSES_GONE;

/// Takes it away. Every step is tried, whatever happened to the others; what is left stays written down for the next try.
///
/// # Errors
/// With everything that could not be taken away.
pub fn run(state: &State) -> Result<()> {
    let steps: [(&str, Result<()>); 6] = [
        (
            "processes",
            process::end_all(&state.processes, PROCESSES_GONE),
        ),
        ("network", network::remove(state.firewall)),
        ("control groups", cgroups::remove()),
        ("kernel settings", settings::restore(&state.settings)),
        ("mounts", unmount(&state.data)),
        ("files", remove_files(state)),
    ];
    let mut failures: Vec<String> = Vec::new();
    for (what, outcome) in steps {
        if let Err(error) = outcome {
            failures.push(format!("{what}: {error:#}"));
        }
    }
    if failures.is_empty() {
        return State::forget();
    }
    anyhow::bail!(
        "something of the cluster is left ({}); `cargo cluster down` tries again",
        failures.join("; ")
    )
}

/// Takes this very cluster away; when it is gone already, and perhaps another one is there, leaves everything alone.
///
/// # Errors
/// With everything that could not be taken away, or when somebody starts or ends a cluster right now.
pub fn if_still(state: &State) -> Result<()> {
    let _lock = Lock::take()?;
    match State::find()? {
        Found::Running(now) | Found::Leftovers(now, _) if now.processes == state.processes => {
            run(&now)
        }
        _ => Ok(()),
    }
}

/// Nodes mount in namespaces of their own, so there is something here only after a change of this harness gone wrong.
fn unmount(data: &Path) -> Result<()> {
    for point in mounts::below(&mounts::all()?, data) {
        nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmounting {}", point.display()))?;
    }
    Ok(())
}

fn remove_files(state: &State) -> Result<()> {
    // Nothing is deleted through a mount.
    anyhow::ensure!(
        mounts::below(&mounts::all()?, &state.data).is_empty(),
        "{} still has mounts in it",
        state.data.display()
    );
    for name in [
        "pki",
        "etcd",
        "nodes",
        "volumes",
        "images",
        "api-ready",
        "sluice-e2e",
    ] {
        let path = state.data.join(name);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    for folder in state.folders.iter().rev() {
        // Somebody else may have come to use it.
        let _ = std::fs::remove_dir(folder);
    }
    let _ = std::fs::remove_dir(Path::new(RUN_DIR).join("netns"));
    Ok(())
}
