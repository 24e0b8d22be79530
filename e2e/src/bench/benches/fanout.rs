//! Effects: one message to everybody: messages per core-second, and the time to the last receiver, against the bare loop.

use std::time::Instant;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings, Plot, quantile};
use crate::bench::floor::Kind;
use crate::bench::gateway::Setup;
use crate::bench::limits;
use crate::bench::subject::{Floor, Ours, Subject, connected, reach_all};
use crate::bench::svg::{self, Series};
use crate::bench::swarm::Manner;
use crate::progress;

/// Data of a message, bytes.
pub const DATA: usize = 256;

/// Broadcasts before anything counts.
const WARM_UP: usize = 3;

/// What one run of one side gave.
#[derive(Debug, Default)]
pub struct Round {
    /// Messages per core-second.
    pub rate: f64,
    /// Times to the last receiver, milliseconds.
    pub milliseconds: Vec<f64>,
    /// Resident memory per connection, bytes.
    pub resident: f64,
}

/// Floor and ours, in turn.
///
/// # Errors
/// When a server fails or a broadcast does not reach everybody.
pub fn run(bench: &Context) -> Result<Findings> {
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for pair in 1..=bench.scale.pairs {
        let count = bench.scale.connections;
        floor.push(round(
            bench,
            &mut Floor::start(bench, Kind::Fanout)?,
            count,
        )?);
        let setup = Setup::default();
        ours.push(round(bench, &mut Ours::start(bench, setup, count)?, count)?);
        let last = |rounds: &[Round]| rounds.last().map_or(0.0, |r| r.rate);
        progress::note(&format!(
            "  pair {pair} of {}: floor {:.0}, ours {:.0} messages per core-second",
            bench.scale.pairs,
            last(&floor),
            last(&ours)
        ));
    }
    Ok(findings(&floor, &ours))
}

/// One side, connected, measured and left.
///
/// # Errors
/// When it fails or a broadcast does not reach everybody.
pub fn round(bench: &Context, subject: &mut dyn Subject, count: usize) -> Result<Round> {
    let alone = subject.server().memory()?.resident;
    let mut swarm = connected(subject, count, Manner::of(subject.dialect()))?;
    for _ in 0..WARM_UP {
        reach_all(subject, &mut swarm, DATA, count)?;
    }
    swarm.rest(limits::SETTLE)?;
    let resident = (subject.server().memory()?.resident - alone) / count as f64;
    let before = subject.server().cpu_seconds()?;
    for _ in 0..bench.scale.broadcasts {
        reach_all(subject, &mut swarm, DATA, count)?;
    }
    swarm.rest(limits::SETTLE)?;
    let spent = subject.server().cpu_seconds()? - before;
    let mut milliseconds = Vec::new();
    for _ in 0..bench.scale.timed_broadcasts {
        let begun = Instant::now();
        milliseconds.push(reach_all(subject, &mut swarm, DATA, count)? * 1000.0);
        swarm.rest(limits::BROADCAST_PACE.saturating_sub(begun.elapsed()))?;
    }
    Ok(Round {
        rate: (count * bench.scale.broadcasts) as f64 / spent,
        milliseconds,
        resident,
    })
}

fn findings(floor: &[Round], ours: &[Round]) -> Findings {
    let rates = |rounds: &[Round]| rounds.iter().map(|r| r.rate).collect::<Vec<_>>();
    let ratios: Vec<f64> = rates(ours)
        .iter()
        .zip(rates(floor))
        .map(|(ours, floor)| ours / floor)
        .collect();
    let times = |rounds: &[Round]| {
        let all = rounds.iter().flat_map(|r| &r.milliseconds);
        all.copied().collect::<Vec<_>>()
    };
    let p99 = |rounds: &[Round]| quantile(&times(rounds), 0.99);
    let ratio = p99(ours).zip(p99(floor)).map(|(ours, floor)| ours / floor);
    let unit = "msg/core-s";
    let series = |name: &str, rounds: &[Round]| Series {
        name: name.to_owned(),
        points: (1..).map(f64::from).zip(rates(rounds)).collect(),
    };
    Findings {
        figures: vec![
            Figure::of("ratio_to_floor", "×", &ratios).must(Bound::AtLeast(limits::FANOUT_RATIO)),
            Figure::of("messages_per_core_second", unit, &rates(ours)),
            Figure::of("floor_messages_per_core_second", unit, &rates(floor)),
            Figure::maybe("p99_ratio_to_floor", "×", ratio)
                .must(Bound::AtMost(limits::FANOUT_P99_RATIO)),
            Figure::maybe("p99_ms", "ms", p99(ours)).note("publish to last receiver"),
            Figure::maybe("floor_p99_ms", "ms", p99(floor)),
            Figure::of("median_ms", "ms", &times(ours)),
            Figure::of("floor_median_ms", "ms", &times(floor)),
        ],
        plots: vec![Plot {
            file: "fanout.svg",
            svg: svg::lines(
                "256 B to every subscriber",
                "messages per core-second",
                "pair",
                &[series("Sluice", ours), series("bare writev loop", floor)],
            ),
        }],
        ..Findings::default()
    }
}
