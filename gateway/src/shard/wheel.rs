//! Pure: one ring of buckets for the deadlines of all connections of a shard. Each connection waits for one moment at most; a
//! deadline beyond the ring's end waits at its end and is looked at early, which costs one look and no memory.

/// Buckets of the ring, a power of two: with ticks of 25 ms they cover 51 s, longer than any but the rarest deadline.
pub const BUCKETS: u64 = 2048;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    bucket: u32,
}

const IDLE: Link = Link {
    previous: NONE,
    next: NONE,
    bucket: NONE,
};

/// The ring. Members are places of a [`super::slab::Slab`].
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    links: Vec<Link>,
    /// Everything due up to this tick was handed out.
    now: u64,
    armed: usize,
    /// Nobody waits for an earlier tick than this.
    earliest: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: vec![NONE; BUCKETS as usize].into_boxed_slice(),
            links: Vec::new(),
            now: 0,
            armed: 0,
            earliest: u64::MAX,
        }
    }
}

impl Wheel {
    /// Lets a member wait for this tick, or for an earlier one when it does so already. True when this is earlier than what
    /// [`Self::next_due`] last said, so that whoever sleeps until then has to be told.
    pub fn arm(&mut self, member: u32, due: u64, now: u64) -> bool {
        self.skip_empty(now);
        let due = due.clamp(self.now + 1, self.now + BUCKETS - 1);
        if self.due(member).is_some_and(|earlier| earlier <= due) {
            return false;
        }
        self.disarm(member);
        let first = due < self.earliest;
        self.earliest = self.earliest.min(due);
        let at = member as usize;
        if self.links.len() <= at {
            self.links.resize(at + 1, IDLE);
        }
        let bucket = (due % BUCKETS) as u32;
        let next = std::mem::replace(&mut self.heads[bucket as usize], member);
        if next != NONE {
            self.links[next as usize].previous = member;
        }
        self.links[at] = Link {
            previous: NONE,
            next,
            bucket,
        };
        self.armed += 1;
        first
    }

    /// The member waits for nothing any more.
    pub fn disarm(&mut self, member: u32) {
        let Some(link) = self.links.get_mut(member as usize) else {
            return;
        };
        let link = std::mem::replace(link, IDLE);
        if link.bucket == NONE {
            return;
        }
        match link.previous {
            NONE => self.heads[link.bucket as usize] = link.next,
            previous => self.links[previous as usize].next = link.next,
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.armed -= 1;
    }

    /// Which tick a member waits for.
    pub fn due(&self, member: u32) -> Option<u64> {
        let link = self.links.get(member as usize)?;
        (link.bucket != NONE).then(|| self.tick_of(u64::from(link.bucket)))
    }

    /// The earliest tick that anybody waits for.
    pub fn next_due(&mut self) -> Option<u64> {
        let mut ticks = self.now + 1..self.now + BUCKETS;
        let next = match self.armed {
            0 => None,
            _ => ticks.find(|tick| self.heads[(tick % BUCKETS) as usize] != NONE),
        };
        self.earliest = next.unwrap_or(u64::MAX);
        next
    }

    /// Hands out one member that is due by now.
    pub fn expire(&mut self, now: u64) -> Option<u32> {
        self.skip_empty(now);
        if self.now >= now {
            return None;
        }
        let member = self.heads[((self.now + 1) % BUCKETS) as usize];
        self.disarm(member);
        Some(member)
    }

    /// Members that wait.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// Goes forward over buckets without members.
    fn skip_empty(&mut self, now: u64) {
        if self.armed == 0 {
            self.now = self.now.max(now);
        }
        while self.now < now && self.heads[((self.now + 1) % BUCKETS) as usize] == NONE {
            self.now += 1;
        }
    }

    fn tick_of(&self, bucket: u64) -> u64 {
        self.now + (bucket + BUCKETS - self.now % BUCKETS) % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn deadlines_beyond_the_ring_are_looked_at_early() {
        let mut wheel = Wheel::default();
        assert!(wheel.arm(3, 1_000_000, 10));
        assert_eq!(wheel.next_due(), Some(10 + BUCKETS - 1));
        assert_eq!(wheel.expire(10 + BUCKETS), Some(3));
        assert_eq!((wheel.armed(), wheel.next_due()), (0, None));
    }

    #[test]
    fn a_past_deadline_is_due_at_the_next_tick() {
        let mut wheel = Wheel::default();
        wheel.arm(0, 5, 100);
        assert_eq!(wheel.expire(100), None);
        assert_eq!(wheel.expire(101), Some(0));
    }

    #[test]
    fn an_earlier_deadline_moves_a_member_and_a_later_one_does_not() {
        let mut wheel = Wheel::default();
        assert!(wheel.arm(0, 50, 0));
        assert!(!wheel.arm(0, 70, 0));
        assert!(wheel.arm(0, 20, 0));
        assert!(!wheel.arm(1, 30, 0), "nobody has to get up earlier for it");
        assert_eq!((wheel.due(0), wheel.due(1)), (Some(20), Some(30)));
    }

    proptest! {
        /// Against a map from member to deadline: nobody is handed out early, twice or not at all.
        #[test]
        fn it_agrees_with_a_map(
            steps in proptest::collection::vec((0_u8..3, 0_u32..40, 1_u64..BUCKETS - 1), 1..300),
        ) {
            let mut wheel = Wheel::default();
            let mut map: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (what, member, ticks) in steps {
                match what {
                    0 => {
                        wheel.arm(member, now + ticks, now);
                        let due = map.entry(member).or_insert(now + ticks);
                        *due = (*due).min(now + ticks);
                    }
                    1 => {
                        wheel.disarm(member);
                        map.remove(&member);
                    }
                    _ => {
                        now += ticks / 8;
                        while let Some(member) = wheel.expire(now) {
                            let due = map.remove(&member);
                            prop_assert!(due.is_some_and(|due| due <= now), "{member} waits for {due:?} at {now}");
                        }
                        prop_assert!(map.values().all(|due| *due > now));
                    }
                }
                prop_assert_eq!(wheel.armed(), map.len());
                prop_assert_eq!(wheel.next_due(), map.values().min().copied());
            }
        }
    }
}
