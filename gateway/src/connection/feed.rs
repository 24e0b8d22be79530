//! Effects (shard, history, socket): brings a connection's channels forward, as far as its window and its socket allow.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use sluice_protocol::{ChannelName, Position};

use super::subscription::offset;
use super::{Connection, Farewell, NO_SLOT, ReadResult};
use crate::history::Wish;
use crate::hub::ring::Next;
use crate::limits;

impl Connection {
    /// Gathers what is due, and writes whenever a batch is full. True when there is more and it could go at once: others shall
    /// run in between.
    pub(super) fn feed(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let mut budget = limits::MESSAGES_PER_TURN;
        while self.can_send() {
            let Some(slot) = self.ready.next_from(self.next_slot) else {
                return Ok(false);
            };
            if budget == 0 {
                return Ok(true);
            }
            self.ready.remove(slot);
            self.next_slot = (slot + 1) % 128;
            if !self.feed_slot(slot, &mut budget) {
                self.flush(cx)?;
                self.make_ready(slot);
            }
        }
        Ok(false)
    }

    /// True when there is nothing more to do for this slot before other slots, history or news have been looked at.
    fn feed_slot(&mut self, slot: u8, budget: &mut usize) -> bool {
        let seen = self.shard.core().hub.seen();
        let Some(subscription) = self.subscription(slot) else {
            return true;
        };
        let channel = Rc::clone(&subscription.channel);
        match channel.next(&subscription.epoch, subscription.place) {
            Next::UpToDate if subscription.announce.is_some() && subscription.place.at > seen => {
                // A position that this gateway has not heard of: another one may be ahead, or positions were reused.
                self.behind.insert(slot);
                true
            }
            Next::UpToDate => {
                self.announce(slot, true);
                true
            }
            Next::Frames(first) => {
                subscription.fruitless = 0;
                self.announce(slot, true);
                let mut all = true;
                channel.frames(first, |frame| {
                    let batch = self.batch();
                    all = *budget > 0 && batch.messages() < limits::MESSAGES_PER_WRITE;
                    all = all && self.can_send();
                    if all {
                        *budget -= 1;
                        let last = self.window.last_sent();
                        self.batch().message(slot, Arc::clone(frame), last);
                    }
                    all
                });
                all
            }
            Next::Behind { until } if subscription.fruitless >= limits::FRUITLESS_READS => {
                let epoch = subscription.epoch.clone();
                self.skip(slot, epoch, until);
                false
            }
            Next::Behind { .. } => {
                self.behind.insert(slot);
                true
            }
            Next::OtherEpoch => {
                let (epoch, tip) = channel.tip();
                self.skip(slot, epoch, tip);
                false
            }
        }
    }

    /// Begins the next history read, one at a time per connection, and only when what it brings could be sent.
    pub(super) fn start_reading(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| self.shard.now() >= at) {
            self.retry_at = None;
        }
        if !self.may_read() || !self.can_send() {
            return false;
        }
        let Some(slot) = self.behind.next_from(self.next_slot) else {
            return false;
        };
        self.behind.remove(slot);
        let Some(subscription) = self.subscription(slot) else {
            return false;
        };
        let channel = &subscription.channel;
        let wish = Wish {
            channel: channel.name().clone(),
            epoch: subscription.epoch.clone(),
            after: subscription.place.at,
            tip: channel.tip().1,
        };
        let history = Arc::clone(&self.shard.core().history);
        self.reading = Some(history.read(wish).boxed());
        self.reading_slot = slot;
        true
    }

    /// True when a read may begin as far as history is concerned.
    pub(super) fn may_read(&self) -> bool {
        !self.behind.is_empty() && self.reading.is_none() && self.retry_at.is_none()
    }

    /// Takes what a read brought, when it has ended. True when the channel is to be looked at again.
    pub(super) fn take_history(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let Some(reading) = &mut self.reading else {
            return Ok(false);
        };
        let Poll::Ready(result) = reading.as_mut().poll(cx) else {
            return Ok(false);
        };
        self.reading = None;
        let slot = std::mem::replace(&mut self.reading_slot, NO_SLOT);
        self.replay(slot, result, cx)?;
        self.make_ready(slot);
        Ok(true)
    }

    /// Sends what a read brought. What the window does not take is read again later: nothing is kept.
    fn replay(
        &mut self,
        slot: u8,
        result: ReadResult,
        cx: &mut Context<'_>,
    ) -> Result<(), Farewell> {
        let Some(subscription) = self.subscription(slot) else {
            return Ok(());
        };
        let place = subscription.place;
        // The slot may have been given to another channel meanwhile, or to the same one from another place: what a read has lost
        // counts from its own.
        let foreign = result.as_ref().is_ok_and(|stretch| {
            stretch.channel != *subscription.channel.name()
                || (stretch.lost && stretch.after != place.at)
        });
        if foreign {
            return Ok(());
        }
        let stretch = match result {
            Ok(stretch) if stretch.epoch == subscription.epoch && stretch.after <= place.at => {
                stretch
            }
            other => {
                if let Err(error) = other {
                    tracing::debug!(%error, "history read failed");
                }
                self.wait_before_reading();
                return Ok(());
            }
        };
        let end = stretch.whole_to.unwrap_or(place.at);
        let to = stretch.frames.first().map_or(end, |first| first.offset - 1);
        // Where nothing lies between, nothing is lost.
        if stretch.lost && to != place.at {
            self.skip(slot, stretch.epoch.clone(), to);
        } else {
            self.announce(slot, true);
        }
        let news = stretch.frames.iter();
        let mut last = None;
        for frame in news.filter(|frame| frame.offset > place.at) {
            if self.batch().messages() >= limits::MESSAGES_PER_WRITE {
                self.flush(cx)?;
            }
            if !self.can_send() {
                return self.flush(cx);
            }
            last = Some(frame.offset);
            let sent = self.window.last_sent();
            self.batch().message(slot, Arc::clone(frame), sent);
        }
        self.flush(cx)?;
        let Some(subscription) = self.subscription(slot) else {
            return Ok(());
        };
        if last.is_some_and(|last| subscription.place.at < last) {
            return Ok(());
        }
        let mut brought = stretch.lost || last.is_some();
        if let Some(whole) = stretch.whole_to
            && whole > subscription.place.checked
        {
            subscription.place.checked = whole;
            brought |= whole > place.checked;
        }
        if brought {
            subscription.fruitless = 0;
            self.retry_wait_ms = limits::HISTORY_RETRY.as_millis() as u16;
        } else {
            subscription.fruitless = subscription.fruitless.saturating_add(1);
            self.wait_before_reading();
        }
        Ok(())
    }

    fn wait_before_reading(&mut self) {
        let wait = self.retry_wait_ms;
        self.retry_at = Some(self.shard.now() + Duration::from_millis(wait.into()));
        let most = limits::HISTORY_RETRY_MAX.as_millis() as u16;
        self.retry_wait_ms = wait.saturating_mul(2).min(most);
    }

    /// Positions to which idle channels may be moved on. Called when the answer that carries them is written next.
    pub(super) fn cursors(&mut self) -> BTreeMap<ChannelName, Position> {
        let mut cursors = BTreeMap::new();
        // Before the rings are looked at: what was offered up to here is in them.
        let fed = self.shard.fed();
        for (slot, subscription) in (0..).zip(self.slots.iter_mut()) {
            let queued = self.ready.contains(slot)
                || self.behind.contains(slot)
                || self.reading_slot == slot;
            let Some(subscription) = subscription.as_mut().filter(|_| !queued) else {
                continue;
            };
            let channel = &subscription.channel;
            let idle = subscription.announce.is_none()
                && fed.generation == channel.generation()
                && subscription.place.at < fed.offset
                && channel.next(&subscription.epoch, subscription.place) == Next::UpToDate;
            if idle {
                let place = &mut subscription.place;
                place.at = fed.offset;
                place.checked = place.checked.max(fed.offset);
                let position = Position::new(subscription.epoch.clone(), offset(fed.offset));
                cursors.insert(channel.name().clone(), position);
            }
        }
        cursors
    }
}
