//! Effects (reads the sources): every file says whether it is pure, and the pure ones are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

#[test]
fn every_file_says_what_it_is() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display();
        if text.starts_with("//! Pure") {
            for word in [
                "async fn",
                ".await",
                "Instant::now",
                "rand::",
                "tokio::spawn",
            ] {
                assert!(
                    !text.contains(word),
                    "{name} is called pure and contains {word}"
                );
            }
        } else {
            assert!(
                text.starts_with("//! Effects"),
                "{name} does not open with its kind"
            );
        }
    }
}
