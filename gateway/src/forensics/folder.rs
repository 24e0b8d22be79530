//! Effects (files): a folder of heap snapshots with a bounded number and size.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::rotation::{Kept, file_name, is_snapshot, surplus};
use crate::limits;

/// Ends the name of a file that is being written.
const PART: &str = ".part";

/// Why a snapshot is not in the folder.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It alone is larger than the folder may be.
    #[error("the snapshot has {bytes} bytes, the folder may have {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// Limit.
        most: u64,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FolderError + 'a {
    move |source| FolderError::File {
        doing,
        path: path.into(),
        source,
    }
}

/// A bounded folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`; nothing is touched yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the folder and removes what an interrupted write left.
    pub fn prepare(&self) -> Result<(), FolderError> {
        fs::create_dir_all(&self.path).map_err(failed("make the folder", &self.path))?;
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let path = entry.map_err(failed("list", &self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.strip_suffix(PART).is_some_and(is_snapshot) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Writes a snapshot under its time's name, after making room for it.
    pub fn keep(&self, snapshot: &[u8], unix_ms: i64) -> Result<PathBuf, FolderError> {
        let (most, most_bytes) = (limits::HEAP_FILES, limits::HEAP_FOLDER_BYTES);
        if snapshot.len() as u64 > most_bytes {
            return Err(FolderError::TooLarge {
                bytes: snapshot.len(),
                most: most_bytes,
            });
        }
        self.prepare()?;
        for name in surplus(self.kept()?, snapshot.len() as u64, most, most_bytes) {
            let path = self.path.join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let path = self.path.join(file_name(unix_ms));
        // Written aside and renamed: who reads the folder never sees half a file.
        let part = self.path.join(format!("{}{PART}", file_name(unix_ms)));
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(snapshot)?;
            fs::rename(&part, &path)
        };
        write().map_err(failed("write", &path))?;
        Ok(path)
    }

    fn kept(&self) -> Result<Vec<Kept>, FolderError> {
        let mut kept = Vec::new();
        for path in snapshots(&self.path)? {
            let bytes = fs::metadata(&path).map_err(failed("read", &path))?.len();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            kept.push(Kept {
                name: name.into_owned(),
                bytes,
            });
        }
        Ok(kept)
    }
}

/// The snapshots in a folder, oldest first.
pub fn snapshots(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        if is_snapshot(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_folder_stays_within_its_limits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/folder");
        let folder = Folder::at(path.clone());
        for i in (0..).take(limits::HEAP_FILES + 3) {
            folder.keep(b"snapshot", i).unwrap();
        }
        fs::write(path.join("mine.txt"), "kept").unwrap();
        fs::write(path.join(format!("{}{PART}", file_name(5))), "half").unwrap();
        folder.keep(b"last", 1000).unwrap();
        let all = snapshots(&path).unwrap();
        assert_eq!(all.len(), limits::HEAP_FILES);
        assert_eq!(fs::read(all.last().unwrap()).unwrap(), b"last");
        assert!(all[0].ends_with(file_name(4)));
        assert_eq!(fs::read_dir(&path).unwrap().count(), all.len() + 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::at(file.path().join("sub"))
            .keep(b"x", 1)
            .unwrap_err();
        assert!(error.to_string().starts_with("cannot make the folder"));
    }
}
