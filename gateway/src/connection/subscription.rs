//! Effects (shard): what a connection knows about one channel that it follows: a position, no message.

use std::rc::Rc;

use sluice_protocol::server::{Gap, Subscribed};
use sluice_protocol::{ChannelName, Epoch, ErrorCode, Offset, Position, Ref, ServerMessage};

use super::Connection;
use crate::events;
use crate::hub::ring::Place;
use crate::shard::channels::Channel;

/// One followed channel.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: Rc<Channel>,
    /// Where in the channel's list of followers.
    at: u32,
    pub(super) epoch: Epoch,
    pub(super) place: Place,
    /// `subscribed` that waits for history to say whether everything can follow.
    pub(super) announce: Option<Box<Announce>>,
    /// Reads in a row that brought nothing although something was missing.
    pub(super) fruitless: u8,
    /// What `subscribed` said.
    recovered: bool,
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
    ) {
        if let Some(slot) = self.slot_of(name) {
            return self.answer_again(slot, reference);
        }
        if name
            .owner()
            .is_some_and(|owner| owner != self.user.as_str())
        {
            let text = "a user's own channel is followed by that user only";
            return self.error(ErrorCode::Forbidden, text, reference);
        }
        let free = self.slots.iter().position(Option::is_none);
        let free = free.unwrap_or(self.slots.len());
        if free >= sluice_protocol::limits::CHANNELS_PER_CONNECTION {
            let most = sluice_protocol::limits::CHANNELS_PER_CONNECTION;
            let text = format!("at most {most} channels fit one connection: unsubscribe from some");
            return self.error(ErrorCode::TooManyChannels, &text, reference);
        }
        let slot = free as u8;
        // Before the tip is taken: everything up to here was offered, whether or not the channel had followers then.
        let fed = self.shard.fed();
        let Some((channel, at)) = self.shard.follow(name, self.key, slot) else {
            let text = "the broker was not reached yet: try again";
            return self.error(ErrorCode::BrokerUnavailable, text, reference);
        };
        let (epoch, tip) = channel.tip();
        let fed_to = (fed.generation == channel.generation()).then_some(fed.offset);
        let now = tip.max(fed_to.unwrap_or(tip));
        let asked = after.as_ref();
        let asked = asked.filter(|position| position.epoch == epoch);
        let same_epoch = asked.is_some();
        let begin = asked.map_or(now, |position| position.offset.get());
        let subscription = Subscription {
            channel,
            at,
            epoch,
            place: Place {
                at: begin,
                checked: begin,
            },
            // Sent once it is known that everything can follow.
            announce: same_epoch.then(|| {
                Box::new(Announce {
                    reference: reference.clone(),
                })
            }),
            fruitless: 0,
            recovered: false,
        };
        let to = subscription.position();
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(subscription);
        if !same_epoch {
            self.send_subscribed(name, &to, false, reference);
            if let Some(from) = after {
                self.send_gap(name, from, to);
            }
        }
        self.make_ready(slot);
    }

    /// Stops following.
    pub(super) fn unsubscribe(&mut self, name: &ChannelName) {
        let Some(slot) = self.slot_of(name) else {
            return;
        };
        if let Some(subscription) = self.slots[usize::from(slot)].take() {
            self.shard.unfollow(&subscription.channel, subscription.at);
        }
        self.ready.remove(slot);
        self.behind.remove(slot);
    }

    /// Leaves every channel.
    pub(super) fn leave_all(&mut self) {
        for subscription in std::mem::take(&mut self.slots).into_iter().flatten() {
            self.shard.unfollow(&subscription.channel, subscription.at);
        }
    }

    /// Sends a held-back `subscribed`.
    pub(super) fn announce(&mut self, slot: u8, recovered: bool) {
        let Some(subscription) = self.subscription(slot) else {
            return;
        };
        let Some(announce) = subscription.announce.take() else {
            return;
        };
        subscription.recovered = recovered;
        let (name, at) = (subscription.channel.name().clone(), subscription.position());
        self.send_subscribed(&name, &at, recovered, announce.reference);
    }

    /// Moves a subscription over what is gone, and says so.
    pub(super) fn skip(&mut self, slot: u8, epoch: Epoch, to: u64) {
        let Some(subscription) = self.subscription(slot) else {
            return;
        };
        let from = subscription.position();
        subscription.epoch = epoch;
        subscription.place = Place {
            at: to,
            checked: to,
        };
        subscription.fruitless = 0;
        let (name, to) = (subscription.channel.name().clone(), subscription.position());
        self.announce(slot, false);
        self.send_gap(&name, from, to);
    }

    /// Whoever has this slot.
    pub(super) fn subscription(&mut self, slot: u8) -> Option<&mut Subscription> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    fn slot_of(&self, name: &ChannelName) -> Option<u8> {
        let same =
            |slot: &Option<Subscription>| slot.as_ref().is_some_and(|s| s.channel.name() == name);
        self.slots.iter().position(same).map(|slot| slot as u8)
    }

    fn answer_again(&mut self, slot: u8, reference: Option<Ref>) {
        let Some(subscription) = self.subscription(slot) else {
            return;
        };
        if let Some(announce) = &mut subscription.announce {
            announce.reference = reference.or(announce.reference.take());
            return;
        }
        let recovered = subscription.recovered;
        let (name, at) = (subscription.channel.name().clone(), subscription.position());
        self.send_subscribed(&name, &at, recovered, reference);
    }

    fn send_subscribed(
        &mut self,
        channel: &ChannelName,
        at: &Position,
        recovered: bool,
        reference: Option<Ref>,
    ) {
        self.send(&ServerMessage::Subscribed(Subscribed {
            channel: channel.clone(),
            epoch: at.epoch.clone(),
            offset: at.offset,
            recovered,
            reference,
        }));
    }

    fn send_gap(&mut self, channel: &ChannelName, from: Position, to: Position) {
        let core = self.shard.core();
        core.metrics.gaps.inc();
        events::gap(&core.registry.name(self.id), channel, &from, &to);
        self.send(&ServerMessage::Gap(Gap {
            channel: channel.clone(),
            from,
            to,
        }));
    }
}
