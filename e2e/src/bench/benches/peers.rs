//! Effects: what a user would pick instead, with the gateway's own load: delivery and memory. Reported only.

use anyhow::Result;

use super::fanout::{Round, round};
use crate::bench::context::Context;
use crate::bench::figure::{Figure, Findings, Plot, median, quantile};
use crate::bench::gateway::Setup;
use crate::bench::peer::{NatsPeer, Plain};
use crate::bench::subject::{Ours, Subject};
use crate::bench::svg;
use crate::progress;

/// How one of them is started.
type Start = fn(&Context) -> Result<Box<dyn Subject>>;

/// The one of them that must work.
const OURS: &str = "sluice";

const PEERS: [(&str, &str, Start); 4] = [
    (OURS, "Sluice", |bench| {
        Ok(Box::new(Ours::start(
            bench,
            Setup::default(),
            bench.scale.peers.0,
        )?))
    }),
    ("nats", "nats-server", |bench| {
        Ok(Box::new(NatsPeer::start(bench)?))
    }),
    ("gorilla", "gorilla/websocket", |bench| {
        Ok(Box::new(Plain::gorilla(bench)?))
    }),
    ("ws", "ws on Node", |bench| Ok(Box::new(Plain::ws(bench)?))),
];

/// All of them, in turn.
///
/// # Errors
/// When the gateway itself cannot be measured.
pub fn run(bench: &Context) -> Result<Findings> {
    let (count, runs) = bench.scale.peers;
    let mut rounds: Vec<Vec<Round>> = PEERS.iter().map(|_| Vec::new()).collect();
    let mut found = Findings::default();
    for run in 1..=runs {
        for ((word, name, start), rounds) in PEERS.iter().zip(&mut rounds) {
            progress::note(&format!("  {name}, run {run} of {runs}"));
            let outcome = start(bench).and_then(|mut peer| round(bench, peer.as_mut(), count));
            match outcome {
                Ok(round) => rounds.push(round),
                Err(error) if *word == OURS => return Err(error),
                Err(error) => found.skipped.push(format!("{name}: {error:#}")),
            }
        }
    }
    let mut bars = Vec::new();
    for ((word, name, _), rounds) in PEERS.iter().zip(&rounds) {
        let rates: Vec<f64> = rounds.iter().map(|r| r.rate).collect();
        let Some(rate) = median(&rates) else { continue };
        bars.push(((*name).to_owned(), rate));
        let memory: Vec<f64> = rounds.iter().map(|r| r.resident).collect();
        let times: Vec<f64> = rounds
            .iter()
            .flat_map(|r| &r.milliseconds)
            .copied()
            .collect();
        found.figures.extend([
            Figure::of(
                format!("{word}_messages_per_core_second"),
                "msg/core-s",
                &rates,
            )
            .note(*name),
            Figure::of(format!("{word}_rss_bytes_per_conn"), "B", &memory),
            Figure::maybe(format!("{word}_p99_ms"), "ms", quantile(&times, 0.99))
                .note("to the last receiver"),
        ]);
    }
    found.plots.push(Plot {
        file: "peers.svg",
        svg: svg::bars(
            "256 B to every subscriber",
            "messages per core-second",
            &bars,
        ),
    });
    Ok(found)
}
