//! Pure files stay pure: they have no async, clock, randomness, client or print.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// Words a pure file has no use for.
const IMPURE: [&str; 14] = [
    "async ",
    ".await",
    "tokio",
    "kube::Client",
    "kube::Api",
    "Instant::now",
    "Timestamp::now",
    "SystemTime",
    "Zoned::now",
    "rand::",
    "println!",
    "tracing::",
    "std::fs",
    "std::env",
];

/// Lines a file may have, its tests included; about 400 is the aim, more hides two rooms.
const MAX_LINES: usize = 480;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The lines a file opens with to say what it is.
fn doc_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.starts_with("//!"))
}

#[test]
fn pure_files_stay_pure() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut pure = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            doc_lines(&text).next().is_some(),
            "{} does not say what it is for",
            file.display()
        );
        // The first paragraph says which kind a file is; pictures further down speak of other files.
        let first: String = doc_lines(&text).take_while(|line| line.len() > 3).collect();
        let says_pure = first.contains("(pure") && !first.contains("(effects");
        let in_plan = file
            .components()
            .any(|part| part.as_os_str() == "plan" || part.as_os_str() == "render");
        assert!(
            says_pure || !in_plan,
            "{} must say that it is pure",
            file.display()
        );
        if !says_pure {
            continue;
        }
        pure += 1;
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in IMPURE {
                assert!(
                    !code.contains(word),
                    "{}:{}: {word} in a pure file",
                    file.display(),
                    number + 1
                );
            }
        }
    }
    assert!(pure >= 15, "only {pure} pure files were found");
}

#[test]
fn files_are_one_room_each() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", file.display());
    }
}
