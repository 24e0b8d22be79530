//! Pure: what the application has of each channel, and so what is new, repeated or missing.

use crate::channel::ChannelName;
use crate::ids::{Epoch, Offset, Position};
use crate::query::Subscription;

/// Whether a message is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Deliver it.
    New,
    /// The application has it, or it is of an epoch that has ended.
    Repeat,
    /// The channel is not followed (any more).
    Unknown,
}

/// What `subscribed` meant for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The channel is followed for the first time.
    First,
    /// Delivery goes on where it was.
    Continued,
    /// Everything after this position, up to the one in `subscribed`, is missing.
    Missed(Position),
}

#[derive(Clone, Debug)]
struct Entry {
    channel: ChannelName,
    position: Option<Position>,
    /// The epoch before the present one: late messages of it, from an old connection, are no news.
    former: Option<Epoch>,
}

/// One position per followed channel.
#[derive(Clone, Debug, Default)]
pub struct OffsetTable {
    /// Sorted by channel; a sorted list takes a fraction of a map's memory for the few channels of a client.
    entries: Vec<Entry>,
}

impl OffsetTable {
    /// Follows a channel, from the given position if there is one. A channel that is followed already stays as it is.
    /// Returns whether it was new.
    pub fn follow(&mut self, channel: &ChannelName, position: Option<Position>) -> bool {
        match self.find(channel) {
            Ok(_) => false,
            Err(at) => {
                let entry = Entry {
                    channel: channel.clone(),
                    position,
                    former: None,
                };
                self.entries.insert(at, entry);
                true
            }
        }
    }

    /// Forgets a channel.
    pub fn leave(&mut self, channel: &ChannelName) {
        if let Ok(at) = self.find(channel) {
            self.entries.remove(at);
        }
    }

    /// The followed channels with their positions, as a connect request needs them.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let entries = self.entries.iter();
        entries
            .map(|entry| Subscription {
                channel: entry.channel.clone(),
                after: entry.position.clone(),
            })
            .collect()
    }

    /// The position of one channel.
    pub fn position(&self, channel: &ChannelName) -> Option<&Position> {
        let at = self.find(channel).ok()?;
        self.entries[at].position.as_ref()
    }

    /// Judges a message, and moves the position when it is new.
    pub fn message(&mut self, channel: &ChannelName, epoch: &Epoch, offset: Offset) -> Taken {
        let Ok(at) = self.find(channel) else {
            return Taken::Unknown;
        };
        let to = Position::new(epoch.clone(), offset);
        match self.entries[at].advance(to) {
            Advance::Stale => Taken::Repeat,
            Advance::First | Advance::From(_) => Taken::New,
        }
    }

    /// Judges `subscribed`.
    pub fn subscribed(
        &mut self,
        channel: &ChannelName,
        position: &Position,
        recovered: bool,
    ) -> Joined {
        self.follow(channel, None);
        let Ok(at) = self.find(channel) else {
            return Joined::Continued;
        };
        let entry = &mut self.entries[at];
        if entry.position.is_none() {
            entry.position = Some(position.clone());
            return Joined::First;
        }
        if recovered {
            return Joined::Continued;
        }
        match entry.advance(position.clone()) {
            Advance::From(from) => Joined::Missed(from),
            Advance::First | Advance::Stale => Joined::Continued,
        }
    }

    /// Judges `gap`: the last position that the application has, when it does not have all up to `to`.
    pub fn gap(&mut self, channel: &ChannelName, to: &Position) -> Option<Position> {
        let at = self.find(channel).ok()?;
        match self.entries[at].advance(to.clone()) {
            Advance::From(from) => Some(from),
            Advance::First | Advance::Stale => None,
        }
    }

    /// Moves an idle channel on. Never changes the epoch: only a message, `subscribed` or `gap` may.
    pub fn cursor(&mut self, channel: &ChannelName, to: &Position) {
        if let Ok(at) = self.find(channel)
            && let Some(position) = &mut self.entries[at].position
            && position.reached_by(to)
        {
            position.offset = to.offset;
        }
    }

    fn find(&self, channel: &ChannelName) -> Result<usize, usize> {
        self.entries.binary_search_by(|e| e.channel.cmp(channel))
    }
}

/// What an offered position did to an entry.
enum Advance {
    /// It is no news.
    Stale,
    /// It is the first one.
    First,
    /// It took the place of this one.
    From(Position),
}

impl Entry {
    fn advance(&mut self, to: Position) -> Advance {
        if let Some(have) = &self.position {
            if to.reached_by(have) || self.former.as_ref() == Some(&to.epoch) {
                return Advance::Stale;
            }
            if have.epoch != to.epoch {
                self.former = Some(have.epoch.clone());
            }
        }
        match self.position.replace(to) {
            Some(from) => Advance::From(from),
            None => Advance::First,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn at(epoch: &str, offset: u64) -> Position {
        Position::new(Epoch::new(epoch).unwrap(), Offset::new(offset).unwrap())
    }

    fn table() -> (OffsetTable, ChannelName) {
        let channel = ChannelName::new("c").unwrap();
        let mut table = OffsetTable::default();
        table.follow(&channel, None);
        (table, channel)
    }

    fn offer(table: &mut OffsetTable, channel: &ChannelName, to: &Position) -> Taken {
        table.message(channel, &to.epoch, to.offset)
    }

    #[test]
    fn a_message_is_new_once() {
        let (mut table, c) = table();
        assert_eq!(table.subscribed(&c, &at("e", 4), false), Joined::First);
        assert_eq!(offer(&mut table, &c, &at("e", 4)), Taken::Repeat);
        assert_eq!(offer(&mut table, &c, &at("e", 9)), Taken::New);
        assert_eq!(offer(&mut table, &c, &at("e", 9)), Taken::Repeat);
        assert_eq!(offer(&mut table, &c, &at("e", 7)), Taken::Repeat);
        let other = ChannelName::new("d").unwrap();
        assert_eq!(offer(&mut table, &other, &at("e", 7)), Taken::Unknown);
    }

    #[test]
    fn a_new_epoch_starts_over_and_the_former_one_is_over() {
        let (mut table, c) = table();
        table.subscribed(&c, &at("e", 40), false);
        assert_eq!(offer(&mut table, &c, &at("f", 1)), Taken::New);
        assert_eq!(offer(&mut table, &c, &at("e", 41)), Taken::Repeat);
        assert_eq!(offer(&mut table, &c, &at("f", 2)), Taken::New);
    }

    #[test]
    fn a_join_that_could_not_recover_says_what_is_missing_once() {
        let (mut table, c) = table();
        table.subscribed(&c, &at("e", 4), false);
        assert_eq!(table.subscribed(&c, &at("e", 4), true), Joined::Continued);
        assert_eq!(table.subscribed(&c, &at("e", 3), false), Joined::Continued);
        assert_eq!(
            table.subscribed(&c, &at("e", 9), false),
            Joined::Missed(at("e", 4))
        );
        assert_eq!(table.gap(&c, &at("e", 9)), None);
        assert_eq!(table.gap(&c, &at("f", 2)), Some(at("e", 9)));
        assert_eq!(table.gap(&c, &at("e", 99)), None);
        assert_eq!(table.position(&c), Some(&at("f", 2)));
    }

    #[test]
    fn cursors_move_on_within_the_epoch_only() {
        let (mut table, c) = table();
        table.cursor(&c, &at("e", 5));
        assert_eq!(table.position(&c), None);
        table.subscribed(&c, &at("e", 4), false);
        table.cursor(&c, &at("e", 6));
        table.cursor(&c, &at("e", 5));
        table.cursor(&c, &at("f", 50));
        assert_eq!(table.position(&c), Some(&at("e", 6)));
    }
}
