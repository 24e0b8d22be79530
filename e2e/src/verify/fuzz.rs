//! Effects (processes): the gateway's fuzz targets, each for a minute, all at once. What one finds stays as a file that
//! `cargo test` runs from then on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use super::code;

/// The targets of `gateway/fuzz`.
const TARGETS: [&str; 3] = ["handshake", "frames", "messages"];
/// Time of one target.
const SEARCH: Duration = Duration::from_mins(1);
/// Time beyond it for start, corpus and the last input.
const GRACE: Duration = Duration::from_secs(30);
/// Longest input, bytes: some dozen frames. The largest messages are tried by the suite of RFC 6455.
const INPUT_BYTES: u32 = 4096;
/// An input that runs longer has found a connection that hangs, seconds.
const INPUT_SECONDS: u32 = 25;
/// Memory of one target, MiB; a gateway with one connection needs a tenth of it.
const MEMORY_MIB: u32 = 1024;
/// Lines of a failed target's output that are shown.
const TAIL_LINES: usize = 40;

/// Builds the targets and runs them side by side; says seed, speed and coverage of each.
///
/// # Errors
/// When one does not build, or finds an input that breaks a rule.
pub async fn targets(root: &Path) -> Result<String> {
    let programs = build(root).await?;
    let searches = TARGETS.map(|target| search(root, &programs, target));
    let mut said = Vec::new();
    let mut failures = Vec::new();
    for outcome in futures::future::join_all(searches).await {
        match outcome {
            Ok(line) => said.push(line),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() {
        Ok(said.join("; "))
    } else {
        bail!("{}", failures.join("\n"))
    }
}

/// The programs by name. `instrument` stands before the compiler for the workspace's own crates; dependencies are those of
/// every other build.
async fn build(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = code::cargo(root);
    cargo.arg("build").env(
        "RUSTC_WORKSPACE_WRAPPER",
        root.join("gateway/fuzz/instrument"),
    );
    for name in TARGETS {
        cargo.args(["--bin", name]);
    }
    let output = code::run(cargo.args([
        "--release",
        "--features",
        "sluice-fuzz/libfuzzer",
        "--locked",
        "--message-format",
        "json-render-diagnostics",
    ]))
    .await
    .context("building the fuzz targets (libFuzzer needs a C++ compiler)")?;
    let programs: BTreeMap<String, PathBuf> = output.lines().filter_map(program).collect();
    for name in TARGETS {
        if !programs.contains_key(name) {
            bail!("cargo built no {name}");
        }
    }
    Ok(programs)
}

/// Name and path of a program in a line of cargo's messages.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message["executable"].as_str()?;
    Some((
        message["target"]["name"].as_str()?.to_owned(),
        PathBuf::from(path),
    ))
}

async fn search(root: &Path, programs: &BTreeMap<String, PathBuf>, target: &str) -> Result<String> {
    let home = root.join("gateway/fuzz");
    let work = root.join("target/fuzz/inputs").join(target);
    // New inputs go to the first folder and are the start of the next run on this machine.
    let (found, seeds) = (work.join("found"), work.join("seeds"));
    let (corpus, cases) = (
        home.join("corpus").join(target),
        home.join("cases").join(target),
    );
    for folder in [&found, &seeds, &corpus, &cases] {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let seed: u32 = rand::random_range(1..=u32::MAX);
    let mut command = Command::new(&programs[target]);
    command
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_total_time={}", SEARCH.as_secs()))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .args(["-print_final_stats=1", "-reload=0"])
        .arg(format!(
            "-dict={}",
            home.join("dictionaries").join(target).display()
        ))
        .arg(format!("-artifact_prefix={}/", cases.display()))
        .args([&found, &corpus, &cases, &seeds])
        // The program writes the suite's cases there before it reads the folder.
        .env("SLUICE_FUZZ_SEEDS", &seeds)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(SEARCH + GRACE, command.output())
        .await
        .with_context(|| format!("{target} with seed {seed} does not end"))?
        .with_context(|| format!("starting {target}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        bail!(
            "{target} with seed {seed} found an input (in {}, run by `cargo test` from now on):\n{tail}",
            cases.display()
        );
    }
    let (inputs, covered) = figures(&text).with_context(|| format!("{target} gave no figures"))?;
    let speed = inputs / SEARCH.as_secs();
    Ok(format!(
        "{target} seed {seed}, {speed}/s, {inputs} inputs, {covered} edges"
    ))
}

/// Inputs that ran and edges of the code that they covered, from libFuzzer's closing lines.
fn figures(text: &str) -> Option<(u64, u64)> {
    let after = |line: &str, mark: &str| -> Option<u64> {
        line.split_once(mark)?
            .1
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    let inputs = text
        .lines()
        .find_map(|line| after(line, "stat::number_of_executed_units:"))?;
    let covered = text.lines().rev().find_map(|line| after(line, " cov: "))?;
    Some((inputs, covered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_the_closing_lines() {
        let text = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #900\tDONE   cov: 321 ft: 999 corp: 40/1Kb lim: 4096 exec/s: 15 rss: 60Mb\n\
                    Done 900 runs in 60 second(s)\n\
                    stat::number_of_executed_units: 900\n\
                    stat::average_exec_per_sec:     15\n";
        assert_eq!(figures(text), Some((900, 321)));
        assert_eq!(figures("nothing ran"), None);
    }

    #[test]
    fn programs_are_named_by_cargo() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"frames"},"executable":"/t/frames"}"#;
        assert_eq!(
            program(line),
            Some(("frames".into(), PathBuf::from("/t/frames")))
        );
        assert_eq!(
            program(r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#),
            None
        );
    }
}
