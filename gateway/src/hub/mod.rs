//! Effects (a lock, atomics): from the broker to the shards.
//!
//! The broker offers every message once; the hub encodes it if somebody here follows its channel, and hands the same frame to
//! every shard with a follower. It keeps no messages: each shard has a ring per channel, and each connection reads that from
//! its own position, when its window and its socket allow.
//!
//! Shards meet here only when their first follower of a channel comes or their last one leaves.

mod heard;
pub mod ring;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sluice_protocol::{ChannelName, Epoch, Offset, message_suffix};

use crate::broker::{LiveSink, StoredMessage};
use crate::metrics::Metrics;
use crate::shard::inbox::{Delivery, Inbox};
use heard::Heard;
use ring::Frame;

/// Offsets stay below 2^53; the bits above say which epoch a mark belongs to.
const OFFSET_BITS: u32 = 53;

/// As many epochs can be told apart; a mark that is older than that does not exist.
const GENERATIONS: u16 = 1 << (64 - OFFSET_BITS);

/// From channel to the shards with followers.
#[derive(Debug)]
pub struct Hub {
    table: Mutex<Table>,
    /// Highest offset that the broker is known to have stored: where new channels start.
    seen: AtomicU64,
    /// Everything up to here was handed to the shards, with the number of its epoch: where idle channels may move their cursors.
    fed: AtomicU64,
    heard: Heard,
    inboxes: Arc<[Arc<Inbox>]>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    epoch: Option<Epoch>,
    /// Counts epochs, modulo [`GENERATIONS`].
    generation: u16,
    /// One bit for each shard with a follower.
    interest: HashMap<ChannelName, u64>,
}

/// Where a shard's ring of a channel starts: every later message will be handed to the shard.
#[derive(Clone, Debug)]
pub struct Start {
    /// Epoch of the position.
    pub epoch: Epoch,
    /// Number of the epoch, see [`Fed`].
    pub generation: u16,
    /// The position.
    pub at: u64,
    /// The channel is known to have been quiet since here; whoever comes back within this stretch needs no history.
    pub quiet_since: u64,
}

/// How far the shards were fed. What a shard finds in its inbox after it took this mark includes everything up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// The mark says nothing about channels with another number.
    pub generation: u16,
    /// Everything up to here was handed over, whether or not a channel had followers then.
    pub offset: u64,
}

impl Fed {
    fn pack(self) -> u64 {
        u64::from(self.generation) << OFFSET_BITS | self.offset
    }

    fn unpack(word: u64) -> Self {
        Self {
            generation: (word >> OFFSET_BITS) as u16,
            offset: word & ((1 << OFFSET_BITS) - 1),
        }
    }
}

impl Hub {
    /// Without channels, and without an epoch until the broker was reached.
    pub fn new(inboxes: Arc<[Arc<Inbox>]>, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Mutex::default(),
            seen: AtomicU64::new(0),
            fed: AtomicU64::new(0),
            heard: Heard::new(),
            inboxes,
            metrics,
        }
    }

    /// The present epoch; `None` until the broker was reached once.
    pub fn epoch(&self) -> Option<Epoch> {
        self.table().epoch.clone()
    }

    /// How far the shards were fed.
    pub fn fed(&self) -> Fed {
        Fed::unpack(self.fed.load(Ordering::Acquire))
    }

    /// Highest offset known to be stored.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// A shard's first follower of a channel has come. `None` while there is no epoch.
    pub fn follow(&self, name: &ChannelName, shard: u16) -> Option<Start> {
        let mut table = self.table();
        let start = self.start(name, &table)?;
        if let Some(shards) = table.interest.get_mut(name.as_str()) {
            *shards |= bit(shard);
        } else {
            table.interest.insert(name.clone(), bit(shard));
            self.metrics.channels.inc();
        }
        Some(start)
    }

    fn start(&self, name: &ChannelName, table: &Table) -> Option<Start> {
        let seen = self.seen();
        // In this order: everything up to `seen` was then offered, and is in `heard`.
        let quiet_since = if self.fed().offset >= seen {
            self.heard.quiet_since(name).min(seen)
        } else {
            seen
        };
        Some(Start {
            epoch: table.epoch.clone()?,
            generation: table.generation,
            at: seen,
            quiet_since,
        })
    }

    /// A shard's last follower of a channel has left.
    pub fn leave(&self, name: &ChannelName, shard: u16) {
        let mut table = self.table();
        let Some(shards) = table.interest.get_mut(name.as_str()) else {
            return;
        };
        *shards &= !bit(shard);
        if *shards == 0 {
            table.interest.remove(name.as_str());
            // A crowd that has left does not keep the table it needed.
            if table.interest.len() < table.interest.capacity() / 4 {
                table.interest.shrink_to_fit();
            }
            self.metrics.channels.dec();
        }
    }

    /// The table stays locked while shards are handed something, so that all of them get everything in one order.
    fn hand_out(&self, shards: u64, delivery: impl Fn() -> Delivery) {
        for (inbox, shard) in self.inboxes.iter().zip(0..) {
            if shards & bit(shard) != 0 && !inbox.deliver(delivery()) {
                self.metrics.shard_queue_full.inc();
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(shard: u16) -> u64 {
    1 << shard
}

impl LiveSink for Hub {
    fn live(&self, name: &ChannelName, message: StoredMessage, previous: u64) {
        let table = self.table();
        // Before the look-up: a ring made after it starts behind this message, one made before it gets it.
        self.seen.fetch_max(message.offset, Ordering::AcqRel);
        self.heard.note(name, message.offset);
        let (Some(epoch), Some(shards)) = (&table.epoch, table.interest.get(name.as_str())) else {
            return;
        };
        let frame = Arc::new(encode(name, epoch, &message, previous));
        self.hand_out(*shards, || Delivery::Frame {
            channel: name.clone(),
            frame: Arc::clone(&frame),
        });
    }

    fn fed_to(&self, offset: u64) {
        let table = self.table();
        self.seen.fetch_max(offset, Ordering::AcqRel);
        let fed = Fed {
            generation: table.generation,
            offset: offset.max(self.fed().offset),
        };
        self.fed.store(fed.pack(), Ordering::Release);
    }

    fn epoch(&self, epoch: &Epoch, last: u64) {
        let mut table = self.table();
        if table.epoch.as_ref() == Some(epoch) {
            drop(table);
            // The link was made anew; what was stored meanwhile was not offered.
            if self.fed().offset < last {
                self.skipped(last);
            }
            return;
        }
        let first = table.epoch.replace(epoch.clone()).is_none();
        let generation = (table.generation + 1) % GENERATIONS;
        table.generation = generation;
        self.heard.restart(last);
        self.seen.store(last, Ordering::Release);
        tracing::info!(%epoch, last, first, "positions belong to a new epoch");
        self.hand_out(u64::MAX, || Delivery::Epoch {
            epoch: epoch.clone(),
            generation,
            last,
        });
        let fed = Fed {
            generation,
            offset: last,
        };
        self.fed.store(fed.pack(), Ordering::Release);
    }

    fn missed(&self, messages: u64) {
        self.metrics.live_missed.inc_by(messages);
    }

    fn skipped(&self, to: u64) {
        let _table = self.table();
        self.heard.missed(to);
        self.seen.fetch_max(to, Ordering::AcqRel);
        self.hand_out(u64::MAX, || Delivery::Skipped { to });
    }

    fn up(&self, up: bool) {
        let before = self.metrics.broker_up.set(i64::from(up));
        if before != i64::from(up) {
            crate::events::broker_link(up);
        }
    }
}

/// Encodes a message once for all its readers.
pub fn encode(name: &ChannelName, epoch: &Epoch, message: &StoredMessage, previous: u64) -> Frame {
    let offset = Offset::new(message.offset).unwrap_or_default();
    let data = std::str::from_utf8(&message.data).unwrap_or("null");
    let suffix = Bytes::from(message_suffix(name, epoch, offset, message.time, data));
    Frame {
        offset: message.offset,
        previous,
        time: message.time,
        suffix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_packing() {
        for (generation, offset) in [(0, 0), (1, 7), (GENERATIONS - 1, (1 << 53) - 1)] {
            let fed = Fed { generation, offset };
            assert_eq!(Fed::unpack(fed.pack()), fed);
        }
    }
}
