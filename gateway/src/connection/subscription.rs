//! Effects (hub): what a connection knows about one channel that it follows: a position, no message.

use std::sync::Arc;

use sluice_protocol::server::{Gap, Subscribed};
use sluice_protocol::{ChannelName, Epoch, ErrorCode, Offset, Position, Ref, ServerMessage};

use super::{Connection, Farewell};
use crate::hub::Channel;
use crate::hub::ring::Place;
use crate::hub::tap::Tap;

/// One followed channel.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: Arc<Channel>,
    pub(super) tap: Arc<Tap>,
    pub(super) epoch: Epoch,
    pub(super) place: Place,
    /// `subscribed` that waits for history to say whether everything can follow.
    pub(super) announce: Option<Announce>,
    /// In one of the connection's queues, or being read for.
    pub(super) queued: bool,
    /// Reads in a row that brought nothing although something was missing.
    pub(super) fruitless: u8,
}

/// A `subscribed` still to be sent.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) reference: Option<Ref>,
}

impl Subscription {
    fn position(&self) -> Position {
        Position::new(self.epoch.clone(), offset(self.place.at))
    }
}

/// Offsets inside the gateway stay below 2^53 because brokers' counters do.
pub(super) fn offset(value: u64) -> Offset {
    Offset::new(value).unwrap_or_default()
}

impl Connection {
    /// Follows a channel, after a position or from now on.
    pub(super) fn subscribe(
        &mut self,
        name: &ChannelName,
        after: Option<Position>,
        reference: Option<Ref>,
    ) -> Result<(), Farewell> {
        if let Some(slot) = self.slot_of(name) {
            return self.answer_again(slot, reference);
        }
        if name
            .owner()
            .is_some_and(|owner| owner != self.identity.user.as_str())
        {
            return self.error(
                ErrorCode::Forbidden,
                "a user's own channel is followed by that user only",
                reference,
            );
        }
        let free = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slots.len());
        if free >= sluice_protocol::limits::CHANNELS_PER_CONNECTION {
            let most = sluice_protocol::limits::CHANNELS_PER_CONNECTION;
            let text = format!("at most {most} channels fit one connection: unsubscribe from some");
            return self.error(ErrorCode::TooManyChannels, &text, reference);
        }
        let slot = free as u16;
        let tap = Arc::new(Tap::new(
            self.registration.id(),
            slot,
            Arc::clone(&self.mailbox),
        ));
        // Before the tip is taken: everything up to here was offered, whether or not the channel had followers then.
        let fed_to = self.core.hub.fed_to();
        let Some(channel) = self.core.hub.follow(name, Arc::clone(&tap)) else {
            return self.error(
                ErrorCode::BrokerUnavailable,
                "the broker was not reached yet: try again",
                reference,
            );
        };
        let (epoch, tip) = channel.tip();
        let now = tip.max(fed_to);
        let same_epoch = after
            .as_ref()
            .is_some_and(|position| position.epoch == epoch);
        let at = match &after {
            Some(position) if same_epoch => position.offset.get(),
            _ => now,
        };
        let mut subscription = Subscription {
            channel,
            tap,
            epoch,
            place: Place { at, checked: at },
            announce: None,
            queued: false,
            fruitless: 0,
        };
        let to = subscription.position();
        if same_epoch {
            // Sent once it is known that everything can follow.
            subscription.announce = Some(Announce {
                reference: reference.clone(),
            });
        }
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(subscription);
        if !same_epoch {
            self.send_subscribed(name, &to, false, reference)?;
            if let Some(from) = after {
                self.send_gap(name, from, to)?;
            }
        }
        self.make_ready(slot);
        Ok(())
    }

    /// Stops following.
    pub(super) fn unsubscribe(&mut self, name: &ChannelName) -> bool {
        let Some(slot) = self.slot_of(name) else {
            return false;
        };
        if let Some(subscription) = self.slots[slot as usize].take() {
            self.core
                .hub
                .leave(&subscription.channel, self.registration.id());
        }
        self.ready.retain(|queued| *queued != slot);
        self.behind.retain(|queued| *queued != slot);
        true
    }

    /// Leaves every channel.
    pub(super) fn leave_all(&mut self) {
        for subscription in self.slots.drain(..).flatten() {
            self.core
                .hub
                .leave(&subscription.channel, self.registration.id());
        }
    }

    /// Sends a held-back `subscribed`.
    pub(super) fn announce(&mut self, slot: u16, recovered: bool) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        let Some(announce) = subscription.announce.take() else {
            return Ok(());
        };
        let (name, at) = (subscription.channel.name().clone(), subscription.position());
        self.send_subscribed(&name, &at, recovered, announce.reference)
    }

    /// Moves a subscription over what is gone, and says so.
    pub(super) fn skip(&mut self, slot: u16, epoch: Epoch, to: u64) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        let from = subscription.position();
        subscription.epoch = epoch;
        subscription.place = Place {
            at: to,
            checked: to,
        };
        subscription.fruitless = 0;
        let (name, to) = (subscription.channel.name().clone(), subscription.position());
        self.announce(slot, false)?;
        self.send_gap(&name, from, to)
    }

    fn slot_of(&self, name: &ChannelName) -> Option<u16> {
        let same =
            |slot: &Option<Subscription>| slot.as_ref().is_some_and(|s| s.channel.name() == name);
        self.slots.iter().position(same).map(|slot| slot as u16)
    }

    fn answer_again(&mut self, slot: u16, reference: Option<Ref>) -> Result<(), Farewell> {
        let Some(Some(subscription)) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        if let Some(announce) = &mut subscription.announce {
            announce.reference = reference.or(announce.reference.take());
            return Ok(());
        }
        let (name, at) = (subscription.channel.name().clone(), subscription.position());
        self.send_subscribed(&name, &at, false, reference)
    }

    fn send_subscribed(
        &mut self,
        channel: &ChannelName,
        at: &Position,
        recovered: bool,
        reference: Option<Ref>,
    ) -> Result<(), Farewell> {
        self.send(&ServerMessage::Subscribed(Subscribed {
            channel: channel.clone(),
            epoch: at.epoch.clone(),
            offset: at.offset,
            recovered,
            reference,
        }))
    }

    fn send_gap(
        &mut self,
        channel: &ChannelName,
        from: Position,
        to: Position,
    ) -> Result<(), Farewell> {
        self.core.metrics.gaps.inc();
        tracing::info!(%channel, %from, %to, connection = %self.registration.name(), "gap");
        self.send(&ServerMessage::Gap(Gap {
            channel: channel.clone(),
            from,
            to,
        }))
    }
}
