//! Effects (counters): every number that `/metrics` shows. What they mean is in their help texts.

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

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// A connection came of it.
    Accepted,
    /// Credentials missing, wrong or expired.
    Unauthorized,
    /// A request that cannot succeed: wrong path, query, channel.
    Rejected,
    /// Refused because the gateway is draining or closing.
    Draining,
    /// Refused because the gateway is full or has never reached its broker.
    Overload,
    /// The socket failed.
    Error,
    /// The request took too long.
    Timeout,
}

impl HandshakeResult {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Unauthorized,
        Self::Rejected,
        Self::Draining,
        Self::Overload,
        Self::Error,
        Self::Timeout,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unauthorized => "unauthorized",
            Self::Rejected => "rejected",
            Self::Draining => "draining",
            Self::Overload => "overload",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
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
    handshakes: Family<ResultLabel, Counter>,
    disconnects: Family<ReasonLabel, Counter>,
    publishes: Family<ResultLabel, Counter>,
    welcomes: Family<KindLabel, Counter>,
    resident: Gauge,
    descriptors: Gauge,
    /// Open WebSocket connections.
    pub connections: Gauge,
    /// Most connections.
    pub max_connections: Gauge,
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
}

impl Metrics {
    /// All numbers at zero, all labels present.
    pub fn new(identity: &crate::config::Identity) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            handshakes: Family::default(),
            disconnects: Family::default(),
            publishes: Family::default(),
            welcomes: Family::default(),
            resident: Gauge::default(),
            descriptors: Gauge::default(),
            connections: Gauge::default(),
            max_connections: Gauge::default(),
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
        };
        metrics.register(identity);
        for result in HandshakeResult::ALL {
            drop(metrics.handshakes.get_or_create(&ResultLabel {
                result: result.word(),
            }));
        }
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
            "Most connections",
            self.max_connections.clone(),
        );
        r.register(
            "sluice_handshakes",
            "Handshakes by how they ended",
            self.handshakes.clone(),
        );
        r.register(
            "sluice_disconnects",
            "Ended connections by reason",
            self.disconnects.clone(),
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
    }

    /// Counts a handshake.
    pub fn handshake(&self, result: HandshakeResult) {
        self.handshakes
            .get_or_create(&ResultLabel {
                result: result.word(),
            })
            .inc();
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
        self.resident.set(resident_bytes());
        self.descriptors.set(open_descriptors());
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = encode(&mut text, &self.registry) {
            // Writing to a String fails only when a collector does, and there is none.
            let _ = writeln!(text, "# {error}");
        }
        text
    }
}

fn resident_bytes() -> i64 {
    const PAGE: i64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok())
        .unwrap_or(0)
        * PAGE
}

fn open_descriptors() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| level(entries.count()))
}

/// A count as gauges take it.
pub fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
