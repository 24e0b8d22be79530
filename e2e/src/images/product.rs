//! Effects: builds the workspace's own programs with cargo, in the same profile as this very program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::limits::TAIL_LINES;
use crate::progress::step;

/// A built program and where it is.
pub type Built = Vec<(String, PathBuf)>;

/// Builds gateway, operator and the kubectl plugin.
///
/// # Errors
/// With the compiler's own words.
pub async fn build() -> Result<Built> {
    // Without `-p`, so that features are resolved as for the program that runs this, and nothing is compiled twice.
    let arguments = [
        "--bin",
        "sluice-gateway",
        "--bin",
        "sluice-operator",
        "--bin",
        "kubectl-sluice",
    ];
    step("building gateway and operator", cargo(&arguments)).await
}

/// Builds the gateway alone.
///
/// # Errors
/// With the compiler's own words.
pub async fn build_gateway() -> Result<PathBuf> {
    let built = step("building the gateway", cargo(&["--bin", "sluice-gateway"])).await?;
    find(&built, "sluice-gateway")
}

/// Builds one of the gateway's own benchmarks, which reach its inner parts.
///
/// # Errors
/// With the compiler's own words.
pub async fn build_gateway_bench(name: &str) -> Result<PathBuf> {
    let built = step("building a benchmark", cargo(&["--bench", name])).await?;
    find(&built, name)
}

/// Builds the program of the pods' sandboxes.
///
/// # Errors
/// With the compiler's own words.
pub async fn build_pause() -> Result<Built> {
    step("building pause", cargo(&["--bin", "pause"])).await
}

fn find(built: &Built, name: &str) -> Result<PathBuf> {
    let found = built.iter().find(|(n, _)| n == name);
    Ok(found
        .with_context(|| format!("cargo built no program {name}"))?
        .1
        .clone())
}

/// The program without line numbers, in `folder`: a fifth of the size for every node to load. Backtraces keep the names of
/// functions. Without binutils it stays as it is.
///
/// # Errors
/// When the program was not built.
pub fn slim(built: &Built, name: &str, folder: &Path) -> Result<PathBuf> {
    let program = find(built, name)?;
    let slim = folder.join(format!("{name}.slim"));
    let mut strip = std::process::Command::new("strip");
    strip
        .arg("--strip-debug")
        .arg("-o")
        .arg(&slim)
        .arg(&program);
    let outcome = strip.stdin(Stdio::null()).stderr(Stdio::null()).status();
    Ok(if outcome.is_ok_and(|s| s.success()) {
        slim
    } else {
        program
    })
}

async fn cargo(arguments: &[&str]) -> Result<Built> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(crate::repository_root()?)
        .args(["build", "--message-format=json-render-diagnostics"]);
    // A harness that was built to be fast tests programs that were.
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting cargo")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        bail!(
            "cargo build failed:\n{}",
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(executable)
        .collect())
}

/// The program that a line of cargo's messages reports.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    Some((message["target"]["name"].as_str()?.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_programs_count() {
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#;
        let program =
            r#"{"reason":"compiler-artifact","target":{"name":"pause"},"executable":"/t/pause"}"#;
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(program),
            Some(("pause".into(), "/t/pause".into()))
        );
        assert_eq!(executable("not json"), None);
    }
}
