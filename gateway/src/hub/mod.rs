//! Effects (locks, wake-ups): from channel to subscribers.
//!
//! The broker offers every message once; the hub encodes it if somebody here follows its channel, puts it into the channel's
//! ring and wakes the followers. It queues nothing for anybody: each connection reads the ring from its own position, when
//! its window and its socket allow.

mod heard;
pub mod ring;
pub mod tap;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use sluice_protocol::{ChannelName, Epoch, Offset, message_suffix};
use tokio::sync::Notify;

use crate::broker::{LiveSink, StoredMessage};
use crate::limits;
use crate::metrics::{Metrics, level};
use heard::Heard;
use ring::{Frame, Next, Place, Pushed, Ring};
use tap::Tap;

/// All channels that somebody here follows.
#[derive(Debug)]
pub struct Hub {
    channels: Mutex<HashMap<ChannelName, Arc<Channel>>>,
    epoch: RwLock<Option<Epoch>>,
    /// Highest offset that the broker is known to have stored: where new channels start.
    seen: AtomicU64,
    /// Everything up to here was offered: where idle channels may move their cursors.
    fed_to: AtomicU64,
    heard: Heard,
    crowded: Notify,
    metrics: Arc<Metrics>,
}

/// One channel with followers.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    taps: HashMap<u64, Arc<Tap>>,
}

impl Channel {
    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Its epoch and the end of what was offered.
    pub fn tip(&self) -> (Epoch, u64) {
        let inner = self.lock();
        (inner.ring.epoch().clone(), inner.ring.tip())
    }

    /// What comes after a place.
    pub fn next(&self, epoch: &Epoch, place: Place, most: usize) -> Next {
        self.lock().ring.next(epoch, place, most)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Without channels, and without an epoch until the broker was reached.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            channels: Mutex::default(),
            epoch: RwLock::new(None),
            seen: AtomicU64::new(0),
            fed_to: AtomicU64::new(0),
            heard: Heard::new(),
            crowded: Notify::new(),
            metrics,
        }
    }

    /// The present epoch; `None` until the broker was reached once.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything up to here, in every channel, has been offered to its followers.
    pub fn fed_to(&self) -> u64 {
        self.fed_to.load(Ordering::Acquire)
    }

    /// Highest offset known to be stored.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Follows a channel: from now on the tap is woken. `None` while there is no epoch.
    pub fn follow(&self, name: &ChannelName, tap: Arc<Tap>) -> Option<Arc<Channel>> {
        let mut channels = self.channels();
        let channel = if let Some(channel) = channels.get(name) {
            Arc::clone(channel)
        } else {
            let ring = self.quiet_ring(name)?;
            let inner = Mutex::new(Inner {
                ring,
                taps: HashMap::new(),
            });
            let channel = Arc::new(Channel {
                name: name.clone(),
                inner,
            });
            channels.insert(name.clone(), Arc::clone(&channel));
            self.metrics.channels.inc();
            channel
        };
        channel.lock().taps.insert(tap.connection(), tap);
        self.metrics.subscriptions.inc();
        Some(channel)
    }

    /// A ring for a channel that had no followers. It covers the time in which the channel was quiet, so that whoever comes
    /// back within it needs no history.
    fn quiet_ring(&self, name: &ChannelName) -> Option<Ring> {
        let epoch = self.epoch()?;
        let seen = self.seen();
        // In this order: everything up to `seen` was then offered, and is in `heard`.
        let since = if self.fed_to() >= seen {
            self.heard.quiet_since(name).min(seen)
        } else {
            seen
        };
        Some(Ring::quiet(epoch, since, seen))
    }

    /// Ends what [`Self::follow`] began; the last follower takes the channel with it.
    pub fn leave(&self, channel: &Channel, connection: u64) {
        let mut channels = self.channels();
        let mut inner = channel.lock();
        if inner.taps.remove(&connection).is_none() {
            return;
        }
        self.metrics.subscriptions.dec();
        if inner.taps.is_empty() {
            self.metrics.ring_bytes.dec_by(level(inner.ring.bytes()));
            drop(inner);
            channels.remove(&channel.name);
            self.metrics.channels.dec();
        }
    }

    /// Drops old frames for ever; ends with its task.
    pub async fn sweep(&self) {
        loop {
            let crowded = tokio::select! {
                () = tokio::time::sleep(limits::RING_SWEEP) => false,
                () = self.crowded.notified() => true,
            };
            let keep = if crowded {
                std::time::Duration::from_secs(1)
            } else {
                limits::RING_AGE
            };
            let oldest = crate::auth::now_millis().saturating_sub(keep.as_millis() as u64);
            let channels: Vec<_> = self.channels().values().cloned().collect();
            for chunk in channels.chunks(256) {
                for channel in chunk {
                    self.change_ring(&mut channel.lock(), |ring| ring.expire(oldest));
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelName, Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_ring<T>(&self, inner: &mut Inner, change: impl FnOnce(&mut Ring) -> T) -> T {
        let before = level(inner.ring.bytes());
        let result = change(&mut inner.ring);
        // A ring whose last follower left is no longer counted.
        if !inner.taps.is_empty() {
            self.metrics
                .ring_bytes
                .inc_by(level(inner.ring.bytes()) - before);
        }
        result
    }
}

impl LiveSink for Hub {
    fn live(&self, name: &ChannelName, message: StoredMessage, previous: u64) {
        // Before the look-up: a channel made after it starts behind this message, one made before it gets it.
        self.seen.fetch_max(message.offset, Ordering::AcqRel);
        self.heard.note(name, message.offset);
        let Some(channel) = self.channels().get(name.as_str()).cloned() else {
            return;
        };
        let mut inner = channel.lock();
        if message.offset <= inner.ring.tip() {
            return;
        }
        let frame = Arc::new(encode(name, inner.ring.epoch(), &message, previous));
        let crowded = self.metrics.ring_bytes.get() > level(limits::RINGS_BYTES);
        let messages = if crowded { 1 } else { limits::RING_MESSAGES };
        let pushed = self.change_ring(&mut inner, |ring| {
            let pushed = ring.push(frame);
            ring.trim(messages, limits::RING_BYTES);
            pushed
        });
        if pushed == Pushed::Restarted {
            tracing::debug!(channel = %name, "the live side skipped messages; followers read history");
        }
        for tap in inner.taps.values() {
            tap.wake();
        }
        drop(inner);
        if crowded {
            self.metrics.rings_full.inc();
            self.crowded.notify_one();
        }
    }

    fn fed_to(&self, offset: u64) {
        self.seen.fetch_max(offset, Ordering::AcqRel);
        self.fed_to.fetch_max(offset, Ordering::AcqRel);
    }

    fn epoch(&self, epoch: &Epoch, last: u64) {
        let mut present = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        if present.as_ref() == Some(epoch) {
            return;
        }
        let first = present.is_none();
        *present = Some(epoch.clone());
        self.heard.restart(last);
        self.seen.store(last, Ordering::Release);
        self.fed_to.store(last, Ordering::Release);
        drop(present);
        tracing::info!(%epoch, last, first, "positions belong to a new epoch");
        let channels: Vec<_> = self.channels().values().cloned().collect();
        for channel in channels {
            let mut inner = channel.lock();
            self.change_ring(&mut inner, |ring| *ring = Ring::new(epoch.clone(), last));
            for tap in inner.taps.values() {
                tap.wake();
            }
        }
    }

    fn missed(&self, messages: u64) {
        self.metrics.live_missed.inc_by(messages);
    }

    fn skipped(&self, to: u64) {
        self.heard.missed(to);
        self.seen.fetch_max(to, Ordering::AcqRel);
        let channels: Vec<_> = self.channels().values().cloned().collect();
        for channel in channels {
            let mut inner = channel.lock();
            if inner.ring.tip() >= to {
                continue;
            }
            self.change_ring(&mut inner, |ring| {
                *ring = Ring::new(ring.epoch().clone(), to);
            });
            for tap in inner.taps.values() {
                tap.wake();
            }
        }
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
