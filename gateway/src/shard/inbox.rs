//! Effects (locks, a wake-up): what other threads leave for a shard. Deliveries are bounded: a shard that does not take them loses
//! them and reads history instead. Letters are few: two for each connection's life, and a drain's questions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_protocol::{ChannelName, Epoch};
use tokio::sync::{Notify, oneshot};

use super::slab::Key;
use crate::auth::resume::SessionId;
use crate::connection::control::Control;
use crate::hub::ring::Frame;
use crate::limits;

/// One connection of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// Its shard.
    pub shard: u16,
    /// Its place there.
    pub key: Key,
}

/// What the hub has for a shard, in order.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A message of a channel.
    Frame {
        /// Which channel.
        channel: ChannelName,
        /// The message, shared by all its readers.
        frame: Arc<Frame>,
    },
    /// Positions were made anew.
    Epoch {
        /// The new epoch.
        epoch: Epoch,
        /// Its number.
        generation: u16,
        /// Nothing after this position was handed over yet.
        last: u64,
    },
    /// Messages up to here are missing: followers look into history.
    Skipped {
        /// The position.
        to: u64,
    },
}

/// What anybody has for a shard.
#[derive(Debug)]
pub enum Letter {
    /// An order for one connection.
    Order(Key, Control),
    /// To the shard that keeps this session: a connection of it has begun; an older one is replaced.
    Arrived(SessionId, Seat),
    /// To the same: it has ended.
    Left(SessionId, Seat),
    /// To the same: is there a connection of this session?
    IsHere(SessionId, oneshot::Sender<bool>),
    /// Who was not asked to go yet?
    NotAsked(oneshot::Sender<Vec<Key>>),
    /// Ask these to go; how many were there and had not been asked?
    Ask(Vec<(Key, Control)>, oneshot::Sender<usize>),
    /// Everybody may stay who was asked to go.
    LetStay,
    /// Close everybody with 1012.
    CloseAll,
}

/// What others leave for one shard.
#[derive(Debug, Default)]
pub struct Inbox {
    deliveries: Mutex<Deliveries>,
    letters: Mutex<Vec<Letter>>,
    bell: Notify,
    beat: AtomicU64,
}

#[derive(Debug, Default)]
struct Deliveries {
    queue: Vec<Delivery>,
    bytes: usize,
}

impl Inbox {
    /// Leaves a delivery. False when there was no room: the shard is told to skip what it did not take.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        let mut deliveries = lock(&self.deliveries);
        let fits = deliveries.push(delivery);
        let first = deliveries.queue.len() == 1 || !fits;
        drop(deliveries);
        if first {
            self.bell.notify_one();
        }
        fits
    }

    /// Exchanges an empty list for everything that was delivered.
    pub fn take_deliveries(&self, into: &mut Vec<Delivery>) {
        let mut deliveries = lock(&self.deliveries);
        std::mem::swap(&mut deliveries.queue, into);
        deliveries.bytes = 0;
    }

    /// Leaves a letter.
    pub fn post(&self, letter: Letter) {
        lock(&self.letters).push(letter);
        self.bell.notify_one();
    }

    /// Takes all letters.
    pub fn take_letters(&self) -> Vec<Letter> {
        std::mem::take(&mut *lock(&self.letters))
    }

    /// Completes when something was left.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The shard runs, so many milliseconds after the gateway's start.
    pub fn beat(&self, at: u64) {
        self.beat.store(at, Ordering::Release);
    }

    /// When the shard ran last, milliseconds after the gateway's start.
    pub fn last_beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }
}

impl Deliveries {
    fn push(&mut self, delivery: Delivery) -> bool {
        if let Delivery::Frame { frame, .. } = &delivery {
            self.bytes += frame.suffix.len();
        }
        self.queue.push(delivery);
        if self.queue.len() <= limits::SHARD_QUEUE && self.bytes <= limits::SHARD_QUEUE_BYTES {
            return true;
        }
        self.give_up();
        false
    }

    /// Replaces all messages by a notice of how far they went; the present epoch stays.
    fn give_up(&mut self) {
        let mut to = 0;
        let mut present = None;
        for delivery in std::mem::take(&mut self.queue) {
            match delivery {
                Delivery::Frame { frame, .. } => to = to.max(frame.offset),
                Delivery::Skipped { to: skipped } => to = to.max(skipped),
                Delivery::Epoch { .. } => {
                    to = 0;
                    present = Some(delivery);
                }
            }
        }
        self.queue.extend(present);
        self.queue.push(Delivery::Skipped { to });
        self.bytes = 0;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;

    fn frame(offset: u64) -> Delivery {
        let frame = Frame {
            offset,
            previous: 0,
            time: 0,
            suffix: Bytes::from_static(b"x"),
        };
        Delivery::Frame {
            channel: ChannelName::new("c").unwrap(),
            frame: Arc::new(frame),
        }
    }

    #[test]
    fn a_full_inbox_turns_into_a_notice_and_keeps_the_epoch() {
        let inbox = Inbox::default();
        let most = limits::SHARD_QUEUE as u64;
        assert!(inbox.deliver(frame(1_000_000)));
        assert!(inbox.deliver(Delivery::Epoch {
            epoch: Epoch::new("e").unwrap(),
            generation: 2,
            last: 5,
        }));
        for offset in 6..most + 4 {
            assert!(inbox.deliver(frame(offset)));
        }
        assert!(!inbox.deliver(frame(most + 4)));
        assert!(inbox.deliver(frame(most + 5)));
        let mut all = Vec::new();
        inbox.take_deliveries(&mut all);
        let [
            Delivery::Epoch { generation: 2, .. },
            Delivery::Skipped { to },
            Delivery::Frame { .. },
        ] = &all[..]
        else {
            panic!("{all:?}")
        };
        assert_eq!(*to, most + 4);
    }
}
