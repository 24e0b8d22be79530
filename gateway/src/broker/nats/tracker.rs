//! Pure: which of the stream's sequence numbers the live side has brought. Every stored message is repeated, so a number that is
//! missing is a message that was missed, and looking after all channels costs as much as was missed, not as many channels.

use std::collections::VecDeque;

/// Most holes that are kept apart; further ones are joined with the last, which reads a little twice.
const HOLES: usize = 64;

/// What the live side has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracker {
    highest: u64,
    holes: VecDeque<Hole>,
}

/// Sequence numbers that were missed, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Tracker {
    /// Everything up to `last` needs no looking after.
    pub(super) fn new(last: u64) -> Self {
        Self {
            highest: last,
            holes: VecDeque::new(),
        }
    }

    /// The highest number known to be stored.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Everything up to here was brought or filled.
    pub(super) fn fed_to(&self) -> u64 {
        self.holes
            .front()
            .map_or(self.highest, |hole| hole.from - 1)
    }

    /// A live message came. True when it shows a new hole.
    pub(super) fn live(&mut self, sequence: u64) -> bool {
        let hole = sequence > self.highest + 1;
        if hole {
            self.missed(sequence - 1);
        }
        self.highest = self.highest.max(sequence);
        hole
    }

    /// The stream says that it holds messages up to `last`. True when that shows a new hole.
    pub(super) fn stored(&mut self, last: u64) -> bool {
        let hole = last > self.highest;
        if hole {
            self.missed(last);
        }
        hole
    }

    /// The hole to fill first.
    pub(super) fn hole(&self) -> Option<Hole> {
        self.holes.front().copied()
    }

    /// The first hole is filled up to here.
    pub(super) fn filled(&mut self, to: u64) {
        if let Some(hole) = self.holes.front_mut() {
            hole.from = hole.from.max(to + 1);
            if hole.from > hole.to {
                self.holes.pop_front();
            }
        }
    }

    fn missed(&mut self, to: u64) {
        let from = self.highest + 1;
        let full = self.holes.len() >= HOLES;
        match self.holes.back_mut() {
            Some(last) if full || last.to + 1 == from => last.to = to,
            _ => self.holes.push_back(Hole { from, to }),
        }
        self.highest = to;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_missing_number_is_a_hole() {
        let mut tracker = Tracker::new(10);
        assert!(!tracker.live(11));
        assert!(tracker.live(14));
        assert_eq!(
            (tracker.hole(), tracker.fed_to()),
            (Some(Hole { from: 12, to: 13 }), 11)
        );
        tracker.filled(12);
        assert_eq!(tracker.fed_to(), 12);
        tracker.filled(13);
        assert_eq!((tracker.hole(), tracker.fed_to()), (None, 14));
    }

    #[test]
    fn what_the_stream_holds_beyond_is_a_hole() {
        let mut tracker = Tracker::new(10);
        assert!(!tracker.stored(10));
        assert!(tracker.stored(12));
        assert!(!tracker.live(12), "late, and being filled");
        assert!(tracker.stored(15));
        assert_eq!(tracker.hole(), Some(Hole { from: 11, to: 15 }));
    }

    proptest! {
        /// Whatever arrives, live or by filling, everything below `fed_to` has come, and filling ends with everything.
        #[test]
        fn nothing_below_fed_to_is_missing(arrives in proptest::collection::vec(prop_oneof![3 => Just(true), 1 => Just(false)], 1..400)) {
            let mut tracker = Tracker::new(0);
            let mut got = BTreeSet::new();
            for (index, arrives) in arrives.iter().enumerate() {
                let sequence = index as u64 + 1;
                if *arrives {
                    got.insert(sequence);
                    tracker.live(sequence);
                }
                prop_assert!((1..=tracker.fed_to()).all(|n| got.contains(&n)));
            }
            tracker.stored(arrives.len() as u64);
            while let Some(hole) = tracker.hole() {
                let to = hole.to.min(hole.from + 2);
                got.extend(hole.from..=to);
                tracker.filled(to);
                prop_assert!((1..=tracker.fed_to()).all(|n| got.contains(&n)));
            }
            prop_assert_eq!(tracker.fed_to(), arrives.len() as u64);
        }
    }
}
