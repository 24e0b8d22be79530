//! Pure: the channels that connections of one shard follow: a ring of recent frames each, and who is to be told of news.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use sluice_protocol::{ChannelName, Epoch};
use smallvec::SmallVec;

use super::slab::Key;
use crate::hub::Start;
use crate::hub::ring::{Frame, Next, Place, Pushed, Ring};
use crate::limits;

const NONE: u32 = u32::MAX;

/// One channel with followers on this shard.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    generation: u16,
    /// Most channels are a user's own.
    followers: SmallVec<[Follower; 1]>,
    vacant: u32,
    count: u32,
    /// In the list of channels with news.
    dirty: bool,
    /// In the list of channels with frames.
    warm: bool,
}

/// A place in a channel's list. It stays the same while its follower stays, and is used again at once.
#[derive(Clone, Copy, Debug)]
enum Follower {
    Here { key: Key, slot: u8 },
    Vacant { next: u32 },
}

impl Channel {
    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Its epoch and the end of what was offered.
    pub fn tip(&self) -> (Epoch, u64) {
        let inner = self.inner.borrow();
        (inner.ring.epoch().clone(), inner.ring.tip())
    }

    /// The number of its epoch.
    pub fn generation(&self) -> u16 {
        self.inner.borrow().generation
    }

    /// What comes after a place.
    pub fn next(&self, epoch: &Epoch, place: Place) -> Next {
        self.inner.borrow().ring.next(epoch, place)
    }

    /// Hands out what [`Self::next`] pointed at, until told to stop.
    pub fn frames(&self, first: usize, mut each: impl FnMut(&Arc<Frame>) -> bool) {
        for frame in self.inner.borrow().ring.frames(first) {
            if !each(frame) {
                return;
            }
        }
    }

    /// Adds a follower; says where in the list.
    pub fn join(&self, key: Key, slot: u8) -> u32 {
        let mut inner = self.inner.borrow_mut();
        inner.count += 1;
        let here = Follower::Here { key, slot };
        let at = inner.vacant;
        if let Some(place) = inner.followers.get_mut(at as usize) {
            if let Follower::Vacant { next } = std::mem::replace(place, here) {
                inner.vacant = next;
            }
            return at;
        }
        inner.followers.push(here);
        inner.followers.len() as u32 - 1
    }

    /// Takes a follower out. True when it was the last one.
    pub fn part(&self, at: u32) -> bool {
        let mut inner = self.inner.borrow_mut();
        let next = inner.vacant;
        if let Some(place @ Follower::Here { .. }) = inner.followers.get_mut(at as usize) {
            *place = Follower::Vacant { next };
            inner.vacant = at;
            inner.count -= 1;
        }
        inner.count == 0
    }

    /// Bytes of the frames it holds.
    pub fn bytes(&self) -> usize {
        self.inner.borrow().ring.bytes()
    }
}

/// Lets a set of channels be asked by name.
#[derive(Debug)]
struct Named(Rc<Channel>);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        self.0.name.as_str()
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.as_str().hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Named {}

/// All channels of one shard.
#[derive(Debug, Default)]
pub struct Channels {
    all: HashSet<Named>,
    /// With news that not all followers were told of.
    dirty: VecDeque<Rc<Channel>>,
    /// Whose followers are being told, and how far.
    telling: Option<(Rc<Channel>, usize)>,
    /// With frames, to be looked at by the next sweep.
    warm: Vec<Rc<Channel>>,
}

impl Channels {
    /// A channel that somebody here follows.
    pub fn get(&self, name: &ChannelName) -> Option<Rc<Channel>> {
        self.all.get(name.as_str()).map(|named| Rc::clone(&named.0))
    }

    /// A channel whose first follower comes.
    pub fn create(&mut self, name: &ChannelName, start: Start) -> Rc<Channel> {
        let inner = Inner {
            ring: Ring::quiet(start.epoch, start.quiet_since, start.at),
            generation: start.generation,
            followers: SmallVec::new(),
            vacant: NONE,
            count: 0,
            dirty: false,
            warm: false,
        };
        let channel = Rc::new(Channel {
            name: name.clone(),
            inner: RefCell::new(inner),
        });
        self.all.insert(Named(Rc::clone(&channel)));
        channel
    }

    /// A channel whose last follower has left.
    pub fn remove(&mut self, name: &ChannelName) {
        self.all.remove(name.as_str());
        if self.all.len() < self.all.capacity() / 4 {
            self.all.shrink_to_fit();
        }
    }

    /// A message came; says by how many bytes the rings have grown. `crowded` rings keep the newest frame only.
    pub fn push(&mut self, name: &ChannelName, frame: Arc<Frame>, crowded: bool) -> isize {
        let Some(channel) = self.get(name) else {
            return 0;
        };
        let mut inner = channel.inner.borrow_mut();
        let before = inner.ring.bytes();
        let pushed = inner.ring.push(frame);
        if pushed == Pushed::Stale {
            return 0;
        }
        let messages = if crowded { 1 } else { limits::RING_MESSAGES };
        inner.ring.trim(messages, limits::RING_BYTES);
        let grown = grown(before, &inner.ring);
        if !std::mem::replace(&mut inner.warm, true) {
            self.warm.push(Rc::clone(&channel));
        }
        if !std::mem::replace(&mut inner.dirty, true) {
            self.dirty.push_back(Rc::clone(&channel));
        }
        grown
    }

    /// Empties rings and lets them start anew: those of another epoch, or those that end before a position.
    pub fn restart(&mut self, epoch: Option<(&Epoch, u16)>, at: u64) -> isize {
        let mut total = 0;
        for Named(channel) in &self.all {
            let mut inner = channel.inner.borrow_mut();
            let new = match epoch {
                Some((epoch, _)) if inner.ring.epoch() == epoch => continue,
                Some((epoch, generation)) => {
                    inner.generation = generation;
                    epoch.clone()
                }
                None if inner.ring.tip() >= at => continue,
                None => inner.ring.epoch().clone(),
            };
            let before = inner.ring.bytes();
            inner.ring = Ring::new(new, at);
            total += grown(before, &inner.ring);
            if !std::mem::replace(&mut inner.dirty, true) {
                self.dirty.push_back(Rc::clone(channel));
            }
        }
        total
    }

    /// Tells of news: at most so many followers. True when there are more to tell.
    pub fn tell(&mut self, most: usize, mut each: impl FnMut(Key, u8)) -> bool {
        let mut left = most;
        while left > 0 {
            let (channel, from) = match self.telling.take() {
                Some(telling) => telling,
                None => match self.dirty.pop_front() {
                    Some(channel) => {
                        channel.inner.borrow_mut().dirty = false;
                        (channel, 0)
                    }
                    None => return false,
                },
            };
            let inner = channel.inner.borrow();
            let end = inner.followers.len().min(from + left);
            for follower in inner.followers.get(from..end).unwrap_or_default() {
                if let Follower::Here { key, slot } = follower {
                    each(*key, *slot);
                }
            }
            let done = end >= inner.followers.len();
            // Even an empty channel costs something.
            left -= end.saturating_sub(from).clamp(1, left);
            drop(inner);
            if !done {
                self.telling = Some((channel, end));
            }
        }
        self.telling.is_some() || !self.dirty.is_empty()
    }

    /// Channels with frames, for a sweep.
    pub fn take_warm(&mut self) -> Vec<Rc<Channel>> {
        std::mem::take(&mut self.warm)
    }

    /// Drops a channel's frames that were published before `time`; says by how many bytes its ring has grown, which is less
    /// than nothing.
    pub fn expire(&mut self, channel: Rc<Channel>, time: u64) -> isize {
        let mut inner = channel.inner.borrow_mut();
        let before = inner.ring.bytes();
        inner.ring.expire(time);
        let grown = grown(before, &inner.ring);
        inner.warm = inner.ring.bytes() > 0 && inner.count > 0;
        let (warm, left) = (inner.warm, inner.count == 0);
        drop(inner);
        if warm {
            self.warm.push(channel);
        }
        // What a channel without followers held is no longer counted.
        if left { 0 } else { grown }
    }

    /// Channels with followers.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True without channels.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn grown(before: usize, ring: &Ring) -> isize {
    ring.bytes().cast_signed() - before.cast_signed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::shard::slab::Slab;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn frame(offset: u64) -> Arc<Frame> {
        Arc::new(Frame {
            offset,
            previous: offset - 1,
            time: offset,
            suffix: Bytes::from_static(b"0123456789"),
        })
    }

    fn start() -> Start {
        Start {
            epoch: Epoch::new("e").unwrap(),
            generation: 1,
            at: 0,
            quiet_since: 0,
        }
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    #[test]
    fn frames_are_counted_until_they_expire() {
        let mut channels = Channels::default();
        let mut slab = Slab::default();
        let news = channels.create(&name("news"), start());
        news.join(slab.insert(()), 0);
        assert_eq!(channels.push(&name("news"), frame(1), false), 10);
        assert_eq!(channels.push(&name("news"), frame(2), false), 10);
        assert_eq!(channels.push(&name("news"), frame(2), false), 0);
        assert_eq!(channels.push(&name("other"), frame(2), false), 0);
        assert_eq!(channels.push(&name("news"), frame(3), true), -10);
        let warm = channels.take_warm();
        assert_eq!(warm.len(), 1);
        assert_eq!(channels.expire(Rc::clone(&news), 4), -10);
        assert!(channels.take_warm().is_empty());
        channels.push(&name("news"), frame(4), false);
        assert_eq!(channels.restart(None, 4), 0);
        assert_eq!(channels.restart(None, 9), -10);
        let other = Epoch::new("f").unwrap();
        channels.restart(Some((&other, 2)), 3);
        assert_eq!((news.tip(), news.generation()), ((other, 3), 2));
    }

    #[test]
    fn news_during_the_telling_are_told_to_all_again() {
        let mut channels = Channels::default();
        let mut slab = Slab::default();
        let news = channels.create(&name("news"), start());
        let keys: Vec<_> = (0..5).map(|_| slab.insert(())).collect();
        for key in &keys {
            news.join(*key, 7);
        }
        channels.push(&name("news"), frame(1), false);
        let mut told = Vec::new();
        assert!(channels.tell(3, |key, slot| told.push((key, slot))));
        channels.push(&name("news"), frame(2), false);
        while channels.tell(3, |key, slot| told.push((key, slot))) {}
        let once: Vec<_> = keys.iter().map(|key| (*key, 7)).collect();
        assert_eq!(told, [once.clone(), once].concat());
    }

    proptest! {
        /// Whoever comes and goes, exactly those who are there are told.
        #[test]
        fn followers_are_told_once(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..200), most in 1_usize..9) {
            let mut channels = Channels::default();
            let mut slab = Slab::default();
            let channel = channels.create(&name("c"), start());
            let mut here: Vec<(Key, u32)> = Vec::new();
            let mut peak = 0;
            for (join, at) in steps {
                if join || here.is_empty() {
                    let key = slab.insert(());
                    here.push((key, channel.join(key, 3)));
                    peak = peak.max(here.len());
                } else {
                    let (key, place) = here.swap_remove(usize::from(at) % here.len());
                    slab.remove(key);
                    prop_assert_eq!(channel.part(place), here.is_empty());
                }
                prop_assert!(here.iter().all(|(_, place)| (*place as usize) < peak));
            }
            channels.push(&name("c"), frame(1), false);
            let mut told = Vec::new();
            while channels.tell(most, |key, _| told.push(key.index())) {}
            let expected: BTreeSet<u32> = here.iter().map(|(key, _)| key.index()).collect();
            prop_assert_eq!(told.len(), expected.len());
            prop_assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}
