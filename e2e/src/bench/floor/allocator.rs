//! Effects (allocator): what this thread has allocated, and what the process has.

use anyhow::{Result, anyhow};
use tikv_jemalloc_ctl::{Access as _, AsName as _, epoch, thread};

/// With this in the environment a process has exact counts: no sampling, and no allocation that a thread's cache answers.
pub const COUNTED: (&str, &str) = ("_RJEM_MALLOC_CONF", "prof:false,tcache:false");

/// What was handed out since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Bytes, of this thread.
    pub bytes: u64,
    /// Allocations, of the process; exact with [`COUNTED`].
    pub times: u64,
}

/// Everything up to now.
///
/// # Errors
/// In a program that has another allocator.
pub fn allocated() -> Result<Allocated> {
    let read = || {
        epoch::advance()?;
        // 4096 is jemalloc's number for all arenas together.
        let times = ["small", "large"].map(|kind| {
            let name = format!("stats.arenas.4096.{kind}.nmalloc\0");
            name.as_bytes().name().read()
        });
        let [small, large]: [Result<u64, _>; 2] = times;
        Ok::<_, tikv_jemalloc_ctl::Error>(Allocated {
            bytes: thread::allocatedp::read()?.get(),
            times: small? + large?,
        })
    };
    read().map_err(|error| anyhow!("asking the allocator: {error}"))
}

/// Bytes that this thread holds: what it allocated less what it freed.
///
/// # Errors
/// In a program that has another allocator.
pub fn held() -> Result<f64> {
    let read = || {
        let (taken, freed) = (thread::allocatedp::read()?, thread::deallocatedp::read()?);
        Ok::<_, tikv_jemalloc_ctl::Error>(taken.get() as f64 - freed.get() as f64)
    };
    read().map_err(|error| anyhow!("asking the allocator: {error}"))
}
