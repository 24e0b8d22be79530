//! Effects (clock, counters): how long the client keeps us waiting, and what follows from it.

use std::time::{Duration, Instant};

use super::{Connection, Farewell};
use crate::events;
use crate::health::numbers::Wait;
use crate::health::score::Verdict;

impl Connection {
    /// A frame came: a probe is answered by it, in time or late.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(since) = self.liveness.waiting_since() {
            let core = self.shard.core();
            let rules = core.tuning.health();
            let numbers = &core.metrics.health;
            let waited = now.saturating_duration_since(since);
            numbers.waited(Wait::Answer, waited.as_secs_f64());
            if waited >= Duration::from_secs(rules.answer_seconds.into()) {
                numbers.events.inc();
                let at = now.saturating_duration_since(core.started);
                self.health.timeout(at, &rules);
            }
        }
        self.liveness.heard(now);
    }

    /// Counts a stall, and evicts who has had too many troubles lately. Gives the moment of the next look.
    pub(super) fn check_health(&mut self, now: Instant) -> Result<Option<Instant>, Farewell> {
        let stuck_since = self.stuck_since().map(|at| self.since_start(at));
        // Nearly always: the thresholds are behind a lock that all connections share.
        if self.health.is_spotless(stuck_since) {
            return Ok(None);
        }
        let (at, core) = (self.since_start(now), self.shard.core());
        if let Some(lasted) = self.health.ended_stall(stuck_since, at) {
            core.metrics
                .health
                .waited(Wait::Write, lasted.as_secs_f64());
        }
        let rules = core.tuning.health();
        if self.health.count_stall(stuck_since, at, &rules) {
            core.metrics.health.events.inc();
        }
        match self.health.verdict(at, &rules) {
            Verdict::Wait(next) => {
                let looks = [next, self.health.stalls_at(stuck_since, &rules)];
                Ok(looks
                    .into_iter()
                    .flatten()
                    .min()
                    .map(|next| core.started + next))
            }
            Verdict::Evict => {
                core.metrics.health.evictions.inc();
                let score = self.health.score(at, &rules);
                events::unhealthy(&core.registry.name(self.id), score);
                Err(Farewell::slow())
            }
        }
    }

    /// The connection ends: so do its waits, unanswered.
    pub(super) fn end_waits(&mut self, now: Instant) {
        let core = self.shard.core();
        let numbers = &core.metrics.health;
        if let Some(since) = self.liveness.waiting_since() {
            let waited = now.saturating_duration_since(since);
            numbers.waited(Wait::Answer, waited.as_secs_f64());
        }
        let at = now.saturating_duration_since(core.started);
        if let Some(lasted) = self.health.ended_stall(None, at) {
            numbers.waited(Wait::Write, lasted.as_secs_f64());
        }
    }

    /// On the clock that health scores are kept by.
    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.shard.core().started)
    }
}
