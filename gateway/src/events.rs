//! Effects (log lines): each fact that the gateway reports to people, in one place. The numbers are in `metrics`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_protocol::{ChannelName, Position};

use crate::breaker::decide::Readings;
use crate::connection::DisconnectReason;

/// All ports are open.
pub fn listening(client: SocketAddr, publish: SocketAddr, admin: SocketAddr) {
    tracing::info!(%client, %publish, %admin, "listening");
}

/// The broker was reached for the first time and all ports are open.
pub fn ready(after: Duration) {
    tracing::info!(after_ms = after.as_millis() as u64, "ready");
}

/// The link to the broker came up or went down.
pub fn broker_link(up: bool) {
    if up {
        tracing::info!("broker link is up");
    } else {
        tracing::warn!(
            "broker link is down: publishes get 503, connections stay and catch up later"
        );
    }
}

/// A connection was welcomed.
pub fn welcomed(connection: &str, user: &str, resumed: bool, channels: usize) {
    tracing::debug!(connection, user, resumed, channels, "welcomed");
}

/// A connection ended.
pub fn disconnected(connection: &str, user: &str, reason: DisconnectReason, delivered: u32) {
    tracing::debug!(
        connection,
        user,
        reason = reason.word(),
        delivered,
        "disconnected"
    );
}

/// A client was told that notifications are missing. A new epoch means all clients at once, and written lines hold up a shard.
pub fn gap(connection: &str, channel: &ChannelName, from: &Position, to: &Position) {
    tracing::debug!(connection, %channel, %from, %to, "gap");
}

/// The operator, or SIGTERM, wants the connections moved.
pub fn drain_ordered(reason: &str, rate_milli: u64, deadline: Duration, connections: usize) {
    tracing::info!(
        reason,
        rate_milli_per_second = rate_milli,
        deadline_ms = deadline.as_millis() as u64,
        connections,
        "draining"
    );
}

/// The drain was taken back.
pub fn drain_undone(moved: u64) {
    tracing::info!(moved, "drain taken back: accepting again");
}

/// The drain's deadline has come; what is left is closed.
pub fn drain_deadline(left: usize) {
    if left > 0 {
        tracing::warn!(left, "drain deadline reached: closing the rest");
    }
}

/// An admin call of a former operator leader was refused.
pub fn stale_term(lease: &str, transitions: u64) {
    tracing::warn!(lease, transitions, "admin call with a stale term refused");
}

/// SIGTERM came.
pub fn terminating(lag: Duration, deadline: Duration, connections: usize) {
    tracing::info!(
        endpoint_lag_ms = lag.as_millis() as u64,
        deadline_ms = deadline.as_millis() as u64,
        connections,
        "terminating"
    );
}

/// The last connection is gone.
pub fn stopped(after: Duration) {
    tracing::info!(after_ms = after.as_millis() as u64, "stopped");
}

/// The kernel refused to hand over a connection.
pub fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "accept failed");
}

/// A shard ended although nobody asked it to; its clients connect elsewhere.
pub fn shard_failed(shard: u16, error: &std::io::Error) {
    tracing::error!(shard, %error, "a shard has ended");
}

/// Newcomers are refused from now on; what is connected stays.
pub fn breaker_opened(causes: &str, seen: &Readings) {
    tracing::warn!(
        causes,
        connections = seen.connections.used,
        connection_limit = seen.connections.limit,
        memory_bytes = seen.memory.used,
        memory_limit_bytes = seen.memory.limit,
        tasks = seen.tasks.used,
        task_limit = seen.tasks.limit,
        "breaker opened: newcomers get 503"
    );
}

/// Readings have been good for a while: a few newcomers are tried.
pub fn breaker_half_open(per_second: u32) {
    tracing::info!(per_second, "breaker half-open: trying a few newcomers");
}

/// Everybody is taken again.
pub fn breaker_closed() {
    tracing::info!("breaker closed: newcomers are taken again");
}

/// Other thresholds are in force, without a restart.
pub fn limits_changed(generation: &str) {
    tracing::info!(generation, "limits changed");
}

/// A connection was given up for its stalls and late answers.
pub fn unhealthy(connection: &str, score: u8) {
    tracing::debug!(connection, score, "evicted for its health score");
}

/// An address is refused for a while: its connections were closed for their own doing again and again.
pub fn address_tripped(address: IpAddr, reason: DisconnectReason, pause: Duration) {
    tracing::warn!(
        %address,
        reason = reason.word(),
        pause_ms = pause.as_millis() as u64,
        "address refused for a while"
    );
}

/// A heap snapshot lies in the folder.
pub fn heap_snapshot_kept(path: &std::path::Path, after: Duration) {
    tracing::info!(path = %path.display(), after_ms = after.as_millis() as u64, "heap snapshot kept");
}

/// A heap snapshot could not be taken or kept.
pub fn heap_snapshot_failed(error: &crate::forensics::dump::SnapshotError) {
    tracing::warn!(%error, "no heap snapshot");
}

/// The allocator took not all settings; the gateway runs all the same.
pub fn allocator_settings(error: &tikv_jemalloc_ctl::Error) {
    tracing::warn!(%error, "the allocator refused a setting");
}
