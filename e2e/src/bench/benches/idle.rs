//! Effects: what idle connections cost: clients beat as they do by default, nothing is published.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings};
use crate::bench::floor::Kind;
use crate::bench::gateway::Setup;
use crate::bench::limits;
use crate::bench::subject::{Floor, Ours, Subject, connected};
use crate::bench::swarm::{Manner, Swarm};
use crate::progress;

/// A client's beat.
const PING: &[u8] = b"{\"type\":\"ping\",\"id\":1}";

/// Longest wait between two beats of the whole swarm: they are spread evenly, as random starts and jitter do.
const STEP: Duration = Duration::from_millis(10);

/// Floor and ours, in turn.
///
/// # Errors
/// When a server fails or pings are not answered.
pub fn run(bench: &Context) -> Result<Findings> {
    let count = bench.scale.connections;
    let (mut floor, mut ours, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=bench.scale.pairs {
        let bare = cores(bench, &Floor::start(bench, Kind::Fanout)?)?;
        let gateway = cores(bench, &Ours::start(bench, Setup::default(), count)?)?;
        progress::note(&format!(
            "  pair {pair} of {}: floor {bare:.4}, ours {gateway:.4} cores for {count} connections",
            bench.scale.pairs
        ));
        floor.push(bare);
        ours.push(gateway);
        beyond.push(gateway - bare);
    }
    Ok(Findings {
        figures: vec![
            Figure::of("core_seconds_per_second", "cores", &beyond)
                .must(Bound::AtMost(limits::IDLE_CORES))
                .note("beyond the floor's"),
            Figure::of("gateway_cores", "cores", &ours),
            Figure::of("floor_cores", "cores", &floor),
        ],
        ..Findings::default()
    })
}

fn cores(bench: &Context, subject: &dyn Subject) -> Result<f64> {
    let count = bench.scale.connections;
    let mut swarm = connected(subject, count, Manner::of(subject.dialect()))?;
    // A whole round first: handshakes' timers are over then.
    beat(&mut swarm, count, limits::BEAT)?;
    let pongs = swarm.tally.pongs;
    let before = subject.server().cpu_seconds()?;
    let begun = Instant::now();
    let sent = beat(&mut swarm, count, bench.scale.idle)?;
    let spent = subject.server().cpu_seconds()? - before;
    let seconds = begun.elapsed().as_secs_f64();
    let answered = swarm.tally.pongs - pongs;
    // The last ones may be under way.
    anyhow::ensure!(
        answered as f64 > 0.98 * sent as f64 && swarm.tally.ended == 0,
        "{answered} of {sent} pings were answered, {} connections ended",
        swarm.tally.ended
    );
    Ok(spent / seconds)
}

/// Lets clients beat in turn for `time`; says how many beats there were.
fn beat(swarm: &mut Swarm, count: usize, time: Duration) -> Result<usize> {
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < time {
        let due = begun.elapsed().as_secs_f64() / limits::BEAT.as_secs_f64() * count as f64;
        while sent < due as usize {
            swarm.send(sent % count, PING)?;
            sent += 1;
        }
        swarm.turn(STEP)?;
    }
    Ok(sent)
}
