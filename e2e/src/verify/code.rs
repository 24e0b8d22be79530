//! Effects: the checks that need no cluster: format, lints, tests, chart.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::cluster::tools::Tools;

/// Lines of a failed command's output that are shown.
const TAIL_LINES: usize = 60;

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
/// With the tail of both outputs when it fails.
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
    let all = format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = all.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    bail!("{shown} ended with {}:\n{tail}", output.status)
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
}
