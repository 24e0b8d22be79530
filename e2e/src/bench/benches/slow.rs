//! Effects: some readers stop reading under large broadcasts: what they cost, whether the others notice, and whether those that read
//! on get everything.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings, quantile};
use crate::bench::gateway::Setup;
use crate::bench::subject::{Ours, connected, reach_all};
use crate::bench::swarm::client::Dialect;
use crate::bench::swarm::{Manner, Swarm};
use crate::bench::{limits, process};
use crate::progress;

/// Data of a broadcast, bytes.
const DATA: usize = 8 * 1024;

/// Broadcasts before anything counts.
const WARM_UP: usize = 3;

/// Connections that wait for their window or their socket.
const LAGGING: &str = "sluice_lagging_connections";

/// What one run gave.
#[derive(Debug)]
struct Round {
    /// Readers that the gateway took for lagging.
    lagging: f64,
    /// Times to the last of the others, milliseconds, 99th percentile: before any reader stops, and meanwhile.
    before: f64,
    during: f64,
    /// User and kernel memory per stalled reader, bytes.
    user: f64,
    kernel: f64,
    /// Readers that read on and miss something.
    behind: usize,
    /// Gap notices.
    gaps: u64,
    /// What `user` is.
    source: &'static str,
}

/// Stalls, measures, resumes; several times, for the slowest of a few broadcasts varies.
///
/// # Errors
/// When the gateway fails or a broadcast does not reach the others.
pub fn run(bench: &Context) -> Result<Findings> {
    let mut rounds = Vec::new();
    for run in 1..=bench.scale.pairs {
        let round = round(bench)?;
        progress::note(&format!(
            "  run {run} of {}: {} of {} stalled are lagging, p99 {:.0} ms before, {:.0} ms during",
            bench.scale.pairs, round.lagging, bench.scale.stalled, round.before, round.during
        ));
        rounds.push(round);
    }
    Ok(findings(bench, &rounds))
}

fn round(bench: &Context) -> Result<Round> {
    let (count, stalled) = (bench.scale.connections, bench.scale.stalled);
    let others = count - stalled;
    let mut ours = Ours::start(bench, Setup::default(), count)?;
    let manner = Manner {
        small_buffers: stalled,
        ..Manner::of(Dialect::Sluice)
    };
    let mut swarm = connected(&ours, count, manner)?;
    for _ in 0..WARM_UP {
        reach_all(&mut ours, &mut swarm, DATA, others)?;
    }
    let mut before = Vec::new();
    for _ in 0..bench.scale.timed_broadcasts {
        before.push(reach_all(&mut ours, &mut swarm, DATA, others)? * 1000.0);
        swarm.rest(limits::BROADCAST_PACE)?;
    }
    let (look, queues) = (ours.gateway.look()?, process::kernel_queues()?);
    for index in 0..stalled {
        swarm.stall(index, true)?;
    }
    let (during, lagging) = while_stalled(bench, &mut ours, &mut swarm)?;
    let (look_stalled, queues_stalled) = (ours.gateway.look()?, process::kernel_queues()?);
    let behind = catch_up(&mut swarm, stalled / 2)?;
    let each = |bytes: f64| bytes / stalled as f64;
    let p99 = |times: &[f64]| quantile(times, 0.99).context("no broadcast was timed");
    Ok(Round {
        lagging,
        before: p99(&before)?,
        during: p99(&during)?,
        user: each(look_stalled.user() - look.user()),
        kernel: each(queues_stalled - queues),
        behind,
        gaps: swarm.tally.gaps,
        source: look.source(),
    })
}

fn findings(bench: &Context, rounds: &[Round]) -> Findings {
    let stalled = bench.scale.stalled;
    let all = |pick: fn(&Round) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
    let least = all(|r| r.lagging).into_iter().reduce(f64::min);
    let behind: usize = rounds.iter().map(|r| r.behind).sum();
    let gaps: u64 = rounds.iter().map(|r| r.gaps).sum();
    Findings {
        figures: vec![
            Figure::maybe("lagging", "", least)
                .must(Bound::AtLeast(stalled as f64))
                .note(format!("of {stalled} that read nothing, in every run")),
            Figure::of("others_p99_ratio", "×", &all(|r| r.during / r.before))
                .must(Bound::AtMost(limits::SLOW_P99_RATIO)),
            Figure::of("p99_before_ms", "ms", &all(|r| r.before)),
            Figure::of("p99_during_ms", "ms", &all(|r| r.during)),
            Figure::of("user_bytes_per_stalled", "B", &all(|r| r.user))
                .must(Bound::AtMost(limits::SLOW_USER_BYTES))
                .note(rounds.first().map_or("", |r| r.source)),
            Figure::of("kernel_bytes_per_stalled", "B", &all(|r| r.kernel))
                .must(Bound::AtMost(limits::SLOW_KERNEL_BYTES))
                .note("queues of both ends"),
            Figure::new("resumed_behind", "", behind as f64)
                .must(Bound::AtMost(0.0))
                .note(format!(
                    "of {} that read on in each run, those that miss something",
                    stalled / 2
                )),
            Figure::new("resumed_gaps", "", gaps as f64).must(Bound::AtMost(0.0)),
        ],
        ..Findings::default()
    }
}

/// Broadcasts until all that read nothing are noticed, and often enough to know how the others fare.
fn while_stalled(bench: &Context, ours: &mut Ours, swarm: &mut Swarm) -> Result<(Vec<f64>, f64)> {
    let others = bench.scale.connections - bench.scale.stalled;
    let wanted = bench.scale.stalled as f64;
    let begun = Instant::now();
    let mut times = Vec::new();
    loop {
        times.push(reach_all(ours, swarm, DATA, others)? * 1000.0);
        swarm.rest(limits::BROADCAST_PACE)?;
        let lagging = ours.gateway.metrics()?.get(LAGGING).unwrap_or(0.0);
        let noticed = lagging >= wanted && times.len() >= bench.scale.timed_broadcasts;
        if noticed || begun.elapsed() > limits::STALLED_WITHIN {
            return Ok((times, lagging));
        }
    }
}

/// Lets the first `count` read on; how many of them do not get everything in time.
fn catch_up(swarm: &mut Swarm, count: usize) -> Result<usize> {
    let published = swarm.tally.arrivals.len();
    for index in 0..count {
        swarm.stall(index, false)?;
    }
    let begun = Instant::now();
    loop {
        swarm.turn(limits::LOOK)?;
        let behind = (0..count)
            .filter(|n| swarm.received(*n) < published)
            .count();
        if behind == 0 || begun.elapsed() > limits::STALLED_WITHIN {
            ensure!(
                (0..count).all(|n| swarm.received(n) <= published),
                "a reader that was behind got more than was published"
            );
            return Ok(behind);
        }
    }
}
