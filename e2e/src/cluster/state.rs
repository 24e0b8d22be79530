//! Effects: what a cluster has put on this machine, written down before or right after it is put there, so that whoever
//! comes next can take it away; and the lock that makes starting and ending one program's business at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, RUN_DIR};
use super::process::{ProcessId, Recorded};

/// A kernel setting as it was before the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// File under `/proc/sys` or `/sys`.
    pub path: PathBuf,
    /// What it said.
    pub value: String,
}

/// What a cluster has put on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The kernel's name for this boot; process numbers of another one mean nothing.
    pub boot: String,
    /// The cluster's folder.
    pub data: PathBuf,
    /// The program that will end it; none for a cluster that is meant to stay.
    pub owner: Option<ProcessId>,
    /// It was started to the end.
    pub complete: bool,
    /// Its daemons.
    pub processes: Vec<Recorded>,
    /// Kernel settings to put back.
    pub settings: Vec<Setting>,
    /// Folders that were made as mount points, outermost first.
    pub folders: Vec<PathBuf>,
    /// A rule was put into the machine's own firewall.
    pub firewall: bool,
}

/// What the state file says about the machine.
pub enum Found {
    /// No cluster, and nothing left of one.
    Nothing,
    /// A cluster that works and belongs to somebody.
    Running(State),
    /// A cluster whose start was cut off, whose daemons died, or whose owner is gone.
    Leftovers(State, &'static str),
}

impl State {
    /// A cluster about to be started by this program.
    pub fn begin(layout: &Layout) -> Result<Self> {
        Ok(Self {
            boot: boot_id()?,
            data: layout.data().to_owned(),
            owner: ProcessId::of(std::process::id().cast_signed()),
            complete: false,
            processes: Vec::new(),
            settings: Vec::new(),
            folders: Vec::new(),
            firewall: false,
        })
    }

    /// Its paths.
    pub fn layout(&self) -> Layout {
        Layout::new(self.data.clone())
    }

    /// Writes it down; never half of it.
    pub fn save(&self) -> Result<()> {
        let path = file();
        let part = path.with_extension("part");
        std::fs::create_dir_all(RUN_DIR)?;
        std::fs::write(&part, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&part, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Records a daemon that was just started.
    pub fn record(&mut self, daemon: Recorded) -> Result<()> {
        self.processes.push(daemon);
        self.save()
    }

    /// Daemons that have ended.
    pub fn dead(&self) -> Vec<&Recorded> {
        self.processes
            .iter()
            .filter(|r| !r.process.alive())
            .collect()
    }

    /// Reads the state file and judges it.
    pub fn find() -> Result<Found> {
        let path = file();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut state: Self = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{0} is not a cluster's state; if no cluster runs, remove it: rm {0}",
                path.display()
            )
        })?;
        if state.boot != boot_id()? {
            state.processes.clear();
            state.owner = None;
            return Ok(Found::Leftovers(
                state,
                "the machine was restarted meanwhile",
            ));
        }
        Ok(state.judge())
    }

    fn judge(self) -> Found {
        if !self.complete {
            return Found::Leftovers(self, "its start was cut off");
        }
        if !self.dead().is_empty() {
            return Found::Leftovers(self, "some of its daemons have ended");
        }
        if self.owner.is_some_and(|o| !o.alive()) {
            return Found::Leftovers(self, "the program that owned it has ended");
        }
        Found::Running(self)
    }

    /// Forgets it: nothing of it is left.
    pub fn forget() -> Result<()> {
        match std::fs::remove_file(file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn file() -> PathBuf {
    Path::new(RUN_DIR).join("state.json")
}

fn boot_id() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Held while a cluster is started or ended.
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another program holds it, with that program's number.
    pub fn take() -> Result<Self> {
        std::fs::create_dir_all(RUN_DIR).with_context(|| format!("making {RUN_DIR}"))?;
        let path = Path::new(RUN_DIR).join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EAGAIN)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                bail!(
                    "process {} is starting or ending a local cluster right now; wait for it, or end it with Ctrl-C",
                    holder.trim()
                );
            }
            Err((_, error)) => return Err(error).context("locking"),
        };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(std::process::id().to_string().as_bytes())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state() -> State {
        let mut state = State::begin(&Layout::new("/nowhere".into())).unwrap();
        state.complete = true;
        state
    }

    #[test]
    fn a_complete_cluster_with_a_living_owner_is_running() {
        assert!(matches!(state().judge(), Found::Running(_)));
        let kept = State {
            owner: None,
            ..state()
        };
        assert!(matches!(kept.judge(), Found::Running(_)));
    }

    #[test]
    fn a_cut_off_start_a_dead_daemon_and_a_dead_owner_are_leftovers() {
        let own = ProcessId::of(std::process::id().cast_signed()).unwrap();
        let gone = ProcessId {
            start: own.start + 1,
            ..own
        };
        let cut = State {
            complete: false,
            ..state()
        };
        assert!(matches!(cut.judge(), Found::Leftovers(..)));
        let orphan = State {
            owner: Some(gone),
            ..state()
        };
        assert!(matches!(orphan.judge(), Found::Leftovers(..)));
        let broken = State {
            processes: vec![Recorded {
                name: "etcd".into(),
                process: gone,
            }],
            ..state()
        };
        assert!(matches!(broken.judge(), Found::Leftovers(..)));
    }
}
