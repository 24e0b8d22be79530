//! Effects (processes, files): connections come and go, a quarter of them rudely, and the gateway's own snapshots must agree with its
//! numbers that nothing of them is left.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::bench::benches::churn;
use crate::bench::context::{Context, Programs};
use crate::bench::figure::{Figure, Verdict};
use crate::bench::gateway::{Gateway, Setup};
use crate::bench::scale::Scale;
use crate::images::product;

/// One allocation in 4 KiB is sampled, so that a few dozen bytes per connection show.
const FINE: &str = "lg_prof_sample:12";

/// Growth that fails: 45 bytes for each connection that came and went.
const FAIL_ABOVE: &str = "1MiB";

/// Time to write a snapshot.
const SNAPSHOT: Duration = Duration::from_secs(30);

/// What a snapshot needed is free some seconds after it, once its thread, with what that keeps for its next allocations, has ended:
/// tokio lets one idle for 10 s.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// Wait between two looks for one.
const LOOK: Duration = Duration::from_millis(50);

/// Churns, and compares numbers and snapshots of before and after.
///
/// # Errors
/// With what grew.
pub async fn leaves_nothing() -> Result<String> {
    let programs = Programs {
        gateway: product::build_gateway().await?,
        nats: None,
        registry: None,
    };
    tokio::task::spawn_blocking(move || measure(programs)).await?
}

fn measure(programs: Programs) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let kept = folder.path().join("heap");
    let gateway = programs.gateway.clone();
    let bench = Context::new(Scale::QUICK, programs, folder.path().to_owned())?;
    let setup = Setup {
        heap_dir: Some(&kept),
        malloc_conf: Some(FINE),
        ..Setup::default()
    };
    let found = churn::around(&bench, setup, |gateway| snapshot(gateway, &kept))?;
    let broken = |figure: &&Figure| !matches!(figure.verdict(), Verdict::Pass | Verdict::Reported);
    let shown = |figure: &Figure| {
        let value = figure.value.unwrap_or(f64::NAN);
        format!("{} {value:.2} {}", figure.name, figure.note)
    };
    let broken: Vec<String> = found.figures.iter().filter(broken).map(shown).collect();
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    let compared = Command::new(gateway)
        .arg("heap-diff")
        .arg(&kept)
        .args(["--fail-above", FAIL_ABOVE])
        .stdin(Stdio::null())
        .output()
        .context("starting heap-diff")?;
    let table = String::from_utf8_lossy(&compared.stdout);
    if !compared.status.success() {
        let error = String::from_utf8_lossy(&compared.stderr);
        bail!("heap-diff ended with {}:\n{table}{error}", compared.status);
    }
    let ratios = found.figures.iter().take(2).map(shown);
    let ratios = ratios.collect::<Vec<_>>().join(", ");
    Ok(format!(
        "{} came and went, {ratios}, heap-diff within {FAIL_ABOVE}",
        bench.scale.churn.0
    ))
}

/// Has the gateway write one more.
fn snapshot(gateway: &mut Gateway, folder: &Path) -> Result<()> {
    let written = || match std::fs::read_dir(folder) {
        Ok(files) => files
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|e| e == "gz"))
            .count(),
        // The gateway makes it.
        Err(_) => 0,
    };
    let before = written();
    gateway.server.signal(Signal::SIGUSR2)?;
    let asked = Instant::now();
    while written() == before {
        gateway.server.alive()?;
        ensure!(
            asked.elapsed() < SNAPSHOT,
            "no heap snapshot within {} s: {}",
            SNAPSHOT.as_secs(),
            gateway.server.tail()
        );
        std::thread::sleep(LOOK);
    }
    // It needs tens of MiB for the names of functions, which would hide what grew.
    std::thread::sleep(FORGOTTEN);
    Ok(())
}
