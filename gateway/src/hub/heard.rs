//! Effects (counters): how far back every channel is known to be quiet, followed or not, in a table of fixed size.
//!
//! The hub hears of every stored message, but keeps messages only of channels with followers. A client that resumes on this
//! pod would otherwise cost a broker read just to learn that its own channel was quiet meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_protocol::ChannelName;

use crate::limits;

/// An upper bound of each channel's last offset. Channels that share a line share the higher one: never too low.
#[derive(Debug)]
pub struct Heard {
    /// From here on every message was offered.
    floor: AtomicU64,
    lines: Box<[AtomicU64]>,
}

impl Heard {
    /// Knows of nothing yet.
    pub fn new() -> Self {
        Self {
            floor: AtomicU64::new(u64::MAX),
            lines: (0..limits::HEARD_LINES)
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// A channel has a message here.
    pub fn note(&self, name: &ChannelName, offset: u64) {
        self.line(name).fetch_max(offset, Ordering::AcqRel);
    }

    /// Messages up to here may have gone by unheard.
    pub fn missed(&self, to: u64) {
        self.floor.fetch_max(to, Ordering::AcqRel);
    }

    /// Offsets are counted anew; whatever is stored up to `last` was not heard.
    pub fn restart(&self, last: u64) {
        self.floor.store(last, Ordering::Release);
        for line in &self.lines {
            line.store(0, Ordering::Release);
        }
    }

    /// After this offset the channel has had no message among those offered so far.
    pub fn quiet_since(&self, name: &ChannelName) -> u64 {
        let floor = self.floor.load(Ordering::Acquire);
        floor.max(self.line(name).load(Ordering::Acquire))
    }

    fn line(&self, name: &ChannelName) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        name.as_str().hash(&mut hasher);
        &self.lines[hasher.finish() as usize % limits::HEARD_LINES]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn name(n: u32) -> ChannelName {
        ChannelName::new(&format!("c{n}")).unwrap()
    }

    #[test]
    fn nothing_is_quiet_before_the_start() {
        let heard = Heard::new();
        assert_eq!(heard.quiet_since(&name(1)), u64::MAX);
        heard.restart(40);
        assert_eq!(heard.quiet_since(&name(1)), 40);
        heard.note(&name(1), 50);
        assert_eq!(heard.quiet_since(&name(1)), 50);
        heard.missed(60);
        assert_eq!(heard.quiet_since(&name(1)), 60);
        heard.restart(3);
        assert_eq!(heard.quiet_since(&name(1)), 3);
    }

    proptest! {
        /// Whatever shares a line, no message of a channel lies after the position it is called quiet from.
        #[test]
        fn no_message_is_overlooked(channels in proptest::collection::vec(0_u32..200_000, 1..200)) {
            let heard = Heard::new();
            heard.restart(0);
            for (offset, channel) in channels.iter().enumerate() {
                heard.note(&name(*channel), offset as u64 + 1);
            }
            for (offset, channel) in channels.iter().enumerate() {
                prop_assert!(heard.quiet_since(&name(*channel)) > offset as u64);
            }
        }
    }
}
