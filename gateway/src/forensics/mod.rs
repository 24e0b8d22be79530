//! Effects (owner): where memory goes. A gateway answers that by itself, in production, from the binary that runs there.
//!
//! ```text
//! allocator ─► gauges ─► /metrics                      how much
//!     │
//!     └─► dump ─► jeheap ─► pprof ─► /debug/heap       who holds it, who asks for it
//!                                └─► folder            SIGUSR2, every --heap-every-seconds
//! runtimes ─► tasks ─► /debug/tasks
//!
//! heap-diff:  pprof ─► paths ─► diff                   what grew between two snapshots
//! doctor:     look, look, diff ─► verdict             leak, storm, load or fragmentation
//! ```
//!
//! Everything that decides is pure: `jeheap`, `names`, `pprof`, `wire`, `paths`, `diff`, `rotation`, `look`, `verdict`, `size`.

pub mod allocator;
pub mod compare;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod folder;
pub mod gauges;
pub mod http;
pub mod jeheap;
pub mod look;
pub mod names;
pub mod paths;
pub mod pprof;
pub mod rotation;
pub mod size;
pub mod tasks;
pub mod verdict;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::signal::unix::Signal;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use self::dump::SnapshotError;
use self::folder::Folder;
use self::pprof::Kind;
use crate::core::Core;
use crate::{events, limits};

/// Where memory goes, as flags.
#[derive(Clone, Debug, Args)]
pub struct HeapArgs {
    /// Folder for heap snapshots (pprof format), which SIGUSR2 writes; bounded in number and size.
    #[arg(long, env = "SLUICE_HEAP_DIR", value_name = "DIR")]
    pub heap_dir: Option<PathBuf>,
    /// Writes a heap snapshot this often, seconds; 0 never. Needs --heap-dir.
    #[arg(long, env = "SLUICE_HEAP_EVERY_SECONDS", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=limits::HEAP_EVERY_MAX.as_secs()), value_name = "N")]
    pub heap_every_seconds: u64,
    /// How long the allocator keeps freed memory, milliseconds. Less gives a burst's memory back sooner, more saves CPU.
    #[arg(long, env = "SLUICE_HEAP_DECAY_MS", default_value_t = limits::HEAP_DECAY.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(..=600_000), value_name = "N")]
    pub heap_decay_ms: u64,
}

impl HeapArgs {
    /// The same as settings.
    pub fn checked(&self) -> HeapConfig {
        let every = Duration::from_secs(self.heap_every_seconds);
        HeapConfig {
            folder: self.heap_dir.clone(),
            every: (!every.is_zero()).then_some(every),
            decay: Duration::from_millis(self.heap_decay_ms),
        }
    }
}

/// Settings.
#[derive(Clone, Debug)]
pub struct HeapConfig {
    /// Where snapshots are kept; `None` keeps none.
    pub folder: Option<PathBuf>,
    /// Takes one this often.
    pub every: Option<Duration>,
    /// How long the allocator keeps freed memory.
    pub decay: Duration,
}

/// Takes snapshots of this process's heap, one at a time.
#[derive(Debug)]
pub struct Forensics {
    one: Arc<Semaphore>,
    folder: Option<Folder>,
    every: Option<Duration>,
}

impl Forensics {
    /// Nothing is touched yet.
    pub fn new(config: &HeapConfig) -> Self {
        Self {
            one: Arc::new(Semaphore::new(1)),
            folder: config.folder.clone().map(Folder::at),
            every: config.every,
        }
    }

    /// A snapshot as a file's bytes; waits for one that is being taken, up to [`limits::HEAP_SNAPSHOT_WAIT`].
    pub async fn take(&self, kind: Kind) -> Result<Vec<u8>, SnapshotError> {
        let turn = Arc::clone(&self.one).acquire_owned();
        let turn = tokio::time::timeout(limits::HEAP_SNAPSHOT_WAIT, turn)
            .await
            .map_err(|_| SnapshotError::Busy)?;
        // The turn goes along: a caller that hangs up does not let the next one in beside this work.
        let work = move || {
            let _turn = turn;
            dump::take(kind)
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Takes a snapshot with everything in it and keeps it in the folder.
    pub async fn keep(&self) -> Result<PathBuf, SnapshotError> {
        let folder = self.folder.clone().ok_or(SnapshotError::NoFolder)?;
        let snapshot = self.take(Kind::Allocs).await?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = since.map_or(0, |d| d.as_millis() as i64);
        let kept = tokio::task::spawn_blocking(move || folder.keep(&snapshot, unix_ms)).await?;
        Ok(kept?)
    }
}

/// Keeps a snapshot at each signal and at each interval; ends with its task.
pub async fn run(core: Arc<Core>, mut signal: Signal) {
    if let Some(folder) = &core.forensics.folder
        && let Err(error) = folder.prepare()
    {
        // Better known now than at the signal.
        events::heap_snapshot_failed(&error.into());
    }
    let period = core.forensics.every;
    let period_or_idle = period.unwrap_or(limits::HEAP_EVERY_MAX);
    let mut timer = tokio::time::interval_at(Instant::now() + period_or_idle, period_or_idle);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = signal.recv() => if received.is_none() { return },
            _ = timer.tick(), if period.is_some() => {}
        }
        let began = std::time::Instant::now();
        let kept = core.forensics.keep().await;
        core.metrics.heap.snapshot(kept.is_ok());
        match kept {
            Ok(path) => events::heap_snapshot_kept(&path, began.elapsed()),
            Err(error) => events::heap_snapshot_failed(&error),
        }
    }
}
