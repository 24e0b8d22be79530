//! Effects: the first process of a node's mount and process namespaces. It arranges the node's file system, starts
//! containerd, kubelet and kube-proxy, starts them again when they end, and collects orphans. When it is killed, the
//! kernel ends everything on the node with it.

use std::convert::Infallible;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::node::{Daemon, NodePlan};
use super::process::{PATH, append};
use crate::limits::{DAEMON_RESTART, LOOK_LOCAL};
use crate::progress::note;

/// Runs a node until it is killed; returns only when something cannot be set up.
pub fn main(plan: &Path) -> ExitCode {
    let Err(error) = start(plan);
    note(&format!("node: {error:#}"));
    ExitCode::FAILURE
}

fn start(path: &Path) -> Result<Infallible> {
    if std::process::id() != 1 {
        bail!("this is a part of `cargo cluster up`, to be started in namespaces of its own");
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let plan: NodePlan = serde_json::from_reader(file).context("reading the node's plan")?;
    arrange(&plan)?;
    for (path, value) in &plan.settings {
        // Bridges without packet filters (a kernel without br_netfilter) lack the setting and need none.
        if path.exists() {
            std::fs::write(path, value).with_context(|| format!("setting {}", path.display()))?;
        }
    }
    supervise(&plan.daemons)
}

/// Mounts what the plan says. All of it is private to the node and vanishes with it.
fn arrange(plan: &NodePlan) -> Result<()> {
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("making mounts private")?;
    for (from, to) in &plan.binds {
        bind(from, to)?;
    }
    mount(
        nothing,
        &plan.shared,
        nothing,
        MsFlags::MS_REC | MsFlags::MS_SHARED,
        nothing,
    )
    .with_context(|| format!("sharing {}", plan.shared.display()))?;
    for folder in &plan.fleeting {
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .with_context(|| format!("mounting a tmpfs on {}", folder.display()))?;
    }
    std::fs::create_dir_all(&plan.run.1)?;
    bind(&plan.run.0, &plan.run.1)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let nothing: Option<&str> = None;
    mount(Some(from), to, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("mounting {} on {}", from.display(), to.display()))
}

/// A daemon and what has become of it.
struct Slot<'a> {
    daemon: &'a Daemon,
    running: Option<Pid>,
    not_before: Instant,
}

/// Starts every daemon as soon as it may, and again a moment after it ended.
fn supervise(daemons: &[Daemon]) -> Result<Infallible> {
    let now = Instant::now();
    let mut slots: Vec<Slot> = daemons
        .iter()
        .map(|daemon| Slot {
            daemon,
            running: None,
            not_before: now,
        })
        .collect();
    loop {
        for slot in slots.iter_mut().filter(|s| s.running.is_none()) {
            if Instant::now() >= slot.not_before && slot.daemon.after.iter().all(|p| there(p)) {
                slot.running = Some(spawn(slot.daemon)?);
            }
        }
        // With every daemon running there is nothing to do but wait for somebody's end.
        let idle = slots.iter().all(|s| s.running.is_some());
        let flags = if idle {
            WaitPidFlag::empty()
        } else {
            WaitPidFlag::WNOHANG
        };
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => sleep(LOOK_LOCAL),
            Ok(status) => ended(&mut slots, status),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the node's processes"),
        }
    }
}

fn ended(slots: &mut [Slot], status: WaitStatus) {
    let Some(slot) = slots
        .iter_mut()
        .find(|s| s.running.is_some() && s.running == status.pid())
    else {
        return;
    };
    note(&format!(
        "{} ended ({status:?}), starting it again",
        slot.daemon.name
    ));
    slot.running = None;
    slot.not_before = Instant::now() + DAEMON_RESTART;
}

/// A file, or a socket that somebody listens on.
fn there(path: &Path) -> bool {
    if path.extension().is_some_and(|e| e == "sock") {
        return UnixStream::connect(path).is_ok();
    }
    path.exists()
}

fn spawn(daemon: &Daemon) -> Result<Pid> {
    let log = append(&daemon.log)?;
    let child = Command::new(&daemon.program)
        .args(&daemon.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", daemon.program.display()))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}
