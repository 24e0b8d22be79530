//! Pure: how large a run is. The whole size is that of the limits; the quick one shows in minutes whether something is far off.

use std::time::Duration;

/// Sizes and counts of every benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Connections of the large benchmarks.
    pub connections: usize,
    /// Runs of floor and ours, in turn.
    pub pairs: usize,
    /// Broadcasts whose CPU time is measured, per run: so many that every client acknowledges once meanwhile.
    pub broadcasts: usize,
    /// Broadcasts whose time to the last receiver is measured, per run.
    pub timed_broadcasts: usize,
    /// Upgrades per run.
    pub upgrades: usize,
    /// Small messages of the burst.
    pub burst: usize,
    /// How long idle connections are watched, per run.
    pub idle: Duration,
    /// Connects and closes of the churn, and those of its warm-up.
    pub churn: (usize, usize),
    /// Readers that stall.
    pub stalled: usize,
    /// Connections against each peer, and its runs.
    pub peers: (usize, usize),
    /// Bytes that each way of writing sends in a run.
    pub writer_bytes: usize,
    /// Replacements of each thread of the registry, per run.
    pub replacements: usize,
    /// How long the soak lasts.
    pub soak: Duration,
}

impl Scale {
    /// The size of the limits.
    pub const FULL: Self = Self {
        connections: 18_000,
        pairs: 7,
        broadcasts: 128,
        timed_broadcasts: 20,
        upgrades: 16_000,
        burst: 100,
        idle: Duration::from_secs(27),
        churn: (2_000_000, 100_000),
        stalled: 1000,
        peers: (18_000, 3),
        writer_bytes: 1 << 30,
        replacements: 1_000_000,
        soak: Duration::from_mins(30),
    };

    /// A look in a few minutes.
    pub const QUICK: Self = Self {
        connections: 2000,
        pairs: 3,
        broadcasts: 128,
        timed_broadcasts: 10,
        upgrades: 4000,
        burst: 20,
        idle: Duration::from_secs(15),
        churn: (24_000, 4000),
        stalled: 100,
        peers: (2000, 1),
        writer_bytes: 1 << 27,
        replacements: 200_000,
        soak: Duration::from_mins(5),
    };

    /// With other numbers of connections and pairs and another soak; what depends on them follows.
    #[must_use]
    pub fn with(
        mut self,
        connections: Option<usize>,
        pairs: Option<usize>,
        soak: Option<Duration>,
    ) -> Self {
        if let Some(connections) = connections {
            self.connections = connections;
            self.upgrades = self.upgrades.min(connections);
            self.stalled = self.stalled.min(connections / 4).max(1);
            self.peers.0 = connections;
        }
        if let Some(pairs) = pairs {
            self.pairs = pairs;
            self.peers.1 = self.peers.1.min(pairs);
        }
        self.soak = soak.unwrap_or(self.soak);
        self
    }
}
