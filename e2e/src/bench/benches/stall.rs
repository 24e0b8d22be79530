//! Effects: how long a shard is busy without looking at its other work, under full fan-out: by its own histogram, and as a client
//! that pings meanwhile sees it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fanout::DATA;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings, quantile};
use crate::bench::gateway::{Metrics, Setup};
use crate::bench::limits;
use crate::bench::subject::{Ours, Subject as _, connected, data, reach_all};
use crate::bench::swarm::Manner;
use crate::bench::swarm::client::Dialect;

/// Histogram of uninterrupted polls of a shard, seconds.
const POLLS: &str = "sluice_shard_poll_seconds";

/// Longest wait for a pong.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Broadcasts back to back, with a ping in each.
///
/// # Errors
/// When the gateway fails or a broadcast does not reach everybody.
pub fn run(bench: &Context) -> Result<Findings> {
    let count = bench.scale.connections;
    let mut ours = Ours::start(bench, Setup::default(), count)?;
    let mut swarm = connected(&ours, count, Manner::of(Dialect::Sluice))?;
    reach_all(&mut ours, &mut swarm, DATA, count)?;
    let before = ours.gateway.metrics()?;
    let mut pings = Vec::new();
    for round in 0..bench.scale.broadcasts + bench.scale.timed_broadcasts {
        let index = swarm.tally.arrivals.len();
        ours.gateway.publish(&data(DATA))?;
        // The ping comes while the broadcast is under way.
        let begun_at = swarm.until(PONG_WITHIN, |t| t.arrivals.len() > index)?;
        ensure!(begun_at, "a broadcast did not begin");
        let pongs = swarm.tally.pongs;
        swarm.send(round % count, b"{\"type\":\"ping\",\"id\":1}")?;
        let begun = Instant::now();
        ensure!(
            swarm.until(PONG_WITHIN, |t| t.pongs > pongs)?,
            "a ping was not answered"
        );
        pings.push(begun.elapsed().as_secs_f64() * 1000.0);
        let whole = swarm.until(limits::BROADCAST_WITHIN, |t| {
            t.arrivals[index].clients >= count
        })?;
        ensure!(whole, "a broadcast did not reach everybody");
        ours.confirmed()?;
    }
    let polls = new_polls(&before, &ours.gateway.metrics()?);
    let milliseconds = |share: f64| at(&polls, share).map(|seconds| seconds * 1000.0);
    let missing = if polls.is_empty() {
        format!("this gateway exports no {POLLS}")
    } else {
        "upper bound of its bucket".to_owned()
    };
    Ok(Findings {
        figures: vec![
            Figure::maybe("poll_p99_ms", "ms", milliseconds(0.99))
                .must(Bound::AtMost(limits::STALL_MS))
                .note(missing),
            Figure::maybe("poll_longest_ms", "ms", milliseconds(1.0)),
            Figure::maybe("ping_p99_ms", "ms", quantile(&pings, 0.99))
                .note("a ping in the middle of a broadcast"),
        ],
        ..Findings::default()
    })
}

/// Cumulative counts since `before`.
fn new_polls(before: &Metrics, after: &Metrics) -> Vec<(f64, f64)> {
    let old = before.buckets(POLLS);
    let new = after.buckets(POLLS);
    let counts = new
        .iter()
        .zip(old.iter().map(|b| b.1).chain(std::iter::repeat(0.0)));
    counts
        .map(|((bound, count), old)| (*bound, count - old))
        .collect()
}

/// The upper bound of the bucket in which `share` of all polls are reached.
fn at(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let all = buckets.last()?.1;
    buckets
        .iter()
        .find(|(_, count)| all > 0.0 && *count >= share * all)
        .map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_share_is_found_in_its_bucket() {
        let buckets = [(0.001, 990.0), (0.01, 999.0), (f64::INFINITY, 1000.0)];
        assert_eq!(super::at(&buckets, 0.99), Some(0.001));
        assert_eq!(super::at(&buckets, 0.995), Some(0.01));
        assert_eq!(super::at(&[], 0.99), None);
        assert_eq!(super::at(&[(f64::INFINITY, 0.0)], 0.99), None);
    }
}
