//! Pure: a table whose places are used again at once. A key also says which use of its place it means, so a key that is kept
//! for too long finds nothing rather than somebody else.

/// Places that are allocated together: the table grows without moving anybody.
const CHUNK: usize = 256;

/// End of the list of free places.
const END: u32 = u32::MAX;

/// Names one use of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The place, the same for all its uses.
    pub fn index(self) -> u32 {
        self.index
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

/// The table.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: END,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Takes a place.
    pub fn insert(&mut self, value: T) -> Key {
        if self.free == END {
            self.grow();
        }
        let index = self.free;
        self.len += 1;
        let Some(slot) = self.slot_mut(index) else {
            unreachable!("free places exist")
        };
        slot.value = Some(value);
        let (next, generation) = (slot.next_free, slot.generation);
        self.free = next;
        Key { index, generation }
    }

    /// Gives a place back.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let free = self.free;
        let slot = self
            .slot_mut(key.index)
            .filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = free;
        self.free = key.index;
        self.len -= 1;
        Some(value)
    }

    /// Who has this key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot_mut(key.index)
            .filter(|slot| slot.generation == key.generation)?
            .value
            .as_mut()
    }

    /// Whoever has this place now.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slot_mut(index)?.value.as_mut()
    }

    /// Everybody.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let slots = self.chunks.iter_mut().flatten();
        slots.zip(0_u32..).filter_map(|(slot, index)| {
            let key = Key {
                index,
                generation: slot.generation,
            };
            slot.value.as_mut().map(|value| (key, value))
        })
    }

    /// Places taken.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no place is taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    fn grow(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32;
        let last = first + CHUNK as u32 - 1;
        let slot = |index| Slot {
            generation: 0,
            next_free: if index == last { END } else { index + 1 },
            value: None,
        };
        self.chunks.push((first..=last).map(slot).collect());
        self.free = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_place_is_used_again_and_old_keys_find_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
        assert_eq!(slab.at_mut(second.index()), Some(&mut "b"));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..900)) {
            let mut slab = Slab::default();
            let mut map: HashMap<Key, u16> = HashMap::new();
            let mut gone = Vec::new();
            let mut most = 0;
            for (insert, value) in steps {
                if insert || map.is_empty() {
                    let key = slab.insert(value);
                    prop_assert!(map.insert(key, value).is_none());
                    most = most.max(map.len());
                    prop_assert!((key.index() as usize) < most, "places are used again at once");
                } else {
                    let at = value as usize % map.len();
                    let key = map.keys().copied().nth(at).unwrap_or_else(|| unreachable!());
                    prop_assert_eq!(slab.remove(key), map.remove(&key));
                    gone.push(key);
                }
            }
            prop_assert_eq!(slab.len(), map.len());
            prop_assert_eq!(slab.is_empty(), map.is_empty());
            prop_assert!(gone.iter().all(|key| slab.get_mut(*key).is_none()));
            let all: HashMap<Key, u16> = slab.iter_mut().map(|(key, value)| (key, *value)).collect();
            prop_assert_eq!(all, map);
        }
    }
}
