//! Pure: one connection of a session, from opening to its end.

use super::acks::Acks;
use super::event::{LinkId, Moment};
use super::heart::Heart;
use crate::channel::ChannelName;
use crate::query::Subscription;
use crate::server::{Migrate, Welcome};
use std::time::Duration;

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// Opened by full login, not by resume token.
    pub(super) login: bool,
    /// Welcome, or all of `missing`, must have come by then.
    pub(super) deadline: Moment,
    /// Set by the welcome.
    pub(super) welcomed: Option<Welcomed>,
    /// Channels whose `subscribed` has not come yet.
    pub(super) missing: Vec<ChannelName>,
    /// Channels that did not fit the query; subscribed to after the welcome.
    pub(super) rest: Vec<Subscription>,
    /// Wait given by the last `error`.
    pub(super) retry_after: Option<Duration>,
    /// A `migrate` that came before this connection was the live one.
    pub(super) migrate: Option<Migrate>,
}

/// What a welcome brings.
#[derive(Clone, Debug)]
pub(super) struct Welcomed {
    pub(super) since: Moment,
    pub(super) acks: Acks,
    pub(super) heart: Heart,
}

impl Link {
    /// Takes the welcome. The user's own channel is followed without being asked for.
    pub(super) fn welcome(&mut self, welcome: &Welcome, now: Moment, random: f64) {
        self.welcomed = Some(Welcomed {
            since: now,
            acks: Acks::new(welcome.limits),
            heart: Heart::new(welcome.heartbeat, now, random),
        });
        let own = welcome.user.channel();
        if !self.missing.contains(&own) {
            self.missing.push(own);
        }
    }

    /// Notes that a channel is followed.
    pub(super) fn subscribed(&mut self, channel: &ChannelName) {
        self.missing.retain(|missing| missing != channel);
    }

    /// Something was heard.
    pub(super) fn heard(&mut self, now: Moment) {
        if let Some(welcomed) = &mut self.welcomed {
            welcomed.heart.heard(now);
        }
    }

    /// Ready to take over from a live connection.
    pub(super) fn is_complete(&self) -> bool {
        self.welcomed.is_some() && self.missing.is_empty()
    }

    /// Time since the welcome.
    pub(super) fn lived(&self, now: Moment) -> Duration {
        self.welcomed
            .as_ref()
            .map_or(Duration::ZERO, |w| now.saturating_sub(w.since))
    }
}
