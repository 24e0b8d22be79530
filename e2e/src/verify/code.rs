//! Effects: the checks that need no cluster: format, lints, tests, chart.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::cluster::process::last_lines;
use crate::cluster::tools::Tools;

/// Lines of a failed command's output that are shown.
const TAIL_LINES: usize = 60;

/// Lines of failed tests' outputs that are shown.
const FAILED_LINES: usize = 400;

/// `cargo fmt --check` over the workspace.
pub async fn format(root: &Path) -> Result<String> {
    run(cargo(root).args(["fmt", "--all", "--check"])).await?;
    Ok(String::new())
}

/// Clippy over every target; a warning fails.
pub async fn lints(root: &Path) -> Result<String> {
    run(cargo(root).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
    .await?;
    Ok(String::new())
}

/// Unit, property, golden and loopback tests of every crate; the brokers' conformance suite gets a real NATS server.
pub async fn tests(root: &Path, tools: &Tools) -> Result<String> {
    let output = run(cargo(root)
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("SLUICE_NATS_SERVER", tools.binary("nats-server")))
    .await?;
    let passed = count_passed(&output);
    if passed == 0 {
        bail!("cargo test ran no test");
    }
    Ok(format!("{passed} tests"))
}

/// `helm lint --strict` and a rendering with everything switched on.
pub async fn chart(root: &Path, tools: &Tools) -> Result<String> {
    let chart = root.join("charts/sluice");
    run(Command::new(tools.helm())
        .arg("lint")
        .arg("--strict")
        .arg(&chart))
    .await?;
    let rendered = run(Command::new(tools.helm())
        .args(["template", "sluice"])
        .arg(&chart)
        .args([
            "--set",
            "nats.enabled=true",
            "--set",
            "prometheus.enabled=true",
        ]))
    .await?;
    let objects = rendered.lines().filter(|l| l.starts_with("kind: ")).count();
    if objects < 15 {
        bail!("the chart renders only {objects} objects");
    }
    Ok(format!("{objects} objects"))
}

/// Cargo in a folder: the one that runs this, where one does.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// With the tests that failed and what they said; without any, with the tail of both outputs.
pub async fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("starting {shown}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let why = failed_tests(&stdout).unwrap_or_else(|| {
        let all = format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        last_lines(&all, TAIL_LINES)
    });
    bail!("{shown} ended with {}:\n{why}", output.status)
}

/// What the test runner said of the tests that failed: their names, then their outputs. `None` when no test failed.
fn failed_tests(output: &str) -> Option<String> {
    let names: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .collect();
    let mut said = Vec::new();
    let mut failing = false;
    for line in output.lines() {
        failing = (failing || line.starts_with("---- ")) && line != "failures:";
        if failing && !line.is_empty() {
            said.push(line);
        }
    }
    said.truncate(FAILED_LINES);
    (!names.is_empty()).then(|| format!("failed: {}\n{}", names.join(", "), said.join("\n")))
}

/// Sums the passed counts of the test runner's closing lines.
fn count_passed(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn passed_counts_are_summed_over_crates() {
        let output = "test result: ok. 12 passed; 0 failed; 0 ignored\nnoise\ntest result: ok. 3 passed; 0 failed";
        assert_eq!(super::count_passed(output), 15);
        assert_eq!(super::count_passed("nothing ran"), 0);
    }

    #[test]
    fn failed_tests_are_named_before_what_they_said() {
        let output = "test a::good ... ok\ntest a::bad ... FAILED\n\nfailures:\n\n---- a::bad stdout ----\nit broke\n\n\n\
                      failures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed\ntest b::good ... ok";
        assert_eq!(
            super::failed_tests(output).as_deref(),
            Some("failed: a::bad\n---- a::bad stdout ----\nit broke")
        );
        assert_eq!(super::failed_tests("test a::good ... ok"), None);
    }
}
