//! Effects (counters): the breaker's readings and what it does. It decides by these gauges, so `/metrics` shows what it saw.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::decide::Causes;
use super::gate::Kind;

/// A gauge of something that is never negative.
pub type Amount = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

/// The breaker's numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    /// 0 closed, 1 half-open, 2 open.
    pub state: Gauge,
    causes: Family<CauseLabel, Gauge>,
    refusals: Family<CauseLabel, Counter>,
    /// Times it opened.
    pub opened: Counter,
    /// Bytes that the kernel cannot take back at once.
    pub working_set: Amount,
    /// Of those, bytes in sockets' buffers.
    pub sockets: Amount,
    /// The cgroup's limit in bytes; 0 without one.
    pub memory_limit: Amount,
    /// Measured bytes per connection; 0 before there were enough.
    pub each: Amount,
    /// Tasks of the runtimes.
    pub tasks: Amount,
    /// Tasks at which newcomers are refused.
    pub task_limit: Amount,
}

impl Numbers {
    /// Registers everything, all labels at zero.
    pub fn register(&self, r: &mut Registry) {
        for kind in [Kind::HalfOpen, Kind::Full, Kind::Memory, Kind::Tasks] {
            let cause = kind.word();
            drop(self.refusals.get_or_create(&CauseLabel { cause }));
        }
        self.causes(Causes::default());
        r.register(
            "sluice_breaker_state",
            "0 takes newcomers, 1 tries a few, 2 refuses them",
            self.state.clone(),
        );
        r.register(
            "sluice_breaker_cause",
            "1 for each reading that keeps newcomers out",
            self.causes.clone(),
        );
        r.register(
            "sluice_breaker_refusals",
            "Newcomers refused by cause; half_open: beyond those that are tried",
            self.refusals.clone(),
        );
        r.register(
            "sluice_breaker_opened",
            "Times newcomers began to be refused",
            self.opened.clone(),
        );
        let readings = [
            (
                "sluice_memory_working_set_bytes",
                "Memory of the cgroup less inactive page cache, sockets included",
                &self.working_set,
            ),
            (
                "sluice_memory_socket_bytes",
                "Kernel memory in sockets' buffers",
                &self.sockets,
            ),
            (
                "sluice_memory_limit_bytes",
                "Memory limit of the cgroup, 0 without one",
                &self.memory_limit,
            ),
            (
                "sluice_memory_bytes_per_connection",
                "Measured, 0 before there were enough",
                &self.each,
            ),
            ("sluice_tasks", "Tasks of the runtimes", &self.tasks),
            (
                "sluice_tasks_limit",
                "Tasks at which newcomers are refused",
                &self.task_limit,
            ),
        ];
        for (name, help, gauge) in readings {
            r.register(name, help, gauge.clone());
        }
    }

    /// Shows which readings keep newcomers out.
    pub fn causes(&self, causes: Causes) {
        for (cause, holds) in Causes::WORDS.into_iter().zip(causes.flags()) {
            self.causes
                .get_or_create(&CauseLabel { cause })
                .set(holds.into());
        }
    }

    /// Counts a refused newcomer.
    pub fn refused(&self, by: Kind) {
        let cause = by.word();
        self.refusals.get_or_create(&CauseLabel { cause }).inc();
    }
}
