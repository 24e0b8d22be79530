//! The shape of the code: every file says what it is and that it is pure, is so, and keeps within bounds.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

const IMPURE: [&str; 11] = [
    "async ",
    ".await",
    "tokio",
    "kube::Client",
    "Instant::now",
    "Timestamp::now",
    "SystemTime",
    "rand::",
    "println!",
    "std::fs",
    "std::env",
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

#[test]
fn files_say_what_they_are_and_keep_to_it() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() >= 10);
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display();
        // The first paragraph says which kind a file is.
        let opening: String = text
            .lines()
            .take_while(|line| line.starts_with("//! "))
            .collect();
        assert!(
            opening.contains("(pure") || opening.contains("Pure"),
            "{name}: {opening}"
        );
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines");
        for word in IMPURE {
            assert!(!code.contains(word), "{name} is not pure: {word}");
        }
    }
}
