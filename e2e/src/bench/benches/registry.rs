//! Effects (a process): what entering and forgetting a connection costs in the gateway's sharded tables, against one table for all
//! threads. The gateway's own benchmark measures it, because only it reaches the shards.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::bench::context::Context;
use crate::bench::figure::{Figure, Findings};
use crate::bench::machine::{LOAD_CORE, SERVER_CORE, on_cores};

/// Replacements per second over both threads, one sample per run.
#[derive(Debug, Deserialize)]
struct Samples {
    shards: Vec<f64>,
    dashmap: Vec<f64>,
    rwlock: Vec<f64>,
}

/// All three tables, in turn.
///
/// # Errors
/// When the program fails.
pub fn run(bench: &Context) -> Result<Findings> {
    let program = bench.registry.as_ref().context("it was not built")?;
    let mut command = Command::new(program);
    for (flag, value) in [
        ("--connections", bench.scale.connections),
        ("--replacements", bench.scale.replacements),
        ("--pairs", bench.scale.pairs),
        ("--threads", 2),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = on_cores(&[SERVER_CORE, LOAD_CORE], || Ok(command.output()?))?;
    ensure!(output.status.success(), "it ended with {}", output.status);
    let samples: Samples = serde_json::from_slice(&output.stdout).context("reading its figures")?;
    let over = |others: &[f64]| -> Vec<f64> {
        let pairs = samples.shards.iter().zip(others);
        pairs.map(|(ours, other)| ours / other).collect()
    };
    let unit = "/s";
    Ok(Findings {
        figures: vec![
            Figure::of("over_dashmap", "×", &over(&samples.dashmap))
                .note("shards' tables with sessions, letters and counts; DashMap alone"),
            Figure::of("over_rwlock", "×", &over(&samples.rwlock)).note("RwLock<HashMap> alone"),
            Figure::of("shards_per_second", unit, &samples.shards)
                .note("one goes, one comes; two threads"),
            Figure::of("dashmap_per_second", unit, &samples.dashmap),
            Figure::of("rwlock_per_second", unit, &samples.rwlock),
        ],
        ..Findings::default()
    })
}
