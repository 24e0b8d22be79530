//! Effects (counters): every number that `/metrics` shows. What they mean is in their help texts.

mod process;

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::connection::DisconnectReason;
use crate::handshake::metrics::HandshakeMetrics;
use crate::{breaker, forensics, health};

/// Media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// How a publish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishResult {
    /// The broker holds it.
    Stored,
    /// The broker held it already.
    Duplicate,
    /// The request was wrong.
    Refused,
    /// The broker did not say that it holds it.
    Unavailable,
}

impl PublishResult {
    const ALL: [Self; 4] = [
        Self::Stored,
        Self::Duplicate,
        Self::Refused,
        Self::Unavailable,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Every number of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    disconnects: Family<ReasonLabel, Counter>,
    publishes: Family<ResultLabel, Counter>,
    welcomes: Family<KindLabel, Counter>,
    resident: Gauge,
    descriptors: Gauge,
    /// Open WebSocket connections.
    pub connections: Gauge,
    /// Connection limit in force.
    pub max_connections: Gauge,
    /// Connections that wait for a moment, as of the last second.
    pub timers: Gauge,
    /// A shard's uninterrupted turns.
    pub poll_seconds: Histogram,
    /// Subscriptions of all connections.
    pub subscriptions: Gauge,
    /// Channels with a subscriber here.
    pub channels: Gauge,
    /// Messages written to sockets.
    pub delivered: Counter,
    /// Gap notices sent.
    pub gaps: Counter,
    /// Connections that wait for their window or socket.
    pub lagging: Gauge,
    /// Reads sent to the broker.
    pub history_reads: Counter,
    /// From publish to the write into the socket.
    pub delivery_seconds: Histogram,
    /// Handshakes by how they ended, checks of credentials, limits hit.
    pub handshakes: HandshakeMetrics,
    /// From accept to the answer.
    pub handshake_seconds: Histogram,
    /// 0 serving, 1 draining, 2 closing.
    pub drain_state: Gauge,
    /// Connections that left after a migrate.
    pub drain_moved: Counter,
    /// 1 while the broker link is up.
    pub broker_up: Gauge,
    /// Times a connection turned lagging.
    pub outbox_full: Counter,
    /// Times all rings together were full.
    pub rings_full: Counter,
    /// Bytes of frames in all rings.
    pub ring_bytes: Gauge,
    /// Messages that the live side missed and that were read from the broker instead.
    pub live_missed: Counter,
    /// Sockets closed without waiting for the peer's FIN because too many waited.
    pub reaper_full: Counter,
    /// Times a shard did not take messages in time and was sent to history.
    pub shard_queue_full: Counter,
    /// What newcomers use up, and whether they are refused for it.
    pub breaker: breaker::numbers::Numbers,
    /// Stalls, late answers and what followed from them.
    pub health: health::numbers::Numbers,
    /// The heap's figures and snapshots.
    pub heap: forensics::gauges::HeapGauges,
}

impl Metrics {
    /// All numbers at zero, all labels present.
    pub fn new(identity: &crate::config::Identity) -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            handshakes: HandshakeMetrics::new(&mut registry),
            registry,
            disconnects: Family::default(),
            publishes: Family::default(),
            welcomes: Family::default(),
            resident: Gauge::default(),
            descriptors: Gauge::default(),
            connections: Gauge::default(),
            max_connections: Gauge::default(),
            timers: Gauge::default(),
            // 1 ms, the longest turn that does not delay others noticeably, is a bound.
            poll_seconds: Histogram::new(exponential_buckets(31.25e-6, 2.0, 12)),
            subscriptions: Gauge::default(),
            channels: Gauge::default(),
            delivered: Counter::default(),
            gaps: Counter::default(),
            lagging: Gauge::default(),
            history_reads: Counter::default(),
            delivery_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            handshake_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            drain_state: Gauge::default(),
            drain_moved: Counter::default(),
            broker_up: Gauge::default(),
            outbox_full: Counter::default(),
            rings_full: Counter::default(),
            ring_bytes: Gauge::default(),
            live_missed: Counter::default(),
            reaper_full: Counter::default(),
            shard_queue_full: Counter::default(),
            breaker: breaker::numbers::Numbers::default(),
            health: health::numbers::Numbers::default(),
            heap: forensics::gauges::HeapGauges::default(),
        };
        metrics.register(identity);
        for result in PublishResult::ALL {
            drop(metrics.publishes.get_or_create(&ResultLabel {
                result: result.word(),
            }));
        }
        for reason in DisconnectReason::ALL {
            drop(metrics.disconnects.get_or_create(&ReasonLabel {
                reason: reason.word(),
            }));
        }
        for kind in ["new", "resumed"] {
            drop(metrics.welcomes.get_or_create(&KindLabel { kind }));
        }
        metrics
    }

    fn register(&mut self, identity: &crate::config::Identity) {
        let r = &mut self.registry;
        r.register(
            "sluice_connections",
            "Open WebSocket connections",
            self.connections.clone(),
        );
        r.register(
            "sluice_max_connections",
            "Connection limit in force: the least of spec, descriptors and memory",
            self.max_connections.clone(),
        );
        r.register(
            "sluice_disconnects",
            "Ended connections by reason",
            self.disconnects.clone(),
        );
        r.register(
            "sluice_timers",
            "Connections that wait for a moment",
            self.timers.clone(),
        );
        r.register(
            "sluice_shard_poll_seconds",
            "A shard's turns on one connection or task, without a look at its other work",
            self.poll_seconds.clone(),
        );
        r.register(
            "sluice_subscriptions",
            "Subscriptions of all connections",
            self.subscriptions.clone(),
        );
        r.register(
            "sluice_channels",
            "Channels with a subscriber here",
            self.channels.clone(),
        );
        r.register(
            "sluice_messages_delivered",
            "Messages written to sockets",
            self.delivered.clone(),
        );
        r.register("sluice_gaps", "Gap notices sent", self.gaps.clone());
        r.register(
            "sluice_lagging_connections",
            "Connections that wait for their window or socket",
            self.lagging.clone(),
        );
        r.register(
            "sluice_history_reads",
            "History reads sent to the broker",
            self.history_reads.clone(),
        );
        r.register(
            "sluice_publishes",
            "Publishes by how they ended",
            self.publishes.clone(),
        );
        r.register(
            "sluice_delivery_seconds",
            "From publish to the write into the socket",
            self.delivery_seconds.clone(),
        );
        r.register(
            "sluice_handshake_seconds",
            "From accept to the answer",
            self.handshake_seconds.clone(),
        );
        r.register(
            "sluice_drain_state",
            "0 serving, 1 draining, 2 closing",
            self.drain_state.clone(),
        );
        r.register(
            "sluice_drain_moved",
            "Connections that left after a migrate",
            self.drain_moved.clone(),
        );
        r.register(
            "sluice_broker_up",
            "1 while the broker link is up",
            self.broker_up.clone(),
        );
        r.register(
            "sluice_outbox_full",
            "Times a connection turned lagging",
            self.outbox_full.clone(),
        );
        r.register(
            "sluice_rings_full",
            "Times all rings together reached their limit",
            self.rings_full.clone(),
        );
        r.register(
            "sluice_ring_bytes",
            "Bytes of recent frames",
            self.ring_bytes.clone(),
        );
        r.register(
            "sluice_live_missed_messages",
            "Messages that the live side missed and that were read instead",
            self.live_missed.clone(),
        );
        r.register(
            "sluice_reaper_full",
            "Sockets closed without waiting for the peer",
            self.reaper_full.clone(),
        );
        r.register(
            "sluice_shard_queue_full",
            "Times a shard did not take messages in time",
            self.shard_queue_full.clone(),
        );
        r.register(
            "sluice_welcomes",
            "Accepted connections by kind of login",
            self.welcomes.clone(),
        );
        r.register(
            "process_resident_memory_bytes",
            "Resident memory",
            self.resident.clone(),
        );
        r.register(
            "process_open_fds",
            "Open descriptors",
            self.descriptors.clone(),
        );
        let build = Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("fleet", identity.fleet.clone()),
            ("pod", identity.pod.clone()),
        ]);
        r.register("sluice_build", "What runs here", build);
        self.breaker.register(r);
        self.health.register(r);
        self.heap.register(r);
    }

    /// Counts the end of a connection.
    pub fn disconnect(&self, reason: DisconnectReason) {
        self.disconnects
            .get_or_create(&ReasonLabel {
                reason: reason.word(),
            })
            .inc();
    }

    /// Counts a publish.
    pub fn publish(&self, result: PublishResult) {
        self.publishes
            .get_or_create(&ResultLabel {
                result: result.word(),
            })
            .inc();
    }

    /// Counts a welcome.
    pub fn welcome(&self, resumed: bool) {
        self.welcomes
            .get_or_create(&KindLabel {
                kind: if resumed { "resumed" } else { "new" },
            })
            .inc();
    }

    /// The text for Prometheus.
    pub fn render(&self) -> String {
        self.resident.set(process::resident_bytes());
        self.descriptors.set(process::open_descriptors());
        self.heap.refresh();
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = encode(&mut text, &self.registry) {
            // Writing to a String fails only when a collector does, and there is none.
            let _ = writeln!(text, "# {error}");
        }
        text
    }
}

/// A count as gauges take it.
pub fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
