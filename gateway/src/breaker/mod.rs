//! Effects (clock, readings): refuses newcomers while what they use up is short; what is connected stays.
//!
//! ```text
//! every second:  look, runtimes, registry ─► numbers (/metrics) ─► decide (pure) ─► gate
//! handshake:     shut? before credentials; admit, once it is known whom a connection replaces
//! ```

pub mod cgroup;
pub mod decide;
pub mod gate;
pub mod look;
pub mod numbers;
pub mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::Handle;

use crate::auth::resume::SessionId;
use crate::core::Core;
use crate::metrics::{Metrics, level};
use crate::registry::{Place, Registry};
use crate::tuning::Tuning;
use crate::{events, limits};
use decide::{Causes, Level, Readings, State, decide};
use gate::{Gate, Kind};
use look::Look;
use room::Measure;

/// Refuses newcomers while what they use up is short.
#[derive(Debug)]
pub struct Breaker {
    gate: Gate,
    runtimes: Mutex<Vec<Handle>>,
    metrics: Arc<Metrics>,
    tuning: Arc<Tuning>,
    /// Connections by configuration and descriptors.
    configured: usize,
}

impl Breaker {
    /// Closed. `configured` is the connection limit by configuration and descriptors.
    pub fn new(configured: usize, metrics: Arc<Metrics>, tuning: Arc<Tuning>) -> Self {
        metrics.max_connections.set(level(configured));
        Self {
            gate: Gate::default(),
            runtimes: Mutex::default(),
            metrics,
            tuning,
            configured,
        }
    }

    /// The runtimes whose tasks are counted.
    pub fn watched(&self) -> Vec<Handle> {
        self.runtimes().clone()
    }

    /// Counts a runtime's tasks from now on. Each thread with a runtime of its own says so once.
    pub fn watch(&self, runtime: Handle) {
        self.runtimes().push(runtime);
    }

    /// Whether nobody is let in, whoever it is. Counted as a refusal.
    pub fn shut(&self) -> bool {
        let kind = self.gate.kind();
        if kind.is_shut() {
            self.metrics.breaker.refused(kind);
        }
        kind.is_shut()
    }

    /// Whether a newcomer would be refused now; for those who ask before they come.
    pub fn is_open(&self) -> bool {
        !matches!(self.gate.kind(), Kind::Closed | Kind::HalfOpen)
    }

    /// Takes a place for one connection, or refuses it. One that replaces a connection of its session here uses up nothing more.
    pub async fn admit(&self, registry: &Arc<Registry>, session: SessionId) -> Option<Place> {
        let kind = self.gate.kind();
        let passes = match kind {
            Kind::Closed => true,
            Kind::HalfOpen => registry.holds(session).await || self.gate.try_one(),
            Kind::Full => registry.holds(session).await,
            Kind::Memory | Kind::Tasks => false,
        };
        if !passes {
            self.metrics.breaker.refused(kind);
            return None;
        }
        registry.admit(session).await
    }

    /// Looks and decides every second, for ever; ends with its task.
    pub async fn run(core: Arc<Core>) {
        let breaker = &core.breaker;
        breaker.watch(Handle::current());
        let look = Look::new();
        let mut measure = Measure::default();
        let mut state = State::default();
        let began = Instant::now();
        let mut tick = tokio::time::interval(limits::BREAKER_INTERVAL);
        // After a pause one look is enough.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            breaker.gather(&look, &mut measure);
            state = breaker.step(state, began.elapsed());
            core.visitors.sweep();
        }
    }

    /// Sets the gauges to what there is now.
    fn gather(&self, look: &Look, measure: &mut Measure) {
        let numbers = &self.metrics.breaker;
        let rules = self.tuning.breaker();
        let connections = self.connections();
        // What cannot be read for once (no descriptor is left) is what it was: it must not open the gate.
        if let Some(memory) = look.memory() {
            if memory.working_set > 0 {
                measure.take(connections, memory.working_set);
            }
            numbers.working_set.set(memory.working_set);
            numbers.sockets.set(memory.sockets);
            numbers.memory_limit.set(memory.limit.unwrap_or(0));
        }
        let fits = measure.fits(numbers.memory_limit.get(), rules.memory_percent);
        let configured = self.configured as u64;
        numbers.each.set(measure.each().unwrap_or(0));
        let most = room::connection_limit(configured, fits);
        self.metrics.max_connections.set(level(most as usize));
        numbers.tasks.set(self.tasks());
        numbers
            .task_limit
            .set(room::task_limit(rules.max_tasks, configured));
    }

    /// Decides by what the gauges say, and sets the gate.
    fn step(&self, before: State, at: Duration) -> State {
        let rules = self.tuning.breaker();
        let state = decide(&self.readings(at), &rules, before);
        self.gate.set(state, rules.probes_per_second);
        let numbers = &self.metrics.breaker;
        let causes = match state {
            State::Open { causes, .. } => causes,
            State::Closed | State::HalfOpen { .. } => Causes::default(),
        };
        numbers.causes(causes);
        numbers.state.set(match state {
            State::Closed => 0,
            State::HalfOpen { .. } => 1,
            State::Open { .. } => 2,
        });
        match (before, state) {
            (State::Closed | State::HalfOpen { .. }, State::Open { causes, .. }) => {
                numbers.opened.inc();
                events::breaker_opened(&causes.words(), &self.readings(at));
            }
            (State::Open { .. }, State::HalfOpen { .. }) => {
                events::breaker_half_open(rules.probes_per_second);
            }
            (State::HalfOpen { .. }, State::Closed) => events::breaker_closed(),
            _ => {}
        }
        state
    }

    /// What `/metrics` shows.
    fn readings(&self, at: Duration) -> Readings {
        let numbers = &self.metrics.breaker;
        let of = |used, limit| Level { used, limit };
        Readings {
            at,
            connections: of(self.connections(), count(&self.metrics.max_connections)),
            memory: of(numbers.working_set.get(), numbers.memory_limit.get()),
            tasks: of(numbers.tasks.get(), numbers.task_limit.get()),
        }
    }

    fn connections(&self) -> u64 {
        count(&self.metrics.connections)
    }

    fn tasks(&self) -> u64 {
        let counts = self.runtimes();
        let counts = counts
            .iter()
            .map(|runtime| runtime.metrics().num_alive_tasks());
        counts.sum::<usize>() as u64
    }

    fn runtimes(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a gauge that is never negative shows.
fn count(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}
