//! Effects: half an hour of everything at once: connects and closes, a quarter of them rude, readers that stop for a while or for
//! good, and bursts. Whatever memory is taken is taken during the warm-up; from then on it must stay flat.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::churn::Churn;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings, Plot, median};
use crate::bench::gateway::{Gateway, Setup};
use crate::bench::limits;
use crate::bench::subject::{Ours, Subject as _, connected, data};
use crate::bench::svg::{self, Series};
use crate::bench::swarm::client::Dialect;
use crate::bench::swarm::{Manner, Swarm};
use crate::progress;

/// Connections that stay; those that the gateway closes come back.
const READERS: usize = 4000;

/// One reader of so many is slow.
const SLOW_SHARE: usize = 20;

/// All slow readers stop this often. The thirds that are compared, of the usual 30 minutes as of the quick 5, hold whole cycles.
const CYCLE: Duration = Duration::from_secs(90);

/// Half of them read on after this; the others never do, and are closed after 45 s.
const PAUSE: Duration = Duration::from_secs(20);

/// Connects and closes per round.
const CHURN: usize = 1000;

/// Time of a round, unless its work takes longer.
const ROUND: Duration = Duration::from_secs(1);

/// Least time for readers in a round.
const READING: Duration = Duration::from_millis(200);

/// Rounds from one burst to the next, and messages of a burst.
const BURST: (usize, usize) = (5, 40);

/// Data of a message, bytes: some twenty fill a slow reader's socket long before its window.
const DATA: usize = 4 * 1024;

/// Messages that are published before anybody comes. The memory broker remembers the ids of 100,000, and would grow until it
/// knows that many; the others bring the table of ids to rest.
const FILL: usize = 120_000;

/// The last of them are as large as those that follow: what a channel's history holds.
const HISTORY: usize = 1000;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(10);

/// The warm-up is one part of so many.
const WARM_UP: u32 = 10;

/// One look.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Since the start.
    at: Duration,
    /// Bytes.
    heap: f64,
    resident: f64,
    descriptors: f64,
    tasks: f64,
}

/// Soaks.
///
/// # Errors
/// When the gateway fails, refuses somebody or stops answering.
pub fn run(bench: &Context) -> Result<Findings> {
    let total = bench.scale.soak;
    let mut soak = Soak::start(bench)?;
    let mut samples: Vec<Sample> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < total {
        soak.round()?;
        let at = begun.elapsed();
        if at >= LOOK * (samples.len() as u32 + 1) {
            let sample = look(&mut soak.ours.gateway, at)?;
            progress::note(&format!(
                "  {:.1} of {} min: heap {:.1}, resident {:.1} MiB, {} descriptors, {} tasks",
                minutes(at),
                minutes(total),
                mib(sample.heap),
                mib(sample.resident),
                sample.descriptors,
                sample.tasks
            ));
            samples.push(sample);
        }
    }
    Ok(findings(&soak, &samples, total))
}

fn look(gateway: &mut Gateway, at: Duration) -> Result<Sample> {
    let look = gateway.look()?;
    let tasks = gateway.metrics()?.get("sluice_tasks");
    Ok(Sample {
        at,
        heap: look.user(),
        resident: look.memory.resident,
        descriptors: gateway.server.descriptors()?,
        tasks: tasks.context("no sluice_tasks in /metrics")?,
    })
}

/// Everything that goes on.
struct Soak {
    ours: Ours,
    /// The readers. The first ones are slow.
    swarm: Swarm,
    slow: usize,
    churn: Churn,
    rounds: usize,
    /// When slow readers stopped last, and whether half of them have read on since.
    stopped: Instant,
    resumed: bool,
    /// Cycles that are over.
    cycles: usize,
    /// Slow readers that were closed, and others.
    closed: usize,
    lost: usize,
}

impl Soak {
    fn start(bench: &Context) -> Result<Self> {
        let readers = bench.scale.connections.min(READERS);
        let slow = readers / SLOW_SHARE;
        let mut ours = Ours::start(bench, Setup::default(), readers)?;
        progress::note(&format!("  {FILL} messages before anybody comes"));
        for n in 0..FILL {
            let size = if n + HISTORY < FILL { 2 } else { DATA };
            ours.gateway.publish(&data(size))?;
            ours.gateway.published()?;
        }
        let manner = Manner {
            small_buffers: slow,
            ..Manner::of(Dialect::Sluice)
        };
        let swarm = connected(&ours, readers, manner)?;
        let churn = Churn::new(bench, &ours.gateway)?;
        let mut soak = Self {
            ours,
            swarm,
            slow,
            churn,
            rounds: 0,
            stopped: Instant::now(),
            resumed: false,
            cycles: 0,
            closed: 0,
            lost: 0,
        };
        soak.stop()?;
        Ok(soak)
    }

    fn round(&mut self) -> Result<()> {
        let begun = Instant::now();
        let gateway = &mut self.ours.gateway;
        let message = data(DATA);
        // It is on its way while clients come and go.
        gateway.publish(&message)?;
        self.churn.go(gateway, CHURN, None)?;
        gateway.published()?;
        self.rounds += 1;
        let (every, messages) = BURST;
        if self.rounds.is_multiple_of(every) {
            for _ in 0..messages {
                gateway.publish(&message)?;
                gateway.published()?;
                self.swarm.turn(Duration::ZERO)?;
            }
        }
        self.keep_slow()?;
        let left = ROUND.saturating_sub(begun.elapsed());
        self.swarm.rest(left.max(READING))?;
        self.come_back()
    }

    /// Lets slow readers read on, or stop again, when it is time.
    fn keep_slow(&mut self) -> Result<()> {
        let since = self.stopped.elapsed();
        if since >= CYCLE {
            self.cycles += 1;
            return self.stop();
        }
        if since >= PAUSE && !self.resumed {
            self.resumed = true;
            for index in (0..self.slow).step_by(2) {
                self.swarm.stall(index, false)?;
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.stopped = Instant::now();
        self.resumed = false;
        for index in 0..self.slow {
            self.swarm.stall(index, true)?;
        }
        Ok(())
    }

    /// Those that were closed connect again. Only their places are free, so that slow readers take those of slow ones.
    fn come_back(&mut self) -> Result<()> {
        self.swarm.got_ready.clear();
        for index in std::mem::take(&mut self.swarm.got_ended) {
            if index < self.slow {
                self.closed += 1;
            } else {
                self.lost += 1;
            }
            self.swarm.dial(&self.ours.request(index))?;
        }
        match &self.swarm.tally.refusal {
            Some(refusal) => bail!("a reader was refused: {refusal}"),
            None => Ok(()),
        }
    }
}

fn findings(soak: &Soak, samples: &[Sample], total: Duration) -> Findings {
    let warm = total / WARM_UP;
    let judged: Vec<Sample> = samples.iter().filter(|s| s.at >= warm).copied().collect();
    let ratio = |pick: fn(&Sample) -> f64| thirds(&judged, pick).map(|(first, last)| last / first);
    let more = |pick: fn(&Sample) -> f64| thirds(&judged, pick).map(|(first, last)| last - first);
    let must_close = soak.cycles * (soak.slow / 2);
    let rate = (soak.rounds * CHURN) as f64 / total.as_secs_f64();
    let memory = [
        series("heap_mib", samples, |s| mib(s.heap)),
        series("resident_mib", samples, |s| mib(s.resident)),
    ];
    let counts = [
        series("descriptors", samples, |s| s.descriptors),
        series("tasks", samples, |s| s.tasks),
    ];
    Findings {
        figures: vec![
            Figure::maybe("heap_growth", "×", ratio(|s| s.heap))
                .must(Bound::AtMost(limits::SOAK_HEAP))
                .note("last third over the first one after the warm-up, medians"),
            Figure::maybe("rss_growth", "×", ratio(|s| s.resident))
                .must(Bound::AtMost(limits::SOAK_RSS)),
            Figure::maybe("descriptors_more", "", more(|s| s.descriptors))
                .must(Bound::AtMost(limits::SOAK_COUNT)),
            Figure::maybe("tasks_more", "", more(|s| s.tasks))
                .must(Bound::AtMost(limits::SOAK_COUNT)),
            Figure::new("slow_closed", "", soak.closed as f64)
                .must(Bound::AtLeast(must_close as f64))
                .note("readers that never read on"),
            Figure::new("readers_lost", "", soak.lost as f64)
                .must(Bound::AtMost(0.0))
                .note("others that were closed"),
            Figure::new("gaps", "", soak.swarm.tally.gaps as f64).must(Bound::AtMost(0.0)),
            Figure::new("connects_per_second", "/s", rate),
            Figure::new("minutes", "min", minutes(total)),
        ],
        plots: vec![
            Plot {
                file: "soak.svg",
                svg: svg::lines("Memory under soak", "MiB", "minutes", &memory),
            },
            Plot {
                file: "soak-counts.svg",
                svg: svg::lines("What is open under soak", "", "minutes", &counts),
            },
        ],
        series: memory.into_iter().chain(counts).collect(),
        ..Findings::default()
    }
}

/// Medians of the first and of the last third.
fn thirds(samples: &[Sample], pick: fn(&Sample) -> f64) -> Option<(f64, f64)> {
    let third = samples.len() / 3;
    let middle = |part: &[Sample]| median(&part.iter().map(pick).collect::<Vec<_>>());
    let last = samples.len() - third;
    Some((middle(&samples[..third])?, middle(&samples[last..])?))
}

/// A figure over the minutes.
fn series(name: &str, samples: &[Sample], pick: fn(&Sample) -> f64) -> Series {
    let points = samples.iter().map(|s| (minutes(s.at), pick(s)));
    Series {
        name: name.to_owned(),
        points: points.collect(),
    }
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heaps(all: &[f64]) -> Vec<Sample> {
        let sample = |heap: &f64| Sample {
            heap: *heap,
            ..Sample::default()
        };
        all.iter().map(sample).collect()
    }

    #[test]
    fn growth_is_seen_between_thirds_and_peaks_are_not() {
        let of = |all: &[f64]| thirds(&heaps(all), |s| s.heap);
        let peaks = [10.0, 10.0, 99.0, 10.0, 50.0, 10.0, 10.0, 77.0, 10.0];
        assert_eq!(of(&peaks), Some((10.0, 10.0)));
        let leak = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0];
        assert_eq!(of(&leak), Some((10.5, 15.5)));
        assert_eq!(of(&[10.0, 20.0]), None);
    }
}
