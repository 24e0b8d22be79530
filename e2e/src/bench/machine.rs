//! Effects (process): cores, descriptor limits, and what this machine is.

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Core of the server under test.
pub const SERVER_CORE: usize = 0;

/// Core of the load and of everything beside the server.
pub const LOAD_CORE: usize = 1;

/// Descriptors that the gateway keeps free; more than what any other process here needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 512;

/// The gateway refuses newcomers from this share of the others on, percent.
const REFUSED_FROM_PERCENT: u64 = 95;

/// What figures depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, GiB.
    pub memory_gib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Date and time, UTC.
    pub date: String,
}

impl Machine {
    /// Looks around.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processor = field(&read("/proc/cpuinfo"), "model name");
        let kibibytes = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = kibibytes.trim_end_matches(" kB").parse().unwrap_or(0_u64);
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kibibytes / (1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: jiff::Timestamp::now()
                .strftime("%Y-%m-%d %H:%M UTC")
                .to_string(),
        }
    }
}

fn field(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}

/// Puts this thread, and whatever it starts from now on, on one core.
///
/// # Errors
/// When the machine has no such core.
pub fn pin(core: usize) -> Result<()> {
    pin_to(&[core])
}

fn pin_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("this benchmark needs the cores {cores:?}"))
}

/// Runs `start` on `core`: threads and processes keep the core of the thread that starts them.
///
/// # Errors
/// When the machine has no such core; those of `start`.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    on_cores(&[core], start)
}

/// Runs `start` on any of `cores`.
///
/// # Errors
/// When the machine lacks one of them; those of `start`.
pub fn on_cores<T>(cores: &[usize], start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    pin_to(cores)?;
    let outcome = start();
    sched_setaffinity(Pid::from_raw(0), &before)?;
    outcome
}

/// Takes every descriptor that the hard limit allows and checks that `connections` fit.
///
/// # Errors
/// With the number that does fit.
pub fn descriptors_for(connections: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the descriptor limit")?;
    let fits = hard.saturating_sub(SPARE_DESCRIPTORS) / 100 * REFUSED_FROM_PERCENT;
    ensure!(
        connections as u64 <= fits,
        "{connections} connections do not fit the descriptor limit of {hard}: use --connections {fits} or raise it"
    );
    Ok(())
}
