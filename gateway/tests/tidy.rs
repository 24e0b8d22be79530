//! The shape of the code: every file says what it is, pure files are pure, files and lines keep within bounds.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

const IMPURE: [&str; 9] = [
    "async ",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "tokio::spawn",
    "println!",
    "std::fs",
    "std::net::Tcp",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_say_what_they_are_and_keep_to_it() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 20);
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display();
        let first = text.lines().next().unwrap_or_default();
        let is_root = path.ends_with("lib.rs");
        assert!(
            is_root || first.starts_with("//! Pure") || first.starts_with("//! Effects"),
            "{name}: {first}"
        );
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        assert!(
            code.lines().count() <= 420,
            "{name} has {} lines",
            code.lines().count()
        );
        if first.starts_with("//! Pure") {
            for word in IMPURE {
                assert!(!code.contains(word), "{name} is not pure: {word}");
            }
        }
    }
}
