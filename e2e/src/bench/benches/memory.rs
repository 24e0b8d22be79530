//! Effects: memory of idle connections, and what a burst leaves behind, with the memory broker and with NATS.

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings};
use crate::bench::floor::Kind;
use crate::bench::gateway::{Look, Setup};
use crate::bench::nats::Nats;
use crate::bench::subject::{Floor, Ours, Subject, connected, data, reach_all};
use crate::bench::swarm::client::Dialect;
use crate::bench::swarm::{Manner, Swarm};
use crate::bench::{limits, process};
use crate::progress;

/// Connections that come and go first, so that code and tables that every process has are paid for.
const WARM_UP: usize = 200;

/// Data of the burst's large message, bytes.
const LARGE: usize = 8 * 1024;

/// Data of its small ones, bytes.
const SMALL: usize = 100;

/// What every client sends, bytes: the largest message that the gateway takes.
const UPLOAD: usize = 16 * 1024;

/// Measures both brokers.
///
/// # Errors
/// When a server fails or connections do not get in.
pub fn run(bench: &Context) -> Result<Findings> {
    let mut found = Findings::default();
    broker(bench, None, "", &mut found)?;
    if let Some(program) = &bench.nats {
        let nats = Nats::start(bench, program)?;
        broker(bench, Some(&nats), "nats_", &mut found)?;
    } else {
        let skipped = "the nats broker: no nats-server";
        found.skipped.push(skipped.to_owned());
        // Half of what is to be shown: without it this is no pass.
        let missing = Figure::maybe("nats_user_bytes_per_conn", "B", None);
        let bound = Bound::AtMost(limits::USER_BYTES_PER_CONN);
        found.figures.push(missing.must(bound));
    }
    found.figures.push(kernel_of_floor(bench)?);
    Ok(found)
}

fn broker(bench: &Context, nats: Option<&Nats>, prefix: &str, found: &mut Findings) -> Result<()> {
    let count = bench.scale.connections;
    progress::note(&format!(
        "  {count} idle connections, {} broker",
        if nats.is_some() { "nats" } else { "memory" }
    ));
    let setup = Setup {
        nats: nats.map(|n| n.address),
        ..Setup::default()
    };
    let mut ours = Ours::start(bench, setup, count)?;
    drop(connected(&ours, WARM_UP, Manner::of(Dialect::Sluice))?);
    ours.gateway.emptied()?;
    std::thread::sleep(limits::SETTLE_MEMORY);
    let (empty, kernel_empty) = (ours.gateway.look()?, process::kernel_objects()?);
    let mut swarm = connected(&ours, count, Manner::of(Dialect::Sluice))?;
    swarm.rest(limits::SETTLE_MEMORY)?;
    let (idle, kernel_idle) = (ours.gateway.look()?, process::kernel_objects()?);
    progress::note("  a burst to and from everybody");
    burst(bench, &mut ours, &mut swarm)?;
    swarm.rest(limits::SETTLE_MEMORY)?;
    let after = ours.gateway.look()?;
    figures(prefix, count, [empty, idle, after], found);
    found.figures.push(
        Figure::new(
            format!("{prefix}kernel_bytes_per_conn"),
            "B",
            (kernel_idle - kernel_empty) / count as f64,
        )
        .note("both ends"),
    );
    Ok(())
}

fn figures(prefix: &str, count: usize, [empty, idle, after]: [Look; 3], found: &mut Findings) {
    let each = |bytes: f64| bytes / count as f64;
    let user = each(idle.user() - empty.user());
    let resident = each(idle.memory.resident - empty.memory.resident);
    let user_after = each(after.user() - empty.user());
    let resident_after = each(after.memory.resident - empty.memory.resident);
    let name = |what: &str| format!("{prefix}{what}");
    found.figures.extend([
        Figure::new(name("user_bytes_per_conn"), "B", user)
            .must(Bound::AtMost(limits::USER_BYTES_PER_CONN))
            .note(idle.source()),
        Figure::new(name("rss_bytes_per_conn"), "B", resident)
            .must(Bound::AtMost(limits::RSS_BYTES_PER_CONN)),
        Figure::new(name("user_after_burst"), "×", user_after / user)
            .must(Bound::AtMost(limits::AFTER_BURST)),
        Figure::new(name("rss_after_burst"), "×", resident_after / resident)
            .must(Bound::AtMost(limits::AFTER_BURST)),
    ]);
}

/// One large and many small messages to everybody, and one of the largest size from everybody.
fn burst(bench: &Context, ours: &mut Ours, swarm: &mut Swarm) -> Result<()> {
    let count = bench.scale.connections;
    reach_all(ours, swarm, LARGE, count)?;
    // Not one by one: what piles up is what is looked for.
    let before = swarm.tally.arrivals.len();
    for _ in 0..bench.scale.burst {
        ours.gateway.publish(&data(SMALL))?;
        ours.gateway.published()?;
        swarm.turn(std::time::Duration::ZERO)?;
    }
    let last = before + bench.scale.burst - 1;
    let reached = swarm.until(limits::BROADCAST_WITHIN, |tally| {
        tally.arrivals.get(last).map_or(0, |a| a.clients) >= count
    })?;
    anyhow::ensure!(reached, "the burst did not reach everybody");
    let upload = upload();
    let pongs = swarm.tally.pongs;
    for client in 0..count {
        swarm.send(client, &upload)?;
        if client.is_multiple_of(64) {
            swarm.turn(std::time::Duration::ZERO)?;
        }
    }
    let answered = swarm.until(limits::BROADCAST_WITHIN, |tally| {
        tally.pongs >= pongs + count as u64
    })?;
    anyhow::ensure!(
        answered,
        "{} of {count} large pings were answered",
        swarm.tally.pongs - pongs
    );
    Ok(())
}

/// A ping of exactly the largest size; servers pass over fields that they do not know.
fn upload() -> Vec<u8> {
    let start = "{\"type\":\"ping\",\"id\":1,\"pad\":\"";
    let end = "\"}";
    let pad = UPLOAD - start.len() - end.len();
    format!("{start}{}{end}", "x".repeat(pad)).into_bytes()
}

/// The same sockets on a server that keeps nothing: what is the kernel's, and not ours to save.
fn kernel_of_floor(bench: &Context) -> Result<Figure> {
    let count = bench.scale.connections;
    let floor = Floor::start(bench, Kind::Fanout)?;
    let before = process::kernel_objects()?;
    let swarm = connected(&floor, count, Manner::of(floor.dialect()))?;
    std::thread::sleep(limits::SETTLE_MEMORY / 5);
    let after = process::kernel_objects()?;
    drop(swarm);
    let each = (after - before) / count as f64;
    Ok(Figure::new("floor_kernel_bytes_per_conn", "B", each).note("both ends"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_upload_has_the_largest_size() {
        let upload = super::upload();
        assert_eq!(upload.len(), super::UPLOAD);
        assert!(serde_json::from_slice::<serde_json::Value>(&upload).is_ok());
    }
}
