//! Every seed, every input of the corpus and every input that once broke a rule, through its target. A panic anywhere in the
//! gateway fails, in a task of its own, too, where the runtime would swallow it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn every_known_input_keeps_the_rules() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        shown(panic);
    }));
    let mut broken = Vec::new();
    for name in sluice_fuzz::TARGETS {
        let target = sluice_fuzz::target(name).unwrap();
        let seeds = sluice_fuzz::seeds::of(name);
        assert!(seeds.len() > 10, "{name} has {} seeds", seeds.len());
        let seeds = (0..)
            .zip(seeds)
            .map(|(number, seed): (u32, _)| (format!("seed {number}"), seed));
        for (input, bytes) in seeds
            .chain(files("corpus", name))
            .chain(files("cases", name))
        {
            let before = PANICS.load(Ordering::Relaxed);
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            if outcome.is_err() || PANICS.load(Ordering::Relaxed) > before {
                broken.push(format!("{name}: {input}: {}", bytes.escape_ascii()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "{} inputs:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

fn files(kind: &str, target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}
