//! Effects: daemons that outlive the program that started them, recorded so that nothing else is ever ended in their place.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::limits::{LOOK_LOCAL, TAIL_LINES};

/// Where daemons look for programs (`runc`, `iptables`, `mount`); root's own path may lack the `sbin` folders.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process that cannot be mistaken for a later one with the same number, as long as the machine does not boot anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process number.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

/// A recorded daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What it is, also the name of its log.
    pub name: String,
    /// Which process it is.
    pub process: ProcessId,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, start) = parse_stat(&stat)?;
        Some(Self { pid, start })
    }

    /// This very process runs still; one that only waits to be collected does not count.
    pub fn alive(self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// Children at this moment.
    pub fn children(self) -> Vec<Self> {
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid))
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| Self::of(pid.parse().ok()?))
            .collect()
    }

    fn end(self) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("ending process {}", self.pid)),
        }
    }
}

/// State and start time of a `/proc/PID/stat` line; the name in it may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The 22nd field of the line; the state is the third.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Starts a daemon in a session of its own, with its output in `log`, and an environment that depends on nobody's shell.
pub fn spawn<S: AsRef<OsStr>>(
    name: &str,
    program: &Path,
    args: &[S],
    log: &Path,
) -> Result<Recorded> {
    let output = append(log)?;
    // `setsid` becomes the program itself, so the child's number is the daemon's. `end_all` collects it, or whoever is first
    // on the machine.
    let child = Command::new("setsid")
        .arg(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {name} ({})", program.display()))?;
    let pid = child.id().cast_signed();
    let process = ProcessId::of(pid)
        .with_context(|| format!("{name} ended at once; see {}", log.display()))?;
    Ok(Recorded {
        name: name.to_owned(),
        process,
    })
}

/// Opens a log at its end.
pub fn append(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))
}

/// Ends all recorded processes at once and waits until they and their children are gone. A node's child is the first
/// process of a namespace: it is gone only when everything in the namespace is.
pub fn end_all(recorded: &[Recorded], limit: Duration) -> Result<()> {
    let mut waiting: Vec<ProcessId> = Vec::new();
    for one in recorded.iter().filter(|r| r.process.alive()) {
        waiting.extend(one.process.children());
        waiting.push(one.process);
        one.process.end()?;
    }
    let begun = Instant::now();
    while waiting.iter().any(|p| p.alive()) {
        if begun.elapsed() > limit {
            let left: Vec<i32> = waiting
                .iter()
                .filter(|p| p.alive())
                .map(|p| p.pid)
                .collect();
            bail!(
                "processes {left:?} are still there {} s after SIGKILL",
                limit.as_secs()
            );
        }
        sleep(LOOK_LOCAL);
    }
    for one in recorded {
        // Collects those that are children of this program; the others belong to the first process of the machine.
        let _ = waitpid(Pid::from_raw(one.process.pid), Some(WaitPidFlag::WNOHANG));
    }
    Ok(())
}

/// The end of a log, for an error.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    last_lines(&text, TAIL_LINES)
}

/// At most so many lines of a text's end, without empty ones.
pub fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}

/// Runs a short command to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    run_with(command, "")
}

/// The same with text on its standard input.
pub fn run_with(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends before it has read everything says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_process_is_itself_and_not_an_earlier_one_with_its_number() {
        let own = ProcessId::of(std::process::id().cast_signed()).unwrap();
        assert!(own.alive());
        let earlier = ProcessId {
            start: own.start - 1,
            ..own
        };
        assert!(!earlier.alive());
        // Had it not been told apart, this would end the test itself.
        end_all(
            &[Recorded {
                name: "earlier".into(),
                process: earlier,
            }],
            Duration::from_secs(1),
        )
        .unwrap();
    }
}
