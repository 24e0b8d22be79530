//! Effects: how long the allocator should keep freed memory: what a short time costs in CPU while connections come and go, and what
//! a long one leaves resident after a crowd has left.

use anyhow::Result;

use super::churn::Churn;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings, median};
use crate::bench::gateway::Setup;
use crate::bench::limits;
use crate::bench::subject::{Ours, Subject as _, connected};
use crate::bench::swarm::Manner;
use crate::bench::swarm::client::Dialect;
use crate::progress;

/// The times that are tried, milliseconds.
const TRIED: [u64; 4] = [0, 500, DEFAULT, 10_000];

/// The gateway's default among them.
const DEFAULT: u64 = 2000;

/// Runs of each; the differences are larger than the spread.
const RUNS: usize = 3;

/// Connections that come and go before anything counts.
const WARM_UP: usize = 1000;

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// CPU time of a connection that comes and goes, microseconds.
    microseconds: f64,
    /// Resident memory above that before the crowd, after it has left, MiB.
    left: f64,
}

/// All times, in turn.
///
/// # Errors
/// When a gateway fails or connections do not get in.
pub fn run(bench: &Context) -> Result<Findings> {
    let mut rounds: [Vec<Round>; TRIED.len()] = Default::default();
    for run in 1..=RUNS.min(bench.scale.pairs) {
        for (decay, rounds) in TRIED.iter().zip(&mut rounds) {
            rounds.push(round(bench, *decay)?);
        }
        progress::note(&format!("  run {run} of {}", RUNS.min(bench.scale.pairs)));
    }
    let all = |rounds: &[Round], pick: fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(pick).collect()
    };
    let cost = |rounds: &Vec<Round>| median(&all(rounds, |r| r.microseconds));
    let best = rounds.iter().filter_map(cost).min_by(f64::total_cmp);
    let chosen = TRIED
        .iter()
        .zip(&rounds)
        .find(|(decay, _)| **decay == DEFAULT);
    let over = chosen
        .and_then(|(_, rounds)| cost(rounds))
        .zip(best)
        .map(|(ours, best)| ours / best);
    let mut figures = vec![
        Figure::maybe("default_over_best", "×", over)
            .must(Bound::AtMost(limits::DECAY_CPU_RATIO))
            .note(format!("CPU at {DEFAULT} ms over the least of all")),
    ];
    for (decay, rounds) in TRIED.iter().zip(&rounds) {
        figures.push(Figure::of(
            format!("connection_us_{decay}"),
            "µs",
            &all(rounds, |r| r.microseconds),
        ));
    }
    for (decay, rounds) in TRIED.iter().zip(&rounds) {
        let figure = Figure::of(format!("left_mib_{decay}"), "MiB", &all(rounds, |r| r.left));
        figures.push(figure.note(format!(
            "{} s after {} connections left",
            limits::SETTLE_DECAY.as_secs(),
            bench.scale.connections
        )));
    }
    Ok(Findings {
        figures,
        ..Findings::default()
    })
}

fn round(bench: &Context, decay: u64) -> Result<Round> {
    let (crowd, count) = (bench.scale.connections, bench.scale.upgrades);
    let setup = Setup {
        decay_ms: Some(decay),
        ..Setup::default()
    };
    let mut ours = Ours::start(bench, setup, crowd)?;
    let mut churn = Churn::new(bench, &ours.gateway)?;
    churn.go(&mut ours.gateway, WARM_UP, None)?;
    let before = ours.server().cpu_seconds()?;
    churn.go(&mut ours.gateway, count, None)?;
    let spent = ours.server().cpu_seconds()? - before;
    churn.leave(&mut ours.gateway)?;
    let empty = ours.server().memory()?.resident;
    drop(connected(&ours, crowd, Manner::of(Dialect::Sluice))?);
    ours.gateway.emptied()?;
    std::thread::sleep(limits::SETTLE_DECAY);
    let left = ours.server().memory()?.resident - empty;
    Ok(Round {
        microseconds: spent / count as f64 * 1e6,
        left: left / f64::from(1 << 20),
    })
}
