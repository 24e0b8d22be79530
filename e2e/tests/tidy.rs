//! The shape of the code: every file says what it is, pure files are pure, files keep within bounds.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

const IMPURE: [&str; 11] = [
    "async ",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "rand::",
    "tokio::spawn",
    "println!",
    "std::fs",
    "std::process",
    "std::net::Tcp",
];

/// Lines of code a file may have, its tests not counted.
const MAX_LINES: usize = 420;

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

/// True for a file that says it is pure without an exception.
fn says_pure(first: &str) -> bool {
    first.starts_with("//! Pure:") || first.starts_with("//! Pure test:")
}

#[test]
fn files_say_what_they_are_and_keep_to_it() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 50);
    let mut pure = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display();
        let first = text.lines().next().unwrap_or_default();
        // These two open with the picture of what is in them.
        let is_map = path.ends_with("src/lib.rs") || path.ends_with("cluster/mod.rs");
        assert!(
            is_map || first.starts_with("//! Pure") || first.starts_with("//! Effects"),
            "{name}: {first}"
        );
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines");
        if says_pure(first) {
            pure += 1;
            for word in IMPURE {
                assert!(!code.contains(word), "{name} is not pure: {word}");
            }
        }
    }
    assert!(pure >= 15, "only {pure} pure files were found");
}
