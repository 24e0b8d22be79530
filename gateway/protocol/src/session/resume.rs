//! Pure: what an application keeps over a restart.

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::channel::ChannelName;
use crate::ids::Position;

/// What an application keeps to go on after a restart without loss: give it back at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// From the last welcome; `None` logs in.
    pub resume_token: Option<String>,
    /// The followed channels and the last position delivered of each.
    pub channels: Vec<(ChannelName, Option<Position>)>,
}

impl Resume {
    /// Notes an event that the application has handled for good. Kept together with the application's own state and
    /// given back at the next start, every message is handled exactly once.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Welcome { resume_token, .. } => {
                self.resume_token = Some(resume_token.as_ref().to_owned());
            }
            Event::Subscribed { channel, position } => self.set(channel, position.clone()),
            Event::Gap { channel, to, .. } => self.set(channel, to.clone()),
            Event::Message {
                channel,
                epoch,
                offset,
                ..
            } => self.set(channel, Position::new(epoch.clone(), *offset)),
            Event::Unsubscribed { channel, .. } => self.channels.retain(|(c, _)| c != channel),
            _ => {}
        }
    }

    fn set(&mut self, channel: &ChannelName, position: Position) {
        match self.channels.iter_mut().find(|(c, _)| c == channel) {
            Some((_, known)) => *known = Some(position),
            None => self.channels.push((channel.clone(), Some(position))),
        }
    }
}
