//! Effects (hub, history, socket): brings a connection's channels forward, as far as its window and its socket allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use sluice_protocol::{ChannelName, Position, message_prefix};
use tokio_tungstenite::tungstenite::Message;

use super::subscription::offset;
use super::{Connection, Farewell};
use crate::auth::now_millis;
use crate::broker::Unavailable;
use crate::history::Stretch;
use crate::hub::ring::{Frame, Next};
use crate::limits;

impl Connection {
    /// Sends what is due. True when there is more and it could go at once: others shall run in between.
    pub(super) fn feed(&mut self) -> Result<bool, Farewell> {
        let mut budget = limits::MESSAGES_PER_TURN;
        while self.can_send() {
            let Some(slot) = self.ready.pop_front() else {
                return Ok(false);
            };
            if budget == 0 {
                self.ready.push_front(slot);
                return Ok(true);
            }
            self.feed_slot(slot, &mut budget)?;
        }
        Ok(false)
    }

    fn feed_slot(&mut self, slot: u16, budget: &mut usize) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        subscription.queued = false;
        match subscription
            .channel
            .next(&subscription.epoch, subscription.place, *budget)
        {
            Next::UpToDate
                if subscription.announce.is_some()
                    && subscription.place.at > self.core.hub.seen() =>
            {
                // A position that this gateway has not heard of: another one may be ahead, or positions were reused.
                subscription.queued = true;
                self.behind.push_back(slot);
            }
            Next::UpToDate => self.announce(slot, true)?,
            Next::Frames(frames) => {
                subscription.fruitless = 0;
                self.announce(slot, true)?;
                if let Some(first) = frames.first() {
                    let age = now_millis().saturating_sub(first.time);
                    self.core
                        .metrics
                        .delivery_seconds
                        .observe(age as f64 / 1000.0);
                }
                for frame in &frames {
                    if !self.can_send() {
                        break;
                    }
                    *budget = budget.saturating_sub(1);
                    self.deliver(slot, frame)?;
                }
                self.make_ready(slot);
            }
            Next::Behind { until } if subscription.fruitless >= limits::FRUITLESS_READS => {
                let epoch = subscription.epoch.clone();
                self.skip(slot, epoch, until)?;
                self.make_ready(slot);
            }
            Next::Behind { .. } => {
                subscription.queued = true;
                self.behind.push_back(slot);
            }
            Next::OtherEpoch => {
                let (epoch, tip) = subscription.channel.tip();
                self.skip(slot, epoch, tip)?;
                self.make_ready(slot);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, slot: u16, frame: &Frame) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        subscription.place.at = frame.offset;
        subscription.place.checked = subscription.place.checked.max(frame.offset);
        let next = self.window.last_sent().next();
        let prefix = message_prefix(next);
        let mut text = Vec::with_capacity(prefix.as_bytes().len() + frame.suffix.len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(&frame.suffix);
        self.window.send(text.len() as u32);
        // Both halves are text by construction; this only checks it.
        let text = String::from_utf8(text).unwrap_or_default();
        self.write(Message::text(text))?;
        self.core.metrics.delivered.inc();
        Ok(())
    }

    /// Begins the next history read, one at a time per connection, and only when what it brings could be sent.
    pub(super) fn start_reading(&mut self) {
        let now = Instant::now();
        if self.reading.is_some()
            || !self.can_send()
            || self.retry.not_before.is_some_and(|at| now < at)
        {
            return;
        }
        self.retry.not_before = None;
        let Some(slot) = self.behind.pop_front() else {
            return;
        };
        let Some(Some(subscription)) = self.slots.get(slot as usize) else {
            return;
        };
        let (channel, after) = (Arc::clone(&subscription.channel), subscription.place.at);
        let history = Arc::clone(&self.core.history);
        self.reading = Some(async move { (slot, history.read(channel, after).await) }.boxed());
    }

    /// Sends what a read brought. What the window does not take is read again later: nothing is kept.
    pub(super) fn take_history(
        &mut self,
        slot: u16,
        result: Result<Arc<Stretch>, Unavailable>,
    ) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        // The slot may have been given to another channel meanwhile.
        if result
            .as_ref()
            .is_ok_and(|stretch| stretch.channel != *subscription.channel.name())
        {
            return Ok(());
        }
        subscription.queued = false;
        let place = subscription.place;
        let stretch = match result {
            Ok(stretch) if stretch.epoch == subscription.epoch && stretch.after <= place.at => {
                stretch
            }
            other => {
                if let Err(error) = other {
                    tracing::debug!(%error, "history read failed");
                }
                self.wait_before_reading();
                self.make_ready(slot);
                return Ok(());
            }
        };
        if stretch.lost && stretch.after == place.at {
            let end = stretch.whole_to.unwrap_or(place.at);
            let to = stretch.frames.first().map_or(end, |first| first.offset - 1);
            let epoch = stretch.epoch.clone();
            self.skip(slot, epoch, to)?;
        } else {
            self.announce(slot, true)?;
        }
        let mut brought = stretch.lost;
        for frame in stretch
            .frames
            .iter()
            .filter(|frame| frame.offset > place.at)
        {
            if !self.can_send() {
                self.make_ready(slot);
                return Ok(());
            }
            brought = true;
            self.deliver(slot, frame)?;
        }
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        if let Some(whole) = stretch.whole_to
            && whole > subscription.place.checked
        {
            subscription.place.checked = whole;
            brought |= whole > place.checked;
        }
        if brought {
            subscription.fruitless = 0;
            self.retry.wait = limits::HISTORY_RETRY;
        } else {
            subscription.fruitless = subscription.fruitless.saturating_add(1);
            self.wait_before_reading();
        }
        self.make_ready(slot);
        Ok(())
    }

    fn wait_before_reading(&mut self) {
        self.retry.not_before = Some(Instant::now() + self.retry.wait);
        self.retry.wait = (self.retry.wait * 2).min(limits::HISTORY_RETRY_MAX);
    }

    /// Positions to which idle channels may be moved on. Called when the answer that carries them is written next.
    pub(super) fn cursors(&mut self) -> BTreeMap<ChannelName, Position> {
        let mut cursors = BTreeMap::new();
        // Before the rings are looked at: what was offered up to here is in them.
        let fed_to = self.core.hub.fed_to();
        for subscription in self.slots.iter_mut().flatten() {
            let idle = !subscription.queued
                && subscription.announce.is_none()
                && subscription.place.at < fed_to
                && subscription
                    .channel
                    .next(&subscription.epoch, subscription.place, 1)
                    == Next::UpToDate;
            if idle {
                subscription.place.at = fed_to;
                subscription.place.checked = subscription.place.checked.max(fed_to);
                let position = Position::new(subscription.epoch.clone(), offset(fed_to));
                cursors.insert(subscription.channel.name().clone(), position);
            }
        }
        cursors
    }
}
