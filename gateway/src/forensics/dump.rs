//! Effects (allocator, memory file): takes a heap snapshot of this process.
//!
//! jemalloc writes its dump to a path. The path here is that of an anonymous memory file, so snapshots work in an image
//! without a writable folder. Function names come from the program's own file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;
use tikv_jemalloc_ctl::{Access as _, AsName as _};

use super::jeheap::{self, DumpError, Reader};
use super::names::qualified;
use super::pprof::{self, Counts, Frame, Kind, Location, Profile, Sample};
use super::{allocator, folder::FolderError};
use crate::limits;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The allocator keeps no profile.
    #[error(
        "this process keeps no heap profile: it was built without .cargo/config.toml, or _RJEM_MALLOC_CONF has prof:false"
    )]
    Off,
    /// Other snapshots are being taken.
    #[error("another snapshot is being taken")]
    Busy,
    /// jemalloc would not.
    #[error("jemalloc made no dump: {0}")]
    Allocator(tikv_jemalloc_ctl::Error),
    /// The memory file failed.
    #[error("jemalloc's dump cannot be read: {0}")]
    Dump(#[from] std::io::Error),
    /// The dump is not what was expected.
    #[error(transparent)]
    Format(#[from] DumpError),
    /// It could not be kept.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is nowhere to keep it.
    #[error("no folder for snapshots: start with --heap-dir DIR")]
    NoFolder,
    /// The task that took it failed.
    #[error("taking the snapshot failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Where jemalloc writes. One per process, for its path must live as long as the process.
struct Sink {
    file: File,
    path: &'static str,
}

/// Opens the memory file, so that the first snapshot does not change the number of descriptors.
pub fn prepare() -> Result<(), SnapshotError> {
    if !allocator::is_profiling() {
        return Err(SnapshotError::Off);
    }
    sink().map(drop)
}

fn sink() -> Result<&'static Mutex<Sink>, SnapshotError> {
    static SINK: OnceLock<Mutex<Sink>> = OnceLock::new();
    if let Some(sink) = SINK.get() {
        return Ok(sink);
    }
    let descriptor = memfd_create(c"heap", MFdFlags::MFD_CLOEXEC).map_err(std::io::Error::from)?;
    let file = File::from(descriptor);
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd()).leak();
    Ok(SINK.get_or_init(|| Mutex::new(Sink { file, path })))
}

/// A snapshot as a file's bytes. Blocks for as long as jemalloc and the search for names take, up to a second.
pub fn take(kind: Kind) -> Result<Vec<u8>, SnapshotError> {
    if !allocator::is_profiling() {
        return Err(SnapshotError::Off);
    }
    let (interval, paths) = raw_paths()?;
    let profile = named(paths, interval, kind);
    Ok(pprof::encode(&profile))
}

/// Nanoseconds since 1970.
fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_nanos() as u64)
}

fn raw_paths() -> Result<(u64, Vec<jeheap::Path>), SnapshotError> {
    let sink = sink()?;
    let sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    // jemalloc opens the path anew and cuts the file to nothing first.
    b"prof.dump\0"
        .name()
        .write(sink.path)
        .map_err(SnapshotError::Allocator)?;
    let read = read_dump(&sink.file);
    // The dump's pages count as this process's memory until they are given back.
    sink.file.set_len(0)?;
    read
}

fn read_dump(mut file: &File) -> Result<(u64, Vec<jeheap::Path>), SnapshotError> {
    file.rewind()?;
    let mut reader = Reader::default();
    for line in BufReader::new(file).lines() {
        reader.line(&line?)?;
    }
    Ok(reader.finish()?)
}

fn named(paths: Vec<jeheap::Path>, interval: u64, kind: Kind) -> Profile {
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut locations = Vec::new();
    let mut samples = Vec::new();
    for path in paths {
        if path.counts == Counts::default() || (kind == Kind::Inuse && path.counts.inuse_bytes == 0)
        {
            continue;
        }
        let place = |address: u64| {
            *places.entry(address).or_insert_with(|| {
                locations.push(resolve(address));
                locations.len() - 1
            })
        };
        let stack = path.addresses.into_iter().map(place).collect();
        let counts = path.counts;
        samples.push(Sample { stack, counts });
    }
    // The names' tables are a multiple of a snapshot's size, and the next one may be a day away.
    backtrace::clear_symbol_cache();
    let program = std::env::current_exe().unwrap_or_default();
    Profile {
        kind,
        time_nanos: now_nanos(),
        interval,
        program: program.to_string_lossy().into_owned(),
        locations,
        samples,
    }
}

fn resolve(return_address: u64) -> Location {
    // A return address is behind the call; one byte less is inside it.
    let address = return_address.saturating_sub(1);
    let mut frames = Vec::new();
    backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
        if frames.len() < limits::HEAP_INLINED_FRAMES
            && let Some(name) = symbol.name()
        {
            let file = symbol
                .filename()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default();
            frames.push(Frame {
                // The alternate form leaves the compiler's hash out.
                function: qualified(&format!("{name:#}"), &file),
                file,
                line: u64::from(symbol.lineno().unwrap_or(0)),
            });
        }
    });
    Location { address, frames }
}
