//! Effects: connects and closes without end, a quarter of them rude; what is left of them at the end.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bench::context::{Context, connect_request};
use crate::bench::figure::{Bound, Figure, Findings, Plot};
use crate::bench::gateway::{Gateway, Look, Setup};
use crate::bench::limits;
use crate::bench::svg::{self, Series};
use crate::bench::swarm::client::Dialect;
use crate::bench::swarm::frames;
use crate::bench::swarm::{Manner, Swarm};
use crate::progress;

/// Connections that are open at once.
const OPEN: usize = 256;

/// Users that come again and again.
const USERS: usize = 1000;

/// Looks at memory during the churn.
const LOOKS: usize = 100;

/// Longest silence of the whole churn.
const STUCK: Duration = Duration::from_secs(20);

/// Connections that nobody reads are given up by their client after this many others.
const HALF_OPEN: usize = 64;

/// How a client leaves. Of twelve, nine say goodbye, and three are rude, each in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A Close frame, and the server ends it.
    Goodbye,
    /// A reset.
    Reset,
    /// It shuts its sending side, reads nothing more and is gone later.
    HalfOpen,
    /// It promises a frame, sends a part of it and is gone.
    MidFrame,
}

fn fate(n: usize) -> Fate {
    match n % 12 {
        3 => Fate::Reset,
        7 => Fate::HalfOpen,
        11 => Fate::MidFrame,
        _ => Fate::Goodbye,
    }
}

/// Everything that must not grow.
#[derive(Clone, Debug)]
struct Books {
    look: Look,
    counts: BTreeMap<&'static str, Option<f64>>,
}

/// Metrics that must be what they were. Those of tasks and timers are there when the gateway exports them.
const COUNTS: [(&str, &str); 4] = [
    ("registry", "sluice_connections"),
    ("subscriptions", "sluice_subscriptions"),
    ("tasks", "sluice_tasks"),
    ("timers", "sluice_timers"),
];

fn books(gateway: &mut Gateway) -> Result<Books> {
    let metrics = gateway.metrics()?;
    let mut counts: BTreeMap<_, _> = COUNTS
        .iter()
        .map(|(name, metric)| (*name, metrics.get(metric)))
        .collect();
    counts.insert("descriptors", Some(gateway.server.descriptors()?));
    Ok(Books {
        look: gateway.look()?,
        counts,
    })
}

/// Churns.
///
/// # Errors
/// When the gateway fails or stops answering.
pub fn run(bench: &Context) -> Result<Findings> {
    around(bench, Setup::default(), |_| Ok(()))
}

/// Churns a gateway of this setup, which is shown at rest before and after.
///
/// # Errors
/// When the gateway fails or stops answering; those of `at_rest`.
pub fn around(
    bench: &Context,
    setup: Setup,
    mut at_rest: impl FnMut(&mut Gateway) -> Result<()>,
) -> Result<Findings> {
    let (total, warm_up) = bench.scale.churn;
    let mut gateway = Gateway::start(bench, setup)?;
    let mut churn = Churn::new(bench, &gateway)?;
    churn.go(&mut gateway, warm_up, None)?;
    churn.leave(&mut gateway)?;
    at_rest(&mut gateway)?;
    let before = books(&mut gateway)?;
    progress::note(&format!("  {warm_up} connections to warm up, now {total}"));
    let mut looks = Vec::new();
    let begun = Instant::now();
    churn.go(&mut gateway, total, Some(&mut looks))?;
    let seconds = begun.elapsed().as_secs_f64();
    churn.leave(&mut gateway)?;
    let after = books(&mut gateway)?;
    at_rest(&mut gateway)?;
    Ok(findings(&before, &after, &looks, total as f64 / seconds))
}

fn findings(before: &Books, after: &Books, looks: &[(usize, Look)], rate: f64) -> Findings {
    let heap = after.look.user() / before.look.user();
    let resident = after.look.memory.resident / before.look.memory.resident;
    let mut figures = vec![
        Figure::new("heap_ratio", "×", heap)
            .must(Bound::AtMost(limits::CHURN_HEAP))
            .note(after.look.source()),
        Figure::new("rss_ratio", "×", resident).must(Bound::AtMost(limits::CHURN_RSS)),
    ];
    for (name, start) in &before.counts {
        let end = after.counts.get(name).copied().flatten();
        let more = start.zip(end).map(|(start, end)| end - start);
        let figure = Figure::maybe(format!("{name}_left"), "", more).must(Bound::AtMost(0.0));
        let note = match (start, end) {
            (Some(start), Some(end)) => format!("{start} before, {end} after"),
            _ => "this gateway exports no such number".to_owned(),
        };
        figures.push(figure.note(note));
    }
    figures.push(Figure::new("connects_per_second", "/s", rate).note("one load core"));
    let series = |name: &str, pick: fn(&Look) -> f64| Series {
        name: name.to_owned(),
        points: looks
            .iter()
            .map(|(n, look)| (*n as f64, pick(look) / f64::from(1 << 20)))
            .collect(),
    };
    Findings {
        figures,
        plots: vec![Plot {
            file: "churn.svg",
            svg: svg::lines(
                "Memory under churn, a quarter of it rude",
                "MiB",
                "connections that came and went",
                &[
                    series("resident", |l| l.memory.resident),
                    series("heap", Look::user),
                ],
            ),
        }],
        ..Findings::default()
    }
}

/// Clients that come and go.
#[derive(Debug)]
pub struct Churn {
    swarm: Swarm,
    requests: Vec<Vec<u8>>,
    /// Connections begun.
    begun: usize,
    /// Connections that were given their fate.
    fates: usize,
    /// Connections that count as open.
    open: usize,
    /// Half-open ones, oldest first.
    half_open: VecDeque<usize>,
}

impl Churn {
    /// Nobody has come yet.
    ///
    /// # Errors
    /// When a token cannot be signed.
    pub fn new(bench: &Context, gateway: &Gateway) -> Result<Self> {
        let requests = bench
            .tokens(USERS)?
            .iter()
            .map(|token| connect_request(&format!("token={token}")))
            .collect();
        Ok(Self {
            swarm: Swarm::new(gateway.clients, Manner::of(Dialect::Sluice))?,
            requests,
            begun: 0,
            fates: 0,
            open: 0,
            half_open: VecDeque::new(),
        })
    }

    /// Opens and closes `count` connections, with some looks at memory meanwhile.
    ///
    /// # Errors
    /// When one is refused, or nothing moves any more.
    pub fn go(
        &mut self,
        gateway: &mut Gateway,
        count: usize,
        mut looks: Option<&mut Vec<(usize, Look)>>,
    ) -> Result<()> {
        let (mut done, mut left) = (0, count);
        let mut heard = Instant::now();
        let mut told = Instant::now();
        let pace = (count / LOOKS).max(1);
        while done < count {
            while left > 0 && self.open < OPEN {
                let request = &self.requests[self.begun % USERS];
                self.swarm.dial(request)?;
                self.begun += 1;
                self.open += 1;
                left -= 1;
            }
            self.swarm.turn(limits::LOOK)?;
            let closed = self.settle()?;
            if closed > 0 {
                heard = Instant::now();
                if let Some(looks) = &mut looks
                    && (done + closed) / pace > done / pace
                {
                    looks.push((done + closed, gateway.look()?));
                }
                done += closed;
            }
            if told.elapsed() > limits::PROGRESS {
                told = Instant::now();
                progress::note(&format!("  {done} of {count} came and went"));
            }
            if let Some(refusal) = &self.swarm.tally.refusal {
                bail!("after {done} of {count} connections one was refused: {refusal}");
            }
            ensure!(
                heard.elapsed() < STUCK,
                "after {done} of {count} connections nothing moved for {} s",
                STUCK.as_secs()
            );
        }
        Ok(())
    }

    /// Gives those that are ready their fate; says how many connections are over.
    fn settle(&mut self) -> Result<usize> {
        let mut closed = 0;
        for index in std::mem::take(&mut self.swarm.got_ready) {
            self.fates += 1;
            match fate(self.fates) {
                Fate::Goodbye => self.swarm.say_goodbye(index)?,
                Fate::Reset => closed += usize::from(self.swarm.reset(index)),
                Fate::HalfOpen => {
                    self.swarm.half_close(index);
                    self.swarm.stall(index, true)?;
                    self.half_open.push_back(index);
                    if self.half_open.len() > HALF_OPEN
                        && let Some(oldest) = self.half_open.pop_front()
                    {
                        closed += usize::from(self.swarm.drop_one(oldest));
                    }
                }
                Fate::MidFrame => {
                    self.swarm
                        .send_raw(index, &frames::unfinished(100, b"{\"type\":"))?;
                    closed += usize::from(self.swarm.drop_one(index));
                }
            }
        }
        for index in std::mem::take(&mut self.swarm.got_ended) {
            // A stalled client may be told of a reset by its epoll all the same.
            self.half_open.retain(|half| *half != index);
            closed += 1;
        }
        if closed == 0 && self.swarm.tally.ready <= self.half_open.len() {
            // Nothing else is open: the half-open ones go, too.
            while let Some(index) = self.half_open.pop_front() {
                closed += usize::from(self.swarm.drop_one(index));
            }
        }
        self.open -= closed;
        Ok(closed)
    }

    /// Leaves and gives the gateway the time that it needs to notice.
    ///
    /// # Errors
    /// When connections stay.
    pub fn leave(&mut self, gateway: &mut Gateway) -> Result<()> {
        while let Some(index) = self.half_open.pop_front() {
            self.swarm.drop_one(index);
        }
        gateway.emptied()?;
        std::thread::sleep(limits::SETTLE_MEMORY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_rude() {
        let rude = (0..1200).filter(|n| fate(*n) != Fate::Goodbye).count();
        assert_eq!(rude, 300);
    }
}
