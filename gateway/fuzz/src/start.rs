//! Effects (writes files): the suite's cases as a folder that libFuzzer reads next.
#![allow(clippy::panic)]

use std::path::PathBuf;

/// Names the folder; without it a program starts from the folders on its command line alone.
pub const SEEDS_FOLDER: &str = "SLUICE_FUZZ_SEEDS";

/// Writes a target's seeds, one file each.
pub fn write_seeds(target: &str) {
    let Some(folder) = std::env::var_os(SEEDS_FOLDER).map(PathBuf::from) else {
        return;
    };
    for (number, seed) in (0..).zip(crate::seeds::of(target)) {
        let path = folder.join(format!("seed-{number:03}"));
        if let Err(error) = std::fs::write(&path, seed) {
            panic!("{}: {error}", path.display());
        }
    }
}
