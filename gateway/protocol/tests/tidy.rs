//! Effects (reads the sources): this crate is pure, and every file says what it is.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure file has no use for.
const IMPURE: [&str; 9] = [
    "async fn",
    ".await",
    "Instant::now",
    "SystemTime",
    "rand::",
    "tokio::",
    "std::net",
    "std::fs",
    "thread::",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_file_is_pure_and_says_so() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 10);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//! Pure"),
            "{} does not open with its kind",
            file.display()
        );
        for word in IMPURE {
            assert!(!text.contains(word), "{} contains {word}", file.display());
        }
    }
}
