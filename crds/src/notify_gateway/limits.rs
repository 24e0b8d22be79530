//! Bounds on clients in a `NotifyGatewaySpec` (pure data). Pods are started with them, so a change is a rollout.

use crate::rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on what clients may send, hold and do. Each pod counts for itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::limits()))]
pub struct LimitsSpec {
    /// Bytes of the largest message a client may send, and of the largest data a publisher may send.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub message_bytes: i32,
    /// Notifications sent to a client before it must acknowledge.
    #[schemars(range(min = 1, max = 65_536))]
    pub window_messages: i32,
    /// Bytes sent to a client before it must acknowledge.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub window_bytes: i32,
    /// Connections one user may have to one pod; 0 sets no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_connections_per_user: i32,
    /// Connections one client address (IPv6: one /64) may have to one pod; 0 sets no limit. Without trustedProxyHops all
    /// clients behind a proxy or a NAT count as one.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_connections_per_address: i32,
    /// Handshakes of all clients together that one pod takes per second; 0 sets no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second: i32,
    /// Handshakes of one user per minute, all of which may come at once; 0 sets no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_minute_per_user: i32,
    /// Handshakes from one client address (IPv6: one /64) per minute, all of which may come at once; 0 sets no limit.
    /// Without trustedProxyHops all clients behind a proxy or a NAT count as one.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_minute_per_address: i32,
    /// Frames one client may send per second, of which ten seconds' worth may come at once; 0 sets no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub client_messages_per_second: i32,
    /// Proxies before the gateways that append the client's address to X-Forwarded-For; 0 takes the address that the
    /// connection comes from.
    #[schemars(range(min = 0, max = 16))]
    pub trusted_proxy_hops: i32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            message_bytes: 16_384,
            window_messages: 256,
            window_bytes: 262_144,
            max_connections_per_user: 100,
            max_connections_per_address: 0,
            handshakes_per_second: 0,
            handshakes_per_minute_per_user: 120,
            handshakes_per_minute_per_address: 0,
            client_messages_per_second: 100,
            trusted_proxy_hops: 0,
        }
    }
}
