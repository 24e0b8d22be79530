//! Effects (clock, randomness, orders to connections): empties this gateway at a bounded rate.

pub mod pacing;
pub mod plan;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use crate::connection::control::Control;
use crate::core::Core;
use crate::shard::inbox::Seat;
use crate::{events, limits};
use pacing::Pacer;
use plan::{Order, Plan, Refused, State, Term};

/// Whether connections are to leave.
#[derive(Debug)]
pub struct Drain {
    plan: Mutex<Plan>,
    changed: Notify,
    moved: AtomicU64,
    budget: u32,
    start: Instant,
}

/// The drain as `/v1/drain` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Connections now.
    pub connections: usize,
    /// Connections that left after a migrate, since the process started.
    pub moved: u64,
    /// Rate now, thousandths per second.
    pub rate_milli_per_second: u64,
    /// Time left.
    pub deadline_in_ms: Option<u64>,
    /// Readiness.
    pub ready: bool,
    /// This process.
    pub boot_id: String,
    /// This pod.
    pub instance: String,
    /// Which thresholds are in force.
    pub limits_generation: String,
}

impl Drain {
    /// Serving. `budget` is the fleet's reconnect budget, per second.
    pub fn new(budget: u32) -> Self {
        Self {
            plan: Mutex::default(),
            changed: Notify::new(),
            moved: AtomicU64::new(0),
            budget,
            start: Instant::now(),
        }
    }

    /// The operator wants this pod empty within `deadline`.
    pub fn order(
        &self,
        term: Option<Term>,
        reason: &str,
        rate_milli: Option<u64>,
        deadline: Duration,
    ) -> Result<(), Refused> {
        let now = self.now();
        // Reasons on the wire are one snake_case word.
        let reason = reason.replace('-', "_");
        let order = Order {
            reason,
            rate_milli,
            deadline: now + deadline,
        };
        self.plan().drain(term, order, now)?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// The operator takes it back. True when a drain was running.
    pub fn undo(&self, term: Option<Term>) -> Result<bool, Refused> {
        let undone = self.plan().undo(term)?;
        self.changed.notify_waiters();
        Ok(undone)
    }

    /// Does something else that the operator orders, unless a newer leader has spoken; nobody else speaks meanwhile.
    pub fn fenced<T>(&self, term: Option<Term>, act: impl FnOnce() -> T) -> Result<T, Refused> {
        let mut plan = self.plan();
        plan.fence(term)?;
        Ok(act())
    }

    /// SIGTERM came.
    pub fn terminate(&self) {
        self.plan().terminate();
    }

    /// Everybody has to be gone within `deadline`.
    pub fn close_within(&self, deadline: Duration) {
        let now = self.now();
        self.plan().close_by(now + deadline, now);
        self.changed.notify_waiters();
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.plan().state()
    }

    /// True while newcomers are taken.
    pub fn accepts(&self) -> bool {
        self.plan().refusing_since().is_none()
    }

    /// One more connection has left after a migrate.
    pub fn note_moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that left after a migrate.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The drain as `/v1/drain` shows it.
    pub fn status(&self, core: &Core) -> Status {
        let connections = core.registry.len();
        let now = self.now();
        let plan = self.plan();
        Status {
            state: plan.state(),
            connections,
            moved: self.moved(),
            rate_milli_per_second: plan.rate_milli(connections, self.budget, now),
            deadline_in_ms: plan
                .order()
                .map(|order| order.deadline.saturating_sub(now).as_millis() as u64),
            ready: core.is_ready(),
            boot_id: core.boot_id.clone(),
            instance: core.config.identity.pod.clone(),
            limits_generation: core.tuning.generation(),
        }
    }

    /// Asks connections to go, for ever; ends with its task.
    pub async fn run(core: Arc<Core>) {
        let drain = &core.drain;
        loop {
            let changed = drain.changed.notified();
            let state = drain.state();
            core.metrics.drain_state.set(state as i64);
            if state == State::Serving {
                changed.await;
            } else {
                drain.empty(&core).await;
            }
        }
    }

    /// From the first order to the undo; after the deadline it goes on closing whoever still comes.
    async fn empty(&self, core: &Arc<Core>) {
        let mut pacer = Pacer::new(self.now());
        let mut waiting = VecDeque::from(core.registry.not_asked().await);
        let mut late = false;
        let mut tick = tokio::time::interval(limits::DRAIN_TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = self.now();
            let (state, order, rate) = {
                let plan = self.plan();
                (
                    plan.state(),
                    plan.order().cloned(),
                    plan.rate_milli(core.registry.len(), self.budget, now),
                )
            };
            core.metrics.drain_state.set(state as i64);
            let Some(order) = order else {
                return core.registry.let_stay();
            };
            if now >= order.deadline {
                let left = core.registry.close_all();
                if !late {
                    events::drain_deadline(left);
                    late = true;
                }
                continue;
            }
            late = false;
            let due = pacer.due(rate, now);
            if due > 0 && waiting.is_empty() {
                waiting.extend(core.registry.not_asked().await);
            }
            Self::ask(core, &mut waiting, due, rate, &order.reason).await;
        }
    }

    async fn ask(core: &Core, waiting: &mut VecDeque<Seat>, due: usize, rate: u64, reason: &str) {
        let reason: Arc<str> = Arc::from(reason);
        // A slot is as long as one connection's share of the rate, at most until the next tick at high rates.
        let slot =
            Duration::from_millis((1_000_000 / rate.max(1)).clamp(1, 1000)).max(limits::DRAIN_TICK);
        let order = |seat| {
            let not_before = slot.mul_f64(rand::random::<f64>());
            let reason = Arc::clone(&reason);
            (seat, Control::Migrate { reason, not_before })
        };
        let mut asked = 0;
        while asked < due && !waiting.is_empty() {
            let next = waiting.drain(..waiting.len().min(due - asked));
            asked += core.registry.ask_to_go(next.map(order).collect()).await;
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
