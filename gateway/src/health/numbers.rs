//! Effects (counters): how long connections kept the gateway waiting, and who was given up for it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The socket to take what was written; only waits that counted as a stall.
    Write,
    /// The answer to a probe.
    Answer,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WaitLabel {
    on: &'static str,
}

/// Seconds: the defaults of probe (6 s) and slow reader (45 s) are among them or between two.
fn waits() -> Histogram {
    Histogram::new([
        0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 45.0, 60.0,
    ])
}

/// The numbers of connections' health.
#[derive(Debug)]
pub struct Numbers {
    waits: Family<WaitLabel, Histogram>,
    /// Stalls and late answers that counted against a connection.
    pub events: Counter,
    /// Connections evicted for their score.
    pub evictions: Counter,
    /// Times an address began to be refused.
    pub trips: Counter,
    /// Addresses that are refused now.
    pub tripped: Gauge,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            waits: Family::new_with_constructor(waits),
            events: Counter::default(),
            evictions: Counter::default(),
            trips: Counter::default(),
            tripped: Gauge::default(),
        }
    }
}

impl Numbers {
    /// Registers everything, all labels at zero.
    pub fn register(&self, r: &mut Registry) {
        for wait in [Wait::Write, Wait::Answer] {
            drop(self.waits.get_or_create(&label(wait)));
        }
        r.register(
            "sluice_wait_seconds",
            "How long a connection kept the gateway waiting: a stalled write, the answer to a probe",
            self.waits.clone(),
        );
        r.register(
            "sluice_health_events",
            "Stalls and late answers that counted against a connection",
            self.events.clone(),
        );
        r.register(
            "sluice_health_evictions",
            "Connections evicted for their health score",
            self.evictions.clone(),
        );
        r.register(
            "sluice_trips",
            "Times an address began to be refused",
            self.trips.clone(),
        );
        r.register(
            "sluice_tripped_addresses",
            "Addresses that are refused now",
            self.tripped.clone(),
        );
    }

    /// A wait is over, by an answer or by giving up.
    pub fn waited(&self, wait: Wait, seconds: f64) {
        self.waits.get_or_create(&label(wait)).observe(seconds);
    }
}

fn label(wait: Wait) -> WaitLabel {
    WaitLabel {
        on: match wait {
            Wait::Write => "write",
            Wait::Answer => "answer",
        },
    }
}
