//! Pure: the per-connection sequence number, 32 bits that wrap around.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a `message` on one connection. The first message has 1, so 0 acknowledges the welcome; after `u32::MAX`
/// comes 0 again. Two numbers are compared by their distance, which is right while less than 2^31 are outstanding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u32);

impl Seq {
    /// What a connection starts from: nothing sent, nothing acknowledged.
    pub const START: Self = Self(0);

    /// Wraps a number.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number of the next message.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How many steps from `earlier` to this one, around the wrap.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// True when this one comes after `other`, around the wrap.
    pub const fn is_after(self, other: Self) -> bool {
        let distance = self.since(other);
        distance != 0 && distance < 1 << 31
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_follows_the_largest_number() {
        let last = Seq::new(u32::MAX);
        assert_eq!(last.next(), Seq::START);
        assert!(Seq::START.is_after(last));
        assert!(!last.is_after(Seq::START));
        assert_eq!(Seq::new(4).since(last), 5);
    }

    proptest! {
        #[test]
        fn order_holds_around_the_wrap(start in any::<u32>(), steps in 1_u32..(1 << 31)) {
            let a = Seq::new(start);
            let b = Seq::new(start.wrapping_add(steps));
            prop_assert!(b.is_after(a));
            prop_assert!(!a.is_after(b));
            prop_assert!(!a.is_after(a));
            prop_assert_eq!(b.since(a), steps);
        }

        #[test]
        fn next_is_one_step(start in any::<u32>()) {
            let a = Seq::new(start);
            prop_assert_eq!(a.next().since(a), 1);
            prop_assert!(a.next().is_after(a));
        }
    }
}
