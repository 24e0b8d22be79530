//! Effects: a running load, from start to the final audit.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use super::audit::{Auditor, Missing};
use super::clients::{self, Factory};
use super::config::LoadConfig;
use super::limits;
use super::log::Micros;
use super::publish::{Publisher, Targets};
use super::report::{AuditReport, Snapshot, Span, StepReport};
use super::tally::{Count, Reading, lock};

/// How long a report waits for deliveries that are due, unless told otherwise: longer than the longest backoff.
const SETTLE: Duration = Duration::from_secs(40);

/// A running load. Dropping it ends everything without an audit.
pub struct Load {
    auditor: Arc<Auditor>,
    targets: Arc<Targets>,
    factory: Arc<Factory>,
    publisher: Arc<Publisher>,
    clients: AtomicUsize,
    rates: Arc<[AtomicU64; 2]>,
    begun: Mark,
    step: Mutex<Mark>,
    steps: Mutex<Vec<StepReport>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Where a span began.
#[derive(Clone, Default)]
struct Mark {
    name: String,
    at_ms: u32,
    reading: Reading,
    missing: Missing,
}

impl Load {
    /// Starts publishing and begins to connect the configured clients.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub async fn start(config: LoadConfig) -> Result<Self> {
        let auditor = Auditor::new();
        let topics = clients::topics(&config)?;
        let targets = Arc::new(Targets {
            topics,
            ..Targets::default()
        });
        let publisher = Arc::new(Publisher::new(&config, &auditor, &targets)?);
        let wanted = config.clients;
        let load = Self {
            factory: Arc::new(Factory::new(config, &auditor, &targets)),
            auditor,
            targets,
            publisher,
            clients: AtomicUsize::new(0),
            rates: Arc::default(),
            begun: Mark::default(),
            step: Mutex::default(),
            steps: Mutex::default(),
            tasks: Mutex::default(),
        };
        load.spawn(load.publisher.clone().run());
        load.spawn(watch(load.auditor.clone(), load.rates.clone()));
        load.add_clients(wanted);
        // The first turn of each task, so that a snapshot taken at once shows a load that runs.
        tokio::task::yield_now().await;
        Ok(load)
    }

    /// Begins to connect more clients, at the configured rate.
    pub fn add_clients(&self, more: usize) {
        let first = self.clients.fetch_add(more, Ordering::Relaxed);
        let factory = self.factory.clone();
        self.spawn(async move {
            if let Err(error) = factory.make(first..first + more).await {
                tracing::error!(%error, "clients could not be made");
            }
        });
    }

    /// Changes the publish rate, per second.
    pub fn set_publish_rate(&self, per_second: u32) {
        self.publisher.rate.store(per_second, Ordering::Relaxed);
    }

    /// Waits until every client has a live connection; gives the time it took.
    ///
    /// # Errors
    /// When that does not happen within `limit`.
    pub async fn all_connected(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let Snapshot {
                clients, connected, ..
            } = self.snapshot();
            if connected >= clients {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                bail!("only {connected} of {clients} clients are connected after {limit:?}");
            }
            sleep(limits::LOOK_EVERY).await;
        }
    }

    /// The load at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let tally = &self.auditor.tally;
        let now = self.auditor.now_ms();
        Snapshot {
            clients: self.clients.load(Ordering::Relaxed) as u64,
            connected: tally.connected.load(Ordering::Relaxed),
            accepted: tally.get(Count::Accepted),
            refused: tally.get(Count::Refused),
            delivered: tally.get(Count::Delivered),
            gaps: tally.get(Count::Gaps),
            publishes_per_second: self.rates[0].load(Ordering::Relaxed),
            deliveries_per_second: self.rates[1].load(Ordering::Relaxed),
            welcomes_per_second: tally.welcomes().since(now.saturating_sub(1000)),
        }
    }

    /// Begins a step.
    pub fn mark(&self, name: &str) {
        let missing = self.auditor.judge(0);
        *lock(&self.step) = Mark {
            name: name.to_owned(),
            at_ms: self.auditor.now_ms(),
            reading: self.auditor.tally.read(),
            missing,
        };
    }

    /// Time since the last [`Self::mark`], or since the beginning.
    pub fn since_mark(&self) -> Duration {
        let began = lock(&self.step).at_ms;
        Duration::from_millis(self.auditor.now_ms().saturating_sub(began).into())
    }

    /// The figures since the last [`Self::mark`], after what was accepted by now has been delivered or has not come for
    /// 40 s. Keeps the report for the final one. The publishers and clients go on.
    pub async fn step_report(&self) -> StepReport {
        let mark = lock(&self.step).clone();
        let missing = self.settle(SETTLE).await;
        let report = self.report(&mark, missing);
        lock(&self.steps).push(report.clone());
        report
    }

    /// Stops publishing, waits for deliveries, audits, and closes the clients.
    pub async fn stop(self) -> AuditReport {
        self.publisher.finish().await;
        let missing = self.settle(SETTLE).await;
        let mut total = self.report(&self.begun, missing);
        "total".clone_into(&mut total.name);
        clients::stop(self.factory.take(), limits::STOP_ALL).await;
        let steps = std::mem::take(&mut *lock(&self.steps));
        AuditReport { total, steps }
    }

    /// Waits until all that was accepted by now has been delivered; what is missing after `limit` is the result.
    async fn settle(&self, limit: Duration) -> Missing {
        let (before, begun) = (self.auditor.now(), Instant::now());
        loop {
            let missing = self.auditor.judge(before);
            if missing == Missing::default() || begun.elapsed() > limit {
                return missing;
            }
            sleep(limits::LOOK_EVERY).await;
        }
    }

    fn report(&self, mark: &Mark, missing: Missing) -> StepReport {
        let tally = &self.auditor.tally;
        let seconds = f64::from(self.auditor.now_ms().saturating_sub(mark.at_ms)) / 1000.0;
        let snapshot = self.snapshot();
        let users = lock(&self.targets.users);
        let offset_faults = Auditor::log_faults(&self.targets.topics) + Auditor::log_faults(&users);
        drop(users);
        let welcomes = tally.welcomes();
        let span = Span {
            name: mark.name.clone(),
            seconds,
            clients: snapshot.clients,
            connected: snapshot.connected,
            missing,
            missing_before: mark.missing,
            peaks: (
                welcomes.peak(mark.at_ms, 1000),
                welcomes.peak(mark.at_ms, 5000),
            ),
            again: welcomes.again(mark.at_ms).count() as u64,
            offset_faults,
        };
        drop(welcomes);
        StepReport::new(span, &tally.read().since(&mark.reading))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.tasks).push(tokio::spawn(task));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

/// Judges now and then, so that memory holds only what is not settled, and measures the rates of each second.
async fn watch(auditor: Arc<Auditor>, rates: Arc<[AtomicU64; 2]>) {
    let mut seconds = interval(Duration::from_secs(1));
    let mut before = [0; 2];
    let mut judged: Micros = 0;
    loop {
        seconds.tick().await;
        let now = [Count::Accepted, Count::Delivered].map(|c| auditor.tally.get(c));
        for ((rate, now), before) in rates.iter().zip(now).zip(before) {
            rate.store(now - before, Ordering::Relaxed);
        }
        before = now;
        if auditor.now() - judged >= limits::JUDGE_EVERY.as_micros() as Micros {
            judged = auditor.now();
            auditor.judge(0);
        }
    }
}
