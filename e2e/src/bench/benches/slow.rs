//! Effects: some readers stop reading under large broadcasts: what they cost, whether the others notice, and whether those that read
//! on get everything.

use std::time::Instant;

use anyhow::{Result, ensure};

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

/// Stalls, measures, resumes.
///
/// # Errors
/// When the gateway fails, or the stalled readers are not all noticed.
pub fn run(bench: &Context) -> Result<Findings> {
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
    progress::note(&format!(
        "  {lagging} of {stalled} stalled readers are lagging"
    ));
    let behind = catch_up(&mut swarm, stalled / 2)?;
    let each = |bytes: f64| bytes / stalled as f64;
    let p99 = |times: &[f64]| quantile(times, 0.99);
    let ratio = p99(&during)
        .zip(p99(&before))
        .map(|(during, before)| during / before);
    Ok(Findings {
        figures: vec![
            Figure::new("lagging", "", lagging)
                .must(Bound::AtLeast(stalled as f64))
                .note(format!("of {stalled} that read nothing")),
            Figure::maybe("others_p99_ratio", "×", ratio)
                .must(Bound::AtMost(limits::SLOW_P99_RATIO)),
            Figure::maybe("p99_before_ms", "ms", p99(&before)),
            Figure::maybe("p99_during_ms", "ms", p99(&during)),
            Figure::new(
                "user_bytes_per_stalled",
                "B",
                each(look_stalled.user() - look.user()),
            )
            .must(Bound::AtMost(limits::SLOW_USER_BYTES))
            .note(look.source()),
            Figure::new(
                "kernel_bytes_per_stalled",
                "B",
                each(queues_stalled - queues),
            )
            .must(Bound::AtMost(limits::SLOW_KERNEL_BYTES))
            .note("queues of both ends"),
            Figure::new("resumed_behind", "", behind as f64)
                .must(Bound::AtMost(0.0))
                .note(format!(
                    "of {} that read on, those that miss something",
                    stalled / 2
                )),
            Figure::new("resumed_gaps", "", swarm.tally.gaps as f64).must(Bound::AtMost(0.0)),
        ],
        ..Findings::default()
    })
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
