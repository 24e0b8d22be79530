//! Effects (owner): what all parts of one gateway share. Several gateways may live in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::auth::Auth;
use crate::breaker::Breaker;
use crate::broker::Broker;
use crate::config::{Config, ConfigError};
use crate::drain::Drain;
use crate::forensics::Forensics;
use crate::handshake::admission::Admission;
use crate::health::Health;
use crate::health::visitors::Visitors;
use crate::history::History;
use crate::hub::Hub;
use crate::limits;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::tuning::Tuning;

/// What all parts of one gateway share.
#[derive(Debug)]
pub struct Core {
    /// Checked settings.
    pub config: Config,
    /// Random per process: tells a restarted container from the one before.
    pub boot_id: String,
    /// When this gateway was made.
    pub started: Instant,
    /// Who clients are.
    pub auth: Auth,
    /// How much clients may do.
    pub admission: Admission,
    /// Who keeps notifications.
    pub broker: Arc<dyn Broker>,
    /// From channel to subscribers.
    pub hub: Arc<Hub>,
    /// Reads of what the hub no longer has.
    pub history: Arc<History>,
    /// All connections.
    pub registry: Arc<Registry>,
    /// Whether connections are to leave.
    pub drain: Drain,
    /// Whether this pod is alive and ready.
    pub health: Health,
    /// Thresholds that may change while it runs.
    pub tuning: Arc<Tuning>,
    /// Whether newcomers are refused.
    pub breaker: Breaker,
    /// Addresses that clients come from, while that matters.
    pub visitors: Arc<Visitors>,
    /// Takes heap snapshots.
    pub forensics: Forensics,
    /// Every number.
    pub metrics: Arc<Metrics>,
    /// Places for handshakes.
    pub handshakes: Arc<Semaphore>,
    exiting: AtomicBool,
}

impl Core {
    /// Puts the parts together; nothing runs yet. Must be called inside the control runtime, which serves the broker.
    pub fn new(config: Config, broker: Arc<dyn Broker>) -> Result<Arc<Self>, ConfigError> {
        let metrics = Arc::new(Metrics::new(&config.identity));
        let tuning = Arc::new(Tuning::new(config.rules.clone()));
        let boot: u64 = rand::random();
        let boot_id = format!("{boot:016x}");
        let inboxes: Arc<[_]> = (0..config.shards).map(|_| Arc::default()).collect();
        let most = config.max_connections;
        Ok(Arc::new(Self {
            auth: Auth::new(&config, metrics.handshakes.clone(), Handle::current())?,
            admission: Admission::new(&config.handshake, metrics.handshakes.clone()),
            hub: Arc::new(Hub::new(Arc::clone(&inboxes), Arc::clone(&metrics))),
            history: History::new(Arc::clone(&broker), Handle::current(), Arc::clone(&metrics)),
            registry: Registry::new(most, boot, inboxes, Arc::clone(&metrics)),
            drain: Drain::new(config.ending.reconnect_rate),
            health: Health::new(),
            forensics: Forensics::new(&config.heap),
            breaker: Breaker::new(most, Arc::clone(&metrics), Arc::clone(&tuning)),
            visitors: Visitors::new(Arc::clone(&metrics), Arc::clone(&tuning)),
            tuning,
            handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES_IN_PROGRESS)),
            exiting: AtomicBool::new(false),
            started: Instant::now(),
            config,
            boot_id,
            broker,
            metrics,
        }))
    }

    /// True when probes may send clients here: the broker was reached once, ports are open, nobody asked to stop.
    pub fn is_ready(&self) -> bool {
        self.health.may_serve() && self.hub.epoch().is_some()
    }

    /// False when the control runtime or a shard has not run for [`limits::LIVENESS_STUCK`].
    pub fn is_alive(&self) -> bool {
        let now = self.started.elapsed();
        let oldest = (0..self.config.shards)
            .map(|shard| self.registry.inbox(shard).last_beat())
            .min();
        let stuck = now.saturating_sub(Duration::from_millis(oldest.unwrap_or_default()));
        self.health.is_alive() && stuck < limits::LIVENESS_STUCK
    }

    /// Handshakes in progress.
    pub fn handshakes_in_progress(&self) -> usize {
        limits::HANDSHAKES_IN_PROGRESS - self.handshakes.available_permits()
    }

    /// The process is about to end; publishers should connect elsewhere.
    pub fn set_exiting(&self) {
        self.exiting.store(true, Ordering::Release);
    }

    /// See [`Self::set_exiting`].
    pub fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }
}
