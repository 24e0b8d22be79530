//! Effects (clock, a lock): which addresses clients come from while trips are on, and which of them are refused for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_protocol::ErrorCode;

use super::trip::{Outcome, Trips};
use crate::connection::DisconnectReason;
use crate::error::ApiError;
use crate::handshake::address::client_block;
use crate::handshake::admission::retry_after;
use crate::metrics::{Metrics, level};
use crate::tuning::Tuning;
use crate::{events, limits};

/// Clients' addresses. Empty while trips are off.
#[derive(Debug)]
pub struct Visitors {
    began: Instant,
    tuning: Arc<Tuning>,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    trips: Trips,
    /// Connections by address; never more lines than connections.
    connections: HashMap<IpAddr, usize>,
}

/// One connection's line, removed when dropped.
#[derive(Debug)]
pub struct Visitor {
    visitors: Arc<Visitors>,
    block: IpAddr,
}

impl Visitors {
    /// Nobody is known yet.
    pub fn new(metrics: Arc<Metrics>, tuning: Arc<Tuning>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            tuning,
            metrics,
            table: Mutex::new(Table {
                trips: Trips::new(limits::TRIPPED_ADDRESSES),
                connections: HashMap::new(),
            }),
        })
    }

    /// Whether it matters which address a client has.
    pub fn are_watched(&self) -> bool {
        self.tuning.health().trip_evictions > 0
    }

    /// Refuses an address whose connections were closed for its own doing again and again.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        let Some(address) = address.filter(|_| self.are_watched()) else {
            return Ok(());
        };
        let left = self.table().trips.refused_for(address, self.now());
        left.map_or(Ok(()), |left| {
            let text = "connections from this address were closed again and again: come back later";
            let wait = left.as_millis() as u64 + retry_after();
            Err(ApiError::new(ErrorCode::RateLimited, text).after_ms(wait))
        })
    }

    /// Counts a connection for its address.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Visitor> {
        let block = address.filter(|_| self.are_watched()).map(client_block)?;
        *self.table().connections.entry(block).or_default() += 1;
        Some(Visitor {
            visitors: Arc::clone(self),
            block,
        })
    }

    /// Drops what is over; called every second.
    pub fn sweep(&self) {
        let rules = self.tuning.health();
        let now = self.now();
        let mut table = self.table();
        table.trips.sweep(now, &rules);
        self.metrics
            .health
            .tripped
            .set(level(table.trips.tripped(now)));
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Its connection is over. Being slow and broken framing count against the address.
    pub fn left(self, reason: DisconnectReason) {
        if !matches!(reason, DisconnectReason::Slow | DisconnectReason::Protocol) {
            return;
        }
        let visitors = &self.visitors;
        let rules = visitors.tuning.health();
        let now = visitors.now();
        let mut table = visitors.table();
        let connections = table.connections.get(&self.block).copied().unwrap_or(1);
        let outcome = table.trips.evicted(self.block, connections, now, &rules);
        drop(table);
        if let Outcome::Tripped(pause) = outcome {
            visitors.metrics.health.trips.inc();
            events::address_tripped(self.block, reason, pause);
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut table = self.visitors.table();
        let Some(count) = table.connections.get_mut(&self.block) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            table.connections.remove(&self.block);
        }
        if table.connections.is_empty() {
            // What a crowd took is given back.
            table.connections.shrink_to_fit();
        }
    }
}
