//! Pure: the recent messages of one channel, and what a reader at some position gets from them.
//!
//! A ring covers the stretch `(start, tip]` of its channel: every message in it is present. A reader behind `start` has to
//! read history first. Each frame also carries the offset of the message before it, so that a reader notices by itself
//! when something between its position and the frame is missing; then it reads again rather than going on.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sluice_protocol::Epoch;

/// One message, encoded once for all subscribers of its channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the channel.
    pub offset: u64,
    /// The message before it; 0 when unknown or when there is none.
    pub previous: u64,
    /// When it was published, milliseconds since the Unix epoch.
    pub time: u64,
    /// The frame's text from after `seq` to its end.
    pub suffix: Bytes,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Known already.
    Stale,
    /// The next one.
    Appended,
    /// Something before it is missing here; readers have to read history.
    Restarted,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// What [`Ring::frames`] gives from here on.
    Frames(usize),
    /// Nothing yet: the reader is at the tip.
    UpToDate,
    /// What comes next is not here: history has to be read at least up to `until`.
    Behind {
        /// The position to reach.
        until: u64,
    },
    /// The channel's positions were made anew.
    OtherEpoch,
}

/// A reader's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The last message it has, or a position that it was told is whole.
    pub at: u64,
    /// Up to here history was read and held nothing more; at least `at`.
    pub checked: u64,
}

/// The recent messages of one channel.
#[derive(Debug)]
pub struct Ring {
    epoch: Epoch,
    start: u64,
    tip: u64,
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
}

impl Ring {
    /// Empty, from this position on.
    pub fn new(epoch: Epoch, at: u64) -> Self {
        Self::quiet(epoch, at, at)
    }

    /// Empty, because its channel has no message in `(start, tip]`.
    pub fn quiet(epoch: Epoch, start: u64, tip: u64) -> Self {
        Self {
            epoch,
            start,
            tip,
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Epoch of its positions.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Everything up to here has been offered.
    pub fn tip(&self) -> u64 {
        self.tip
    }

    /// Bytes of the frames it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message. `previous` 0 means: the one before it is known to have been offered, too.
    pub fn push(&mut self, frame: Arc<Frame>) -> Pushed {
        if frame.offset <= self.tip {
            return Pushed::Stale;
        }
        let pushed = if frame.previous <= self.tip {
            Pushed::Appended
        } else {
            self.frames.clear();
            self.bytes = 0;
            self.start = frame.previous;
            Pushed::Restarted
        };
        self.tip = frame.offset;
        self.bytes += frame.suffix.len();
        self.frames.push_back(frame);
        pushed
    }

    /// Drops the oldest frames until it keeps within these limits, but not the newest one.
    pub fn trim(&mut self, messages: usize, bytes: usize) {
        while self.frames.len() > 1 && (self.frames.len() > messages || self.bytes > bytes) {
            self.drop_oldest();
        }
    }

    /// Drops frames published before `time`, and gives back the places that a burst took.
    pub fn expire(&mut self, time: u64) {
        while self.frames.front().is_some_and(|frame| frame.time < time) {
            self.drop_oldest();
        }
        if self.frames.len() < self.frames.capacity() / 4 {
            self.frames.shrink_to_fit();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.start = frame.offset;
            self.bytes -= frame.suffix.len();
        }
    }

    /// What comes after a place.
    pub fn next(&self, epoch: &Epoch, place: Place) -> Next {
        if *epoch != self.epoch {
            return Next::OtherEpoch;
        }
        if place.at >= self.tip {
            return Next::UpToDate;
        }
        if place.checked < self.start {
            return Next::Behind { until: self.start };
        }
        let first = self.first_after(place.at);
        match self.frames.get(first) {
            None => Next::UpToDate,
            Some(frame) if frame.previous > place.at => Next::Behind {
                until: frame.previous,
            },
            Some(_) => Next::Frames(first),
        }
    }

    /// The first frame after a place before the tip. Most readers have everything but the newest one.
    fn first_after(&self, at: u64) -> usize {
        let older = self.frames.len().saturating_sub(1);
        match older.checked_sub(1).and_then(|last| self.frames.get(last)) {
            Some(frame) if frame.offset <= at => older,
            _ => self.frames.partition_point(|frame| frame.offset <= at),
        }
    }

    /// The frames that [`Self::next`] pointed at, in order.
    pub fn frames(&self, first: usize) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.iter().skip(first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn frame(offset: u64, previous: u64) -> Arc<Frame> {
        Arc::new(Frame {
            offset,
            previous,
            time: offset,
            suffix: Bytes::from(vec![b'x'; 10]),
        })
    }

    fn epoch() -> Epoch {
        Epoch::new("e").unwrap()
    }

    fn at(at: u64) -> Place {
        Place { at, checked: at }
    }

    fn offsets(ring: &Ring, place: Place, most: usize) -> Vec<u64> {
        match ring.next(&epoch(), place) {
            Next::Frames(first) => ring.frames(first).take(most).map(|f| f.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_what_comes_after_it() {
        let mut ring = Ring::new(epoch(), 10);
        assert_eq!(ring.next(&epoch(), at(10)), Next::UpToDate);
        assert_eq!(ring.push(frame(14, 3)), Pushed::Appended);
        assert_eq!(ring.push(frame(20, 14)), Pushed::Appended);
        assert_eq!(offsets(&ring, at(10), 9), [14, 20]);
        assert_eq!(offsets(&ring, at(10), 1), [14]);
        assert_eq!(offsets(&ring, at(14), 9), [20]);
        assert_eq!(ring.next(&epoch(), at(25)), Next::UpToDate);
    }

    #[test]
    fn a_reader_from_before_the_start_reads_history() {
        let mut ring = Ring::new(epoch(), 10);
        ring.push(frame(14, 7));
        assert_eq!(ring.next(&epoch(), at(6)), Next::Behind { until: 10 });
        // History up to 10 held nothing after 6, but the live message names a predecessor, 7: the read was stale.
        assert_eq!(
            ring.next(&epoch(), Place { at: 6, checked: 10 }),
            Next::Behind { until: 7 }
        );
        assert_eq!(offsets(&ring, Place { at: 7, checked: 10 }, 9), [14]);
    }

    #[test]
    fn a_reader_from_a_quiet_stretch_needs_no_history() {
        let mut ring = Ring::quiet(epoch(), 4, 10);
        assert_eq!(ring.next(&epoch(), at(3)), Next::Behind { until: 4 });
        assert_eq!(ring.next(&epoch(), at(4)), Next::UpToDate);
        ring.push(frame(14, 4));
        assert_eq!(offsets(&ring, at(5), 9), [14]);
    }

    #[test]
    fn repeats_and_late_ones_are_dropped() {
        let mut ring = Ring::new(epoch(), 0);
        ring.push(frame(5, 0));
        assert_eq!(ring.push(frame(5, 0)), Pushed::Stale);
        assert_eq!(ring.push(frame(4, 0)), Pushed::Stale);
    }

    #[test]
    fn a_missing_message_restarts_the_ring() {
        let mut ring = Ring::new(epoch(), 0);
        ring.push(frame(1, 0));
        assert_eq!(ring.push(frame(9, 5)), Pushed::Restarted);
        assert_eq!(ring.next(&epoch(), at(1)), Next::Behind { until: 5 });
        assert_eq!(offsets(&ring, at(5), 9), [9]);
    }

    #[test]
    fn trimmed_stretches_are_not_covered() {
        let mut ring = Ring::new(epoch(), 0);
        for n in 1..=5 {
            ring.push(frame(n, n - 1));
        }
        ring.trim(2, 1000);
        assert_eq!(ring.next(&epoch(), at(2)), Next::Behind { until: 3 });
        assert_eq!(offsets(&ring, at(3), 9), [4, 5]);
        ring.trim(9, 1);
        assert_eq!(ring.bytes(), 10);
        ring.expire(6);
        assert_eq!(
            (ring.bytes(), ring.next(&epoch(), at(4))),
            (0, Next::Behind { until: 5 })
        );
        assert_eq!(ring.frames.capacity(), 0);
        assert_eq!(ring.next(&epoch(), at(5)), Next::UpToDate);
    }

    #[test]
    fn another_epoch_is_told_apart() {
        let ring = Ring::new(epoch(), 5);
        assert_eq!(
            ring.next(&Epoch::new("f").unwrap(), at(5)),
            Next::OtherEpoch
        );
    }

    proptest! {
        /// Whatever is lost on the live side, a reader that reads history when told to gets every message once, in order.
        #[test]
        fn readers_miss_and_repeat_nothing(
            lost in proptest::collection::vec(any::<bool>(), 1..60),
            trims in proptest::collection::vec(0_usize..4, 60),
            polls in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let all: Vec<u64> = (1..=lost.len() as u64).map(|n| n * 3).collect();
            let mut ring = Ring::new(epoch(), 0);
            let mut place = at(0);
            let mut got = Vec::new();
            let mut stored = 0;
            for (index, offset) in all.iter().enumerate() {
                stored = index + 1;
                if !lost[index] {
                    ring.push(frame(*offset, offset - 3));
                }
                ring.trim(trims[index] + 1, usize::MAX);
                if polls[index] {
                    read(&ring, &mut place, &all[..stored], &mut got);
                }
            }
            // The comparison with the broker finds what was lost at the very end.
            ring.push(frame(1000, all[stored - 1]));
            read(&ring, &mut place, &all, &mut got);
            prop_assert_eq!(got.pop(), Some(1000));
            prop_assert_eq!(got, all);
        }
    }

    fn read(ring: &Ring, place: &mut Place, history: &[u64], got: &mut Vec<u64>) {
        loop {
            match ring.next(&epoch(), *place) {
                Next::UpToDate => return,
                Next::Frames(first) => {
                    for frame in ring.frames(first).take(3) {
                        got.push(frame.offset);
                        place.at = frame.offset;
                    }
                }
                Next::Behind { .. } => {
                    let tip = ring.tip();
                    let from = place.at;
                    for offset in history.iter().filter(|o| **o > from && **o <= tip) {
                        got.push(*offset);
                        place.at = *offset;
                    }
                    place.checked = tip;
                }
                Next::OtherEpoch => panic!("one epoch only"),
            }
            place.checked = place.checked.max(place.at);
        }
    }
}
