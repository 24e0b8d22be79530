//! Effects (allocator): jemalloc's settings and figures. The program makes it the global allocator in `main`.
//!
//! What must be known before the first allocation, that a profile is kept and that it counts allocations since the start, is
//! compiled into jemalloc by `.cargo/config.toml`; `_RJEM_MALLOC_CONF=prof:false` in the environment takes it back. One allocation in
//! 512 KiB is sampled, jemalloc's own choice, so that a handshake's 28 KB are sampled once in twenty; `lg_prof_sample:12` there samples
//! one in 4 KiB.
//! Everything else is set here, at the start of `main`.

use std::sync::OnceLock;
use std::time::Duration;

use tikv_jemalloc_ctl::{Access, AsName, Error, Mib, Name, epoch, profiling, stats};

use crate::limits;

/// jemalloc's number for "all arenas together" (`MALLCTL_ARENAS_ALL`).
const ALL_ARENAS: u32 = 4096;

/// The heap in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that the program holds.
    pub allocated: u64,
    /// Bytes of memory that stand behind them, free but not given back ones included.
    pub resident: u64,
    /// Bytes handed out since the start.
    pub allocated_total: u64,
    /// In so many allocations.
    pub allocations: u64,
}

/// Sets how long freed memory is kept, and lets a thread of jemalloc's own give it back. Must be called once, before other threads
/// allocate much.
pub fn configure(decay: Duration) -> Result<(), Error> {
    let decay = decay.as_millis() as isize;
    // For arenas to come, then for those that are there; an arena that nobody uses yet refuses.
    set("arenas.dirty_decay_ms", decay)?;
    set("arenas.muzzy_decay_ms", limits::HEAP_MUZZY_DECAY)?;
    let arenas: u32 = get("arenas.narenas")?;
    for arena in 0..arenas {
        let _ = set(&format!("arena.{arena}.dirty_decay_ms"), decay);
        let _ = set(
            &format!("arena.{arena}.muzzy_decay_ms"),
            limits::HEAP_MUZZY_DECAY,
        );
    }
    // Without it an idle process keeps what it freed last: decay runs only as the program allocates.
    set("background_thread", true)
}

/// True when snapshots can be taken.
pub fn is_profiling() -> bool {
    profiling::prof::read().unwrap_or(false)
}

/// Figures of now; all 0 in a process that has another allocator. Takes some 50 µs.
pub fn figures() -> Figures {
    read_figures().unwrap_or_default()
}

fn read_figures() -> Result<Figures, Error> {
    epoch::advance()?;
    let (mut allocated_total, mut allocations) = (0u64, 0u64);
    for (size, counts) in classes()? {
        let (requested, taken): (u64, u64) = (counts[0].read()?, counts[1].read()?);
        let count = requested.max(taken);
        allocated_total = allocated_total.saturating_add(size.saturating_mul(count));
        allocations = allocations.saturating_add(count);
    }
    Ok(Figures {
        allocated: stats::allocated::read()? as u64,
        resident: stats::resident::read()? as u64,
        allocated_total,
        allocations,
    })
}

/// A size class: bytes, and the names of its two counts.
type Class = (u64, [Mib<[usize; 6]>; 2]);

/// All size classes. jemalloc has no figure for bytes since the start; the counts per class give it. Requests are counted in
/// each thread's cache and added when it is next refilled or trimmed, what caches took is counted at once: the larger of the
/// two is never far behind, and never falls.
fn classes() -> Result<&'static [Class], Error> {
    static CLASSES: OnceLock<Vec<Class>> = OnceLock::new();
    if let Some(classes) = CLASSES.get() {
        return Ok(classes);
    }
    let mut classes = Vec::new();
    for (count, sizes, kind) in [
        ("arenas.nbins", "arenas.bin", "bins"),
        ("arenas.nlextents", "arenas.lextent", "lextents"),
    ] {
        for class in 0..get::<u32>(count)? {
            let size: usize = get(&format!("{sizes}.{class}.size"))?;
            let mib = |count: &str| {
                let name = format!("stats.arenas.{ALL_ARENAS}.{kind}.{class}.{count}\0");
                name.as_bytes().name().mib()
            };
            classes.push((size as u64, [mib("nrequests")?, mib("nmalloc")?]));
        }
    }
    Ok(CLASSES.get_or_init(|| classes))
}

fn get<T>(name: &str) -> Result<T, Error>
where
    Name: Access<T>,
{
    format!("{name}\0").as_bytes().name().read()
}

fn set<T>(name: &str, value: T) -> Result<(), Error>
where
    Name: Access<T>,
{
    format!("{name}\0").as_bytes().name().write(value)
}
