//! Pure: a set of a connection's slots, one per followed channel, without memory of its own.

/// Numbers below 128, which is the most channels of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots([u64; 2]);

impl Slots {
    /// Puts a slot in. True when it was not in yet.
    pub fn insert(&mut self, slot: u8) -> bool {
        let (word, bit) = Self::at(slot);
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: u8) {
        let (word, bit) = Self::at(slot);
        self.0[word] &= !bit;
    }

    /// True when the slot is in.
    pub fn contains(self, slot: u8) -> bool {
        let (word, bit) = Self::at(slot);
        self.0[word] & bit != 0
    }

    /// True without slots.
    pub fn is_empty(self) -> bool {
        self.0 == [0, 0]
    }

    /// The first slot at or after this one, going around at the end.
    pub fn next_from(self, slot: u8) -> Option<u8> {
        let all = u128::from(self.0[0]) | u128::from(self.0[1]) << 64;
        let from = u32::from(slot) % 128;
        (all != 0).then(|| ((all.rotate_right(from).trailing_zeros() + from) % 128) as u8)
    }

    fn at(slot: u8) -> (usize, u64) {
        (usize::from(slot / 64) % 2, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0_u8..128), 0..200), from in 0_u8..128) {
            let (mut slots, mut set) = (Slots::default(), BTreeSet::new());
            for (insert, slot) in steps {
                if insert {
                    prop_assert_eq!(slots.insert(slot), set.insert(slot));
                } else {
                    slots.remove(slot);
                    set.remove(&slot);
                }
                prop_assert_eq!(slots.contains(slot), set.contains(&slot));
            }
            prop_assert_eq!(slots.is_empty(), set.is_empty());
            let next = set.range(from..).next().or(set.first()).copied();
            prop_assert_eq!(slots.next_from(from), next);
        }
    }
}
