//! Effects (processes, /proc): a server under test: started on its core, measured from outside, ended when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine;

/// Nanoseconds in a second.
const NANOSECONDS: f64 = 1e9;

/// Lines of a server's log that an error shows.
const LOG_TAIL: usize = 8;

/// A child process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub resident: f64,
    /// Resident and not from files: heap and stacks.
    pub anonymous: f64,
}

impl Server {
    /// Starts a program on a core; what it says goes to a file in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &'static str,
        mut command: Command,
        core: usize,
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = machine::on_core(core, || {
            command
                .spawn()
                .with_context(|| format!("starting {name} ({})", command.get_program().display()))
        })?;
        Ok(Self { child, name, log })
    }

    /// CPU time of all its threads so far, seconds. Threads must not end between two looks: theirs would be missing.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in std::fs::read_dir(self.path("task"))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let spent = text.split(' ').next().unwrap_or_default();
            nanoseconds += spent.parse::<f64>().context("reading schedstat")?;
        }
        Ok(nanoseconds / NANOSECONDS)
    }

    /// Its memory.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<Memory> {
        let text = self.read("smaps_rollup")?;
        Ok(Memory {
            resident: kibibytes(&text, "Rss:")?,
            anonymous: kibibytes(&text, "Anonymous:")?,
        })
    }

    /// Its open descriptors.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors(&self) -> Result<f64> {
        Ok(std::fs::read_dir(self.path("fd"))?.count() as f64)
    }

    /// Fails when it has ended, with the end of its log.
    ///
    /// # Errors
    /// See above.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.tail());
        }
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?);
        Ok(kill(pid, signal)?)
    }

    /// The end of what it said.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.path(file);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel's objects (sockets, files, small packets) of all processes, bytes. Other programs move it, too, so it means
/// something only as a difference over many connections.
///
/// # Errors
/// Without /proc.
pub fn kernel_objects() -> Result<f64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo")?, "Slab:")
}

/// What the kernel has charged to the queues of all TCP sockets, bytes, in whole pages per socket.
///
/// # Errors
/// Without /proc.
pub fn kernel_queues() -> Result<f64> {
    const PAGE: f64 = 4096.0;
    let sockets = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = sockets.lines().find(|line| line.starts_with("TCP:"));
    line.and_then(|line| line.rsplit(' ').next()?.trim().parse::<f64>().ok())
        .map(|pages| pages * PAGE)
        .context("reading /proc/net/sockstat")
}

fn kibibytes(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    value
        .map(|k| k * 1024.0)
        .with_context(|| format!("no {name}"))
}
