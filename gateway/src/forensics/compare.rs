//! Effects (files, printing): `sluice-gateway heap-diff`: compares heap snapshots offline.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use super::diff::{Diff, Excess, diff};
use super::folder::{FolderError, snapshots};
use super::pprof::{DecodeError, Kind, Profile, decode};
use super::size;
use crate::limits;

/// Flags of `heap-diff`.
#[derive(Clone, Debug, Args)]
pub struct HeapDiff {
    /// Earlier snapshot, or a folder whose snapshots are compared one with the next.
    #[arg(value_name = "A|DIR")]
    pub before: PathBuf,
    /// Later snapshot.
    #[arg(value_name = "B")]
    pub after: Option<PathBuf>,
    /// Exit with 1 when memory grew by more than this, in all or on one path, for example `10MiB`.
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub fail_above: Option<u64>,
    /// Compare memory in use, or all memory asked for.
    #[arg(long, value_enum, default_value = "inuse")]
    pub kind: Kind,
    /// Call paths to show per comparison.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub top: usize,
}

/// Why nothing was compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no snapshot.
    #[error("{} is not a heap snapshot: {source}", path.display())]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// The folder cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// One file and nothing to compare it with.
    #[error("{} is a file: name a second one to compare it with, or a folder", .0.display())]
    Alone(PathBuf),
    /// Fewer than two snapshots.
    #[error("{} holds {found} snapshots (heap-*.pb.gz), two are needed", path.display())]
    TooFew {
        /// Folder.
        path: PathBuf,
        /// Snapshots in it.
        found: usize,
    },
    /// The table cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Compares and prints; true when something grew above the limit.
pub fn run(flags: &HeapDiff) -> Result<bool, CompareError> {
    let mut out = io::stdout().lock();
    let Some(after) = &flags.after else {
        return folder(flags, &mut out);
    };
    let (before, after) = (read(&flags.before)?, read(after)?);
    let found = diff(&before, &after, flags.kind);
    out.write_all(found.table(flags.top).as_bytes())?;
    Ok(judge(&found, flags, &mut out)?)
}

fn folder(flags: &HeapDiff, out: &mut impl io::Write) -> Result<bool, CompareError> {
    let path = &flags.before;
    if path.is_file() {
        return Err(CompareError::Alone(path.clone()));
    }
    let files = snapshots(path)?;
    let [first, rest @ ..] = files.as_slice() else {
        return Err(too_few(path, 0));
    };
    if rest.is_empty() {
        return Err(too_few(path, 1));
    }
    let oldest = read(first)?;
    let (mut earlier, mut earlier_name) = (oldest.clone(), name(first));
    let mut above = false;
    for file in rest {
        let later = read(file)?;
        let found = diff(&earlier, &later, flags.kind);
        writeln!(out, "{earlier_name} → {}", name(file))?;
        out.write_all(found.table(flags.top).as_bytes())?;
        above |= judge(&found, flags, out)?;
        writeln!(out)?;
        (earlier, earlier_name) = (later, name(file));
    }
    if rest.len() > 1 {
        // Growth too slow to show between neighbours.
        let found = diff(&oldest, &earlier, flags.kind);
        writeln!(out, "{} → {earlier_name}, first and last", name(first))?;
        out.write_all(found.table(flags.top).as_bytes())?;
        above |= judge(&found, flags, out)?;
    }
    Ok(above)
}

fn too_few(path: &Path, found: usize) -> CompareError {
    CompareError::TooFew {
        path: path.into(),
        found,
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn judge(found: &Diff, flags: &HeapDiff, out: &mut impl io::Write) -> io::Result<bool> {
    let Some(limit) = flags.fail_above else {
        return Ok(false);
    };
    let shown = size::show(i64::try_from(limit).unwrap_or(i64::MAX));
    match found.excess(limit) {
        None => writeln!(out, "within {shown}")?,
        Some(Excess::Total(bytes)) => {
            writeln!(out, "ABOVE {shown}: grew by {} in all", size::show(bytes))?;
        }
        Some(Excess::Path(path, bytes)) => {
            writeln!(out, "ABOVE {shown}: {} on {path}", size::show(bytes))?;
        }
    }
    Ok(found.excess(limit).is_some())
}

fn read(path: &Path) -> Result<Profile, CompareError> {
    let unreadable = |source| CompareError::Read {
        path: path.into(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // A file above this cannot be a snapshot; the rest of it is not read.
    file.take(limits::HEAP_UNPACKED_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    decode(&bytes).map_err(|source| CompareError::Decode {
        path: path.into(),
        source,
    })
}
