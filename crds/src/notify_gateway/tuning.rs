//! The thresholds of a `NotifyGatewaySpec` that gateways are told while they run (pure data): a change here restarts and
//! rolls out nothing.

use crate::rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a pod refuses new clients (503 with Retry-After) to protect those it has. Running gateways are told of a change;
/// nothing is restarted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::breaker()))]
pub struct Breaker {
    /// New clients are refused from this share of the connection limit on, in percent. The limit is the smallest of
    /// maxConnectionsPerPod, the descriptor limit less a reserve, and what the memory limit has room for at the measured
    /// size of a connection.
    #[schemars(range(min = 1, max = 100))]
    pub connections_percent: i32,
    /// New clients are refused from this share of the container's memory limit on, in percent. What counts is the working
    /// set with socket buffers, without page cache. Without a memory limit nothing is refused for memory.
    #[schemars(range(min = 1, max = 100))]
    pub memory_percent: i32,
    /// Percent points by which every reading must fall below its threshold before new clients are tried again.
    #[schemars(range(min = 0, max = 50))]
    pub margin_percent: i32,
    /// New clients are refused from this number of tasks in the gateway on; 0 takes twice the connection limit plus 4096.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub max_tasks: i32,
    /// Seconds for which all readings must be good before a few new clients are tried.
    #[schemars(range(min = 1, max = 600))]
    pub open_seconds: i32,
    /// Seconds for which readings must stay good with those clients before everybody is let in.
    #[schemars(range(min = 1, max = 600))]
    pub half_open_seconds: i32,
    /// New clients that are tried per second meanwhile, per pod.
    #[schemars(range(min = 1, max = 100_000))]
    pub probes_per_second: i32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            connections_percent: 95,
            memory_percent: 80,
            margin_percent: 5,
            max_tasks: 0,
            open_seconds: 5,
            half_open_seconds: 5,
            probes_per_second: 10,
        }
    }
}

/// When a connection is given up, by a score of its own: 100 less 30 for each recent stall or late answer, never below 10.
/// Running gateways are told of a change; nothing is restarted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::health()))]
pub struct Health {
    /// Seconds for which a stall or a late answer counts against a connection.
    #[schemars(range(min = 1, max = 3600))]
    pub window_seconds: i32,
    /// Seconds for which a client must take nothing of what is written to it to have stalled. Each stall counts once,
    /// however long it lasts.
    #[schemars(range(min = 1, max = 600))]
    pub stall_seconds: i32,
    /// Seconds after which the answer to a ping is late. Values from heartbeat.serverTimeoutSeconds on have no effect: the
    /// connection is closed then.
    #[schemars(range(min = 1, max = 600))]
    pub answer_seconds: i32,
    /// A connection whose score is below this is closed as slow, so that its client connects anew; 0 closes none.
    #[schemars(range(min = 0, max = 100))]
    pub evict_below: i32,
    /// Seconds for which the score must be below evictBelow.
    #[schemars(range(min = 0, max = 600))]
    pub evict_after_seconds: i32,
    /// Connections of one client address that must be closed as slow or for broken framing before the address is refused
    /// for a while; 0 (off) or at least 2. Switch it on only where gateways see the clients' own addresses.
    #[schemars(range(min = 0, max = 10))]
    pub trip_evictions: i32,
    /// Seconds within which those connections must have been closed.
    #[schemars(range(min = 1, max = 3600))]
    pub trip_window_seconds: i32,
    /// Seconds for which the address is then refused, by each pod for itself.
    #[schemars(range(min = 1, max = 3600))]
    pub trip_seconds: i32,
    /// An address with more connections than this is a proxy or a NAT, and is never refused.
    #[schemars(range(min = 1, max = 1000))]
    pub trip_connections: i32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            window_seconds: 120,
            stall_seconds: 5,
            answer_seconds: 3,
            evict_below: 40,
            evict_after_seconds: 5,
            trip_evictions: 0,
            trip_window_seconds: 300,
            trip_seconds: 60,
            trip_connections: 3,
        }
    }
}
