//! Pure: how many connections fit: the smallest of what was configured, what descriptors allow, and what memory allows at the
//! size that connections were measured to have.

use crate::limits;

/// What a connection takes, measured while the gateway runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Least memory ever in use, bytes: what the process takes by itself.
    base: Option<u64>,
    /// Connections when `each` was measured.
    at: u64,
    /// Bytes per connection, kernel memory included.
    each: Option<u64>,
}

impl Measure {
    /// Takes a reading in. Memory is not given back as soon as connections go, so what was measured with more of them stays;
    /// but fewer that take less each prove it wrong. Without that, the limit of one bad moment would keep away the very
    /// connections that it takes to measure again.
    pub fn take(&mut self, connections: u64, used: u64) {
        let base = self.base.map_or(used, |base| base.min(used));
        self.base = Some(base);
        let Some(each) = (used - base).checked_div(connections) else {
            return;
        };
        let each = each.max(1);
        let enough = connections >= limits::MEASURED_FROM_CONNECTIONS;
        let as_many = connections >= self.at.saturating_sub(self.at / 10);
        let less = self.each.is_some_and(|before| each < before);
        if enough && as_many {
            self.at = self.at.max(connections);
            self.each = Some(each);
        } else if enough && less {
            self.at = connections;
            self.each = Some(each);
        } else if less {
            // Too few to say how much it is, only that it is not so much: as at the start.
            self.at = 0;
            self.each = None;
        }
    }

    /// Bytes per connection, once there were enough to measure.
    pub fn each(&self) -> Option<u64> {
        self.each
    }

    /// Connections for which there is room before memory reaches `percent` of `limit` bytes.
    pub fn fits(&self, limit: u64, percent: u8) -> Option<u64> {
        let (base, each) = (self.base?, self.each?);
        if limit == 0 {
            return None;
        }
        let usable = u128::from(limit) * u128::from(percent) / 100;
        let usable = u64::try_from(usable).unwrap_or(u64::MAX);
        Some((usable.saturating_sub(base) / each).max(1))
    }
}

/// The connection limit in force: what was configured, or what memory has room for if that is less.
pub fn connection_limit(configured: u64, fits: Option<u64>) -> u64 {
    fits.map_or(configured, |fits| configured.min(fits))
}

/// Tasks at which something multiplies: a connection has one of its own, and at times one for its handshake or its end.
pub fn task_limit(max_tasks: u32, connections: u64) -> u64 {
    match max_tasks {
        0 => connections
            .saturating_mul(2)
            .saturating_add(limits::TASKS_BESIDE_CONNECTIONS),
        given => given.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn memory_divided_by_what_each_was_seen_to_take() {
        let mut measure = Measure::default();
        measure.take(0, 20 * MIB);
        assert_eq!((measure.each(), measure.fits(512 * MIB, 80)), (None, None));
        measure.take(999, 40 * MIB);
        assert_eq!(measure.each(), None, "too few to measure");
        measure.take(2000, 20 * MIB + 2000 * 4096);
        assert_eq!(measure.each(), Some(4096));
        // 80 % of 512 MiB less the base, 4 KiB each.
        assert_eq!(measure.fits(512 * MIB, 80), Some(99_737));
        assert_eq!(measure.fits(0, 80), None, "no limit, nothing to divide");
        assert_eq!(
            connection_limit(10_000, measure.fits(512 * MIB, 80)),
            10_000
        );
        assert_eq!(connection_limit(10_000, measure.fits(32 * MIB, 80)), 1433);
        assert_eq!(connection_limit(10_000, None), 10_000);
    }

    #[test]
    fn memory_that_stays_when_connections_go_is_not_theirs() {
        let mut measure = Measure::default();
        measure.take(0, 20 * MIB);
        measure.take(10_000, 60 * MIB);
        let each = measure.each();
        measure.take(1500, 58 * MIB);
        assert_eq!(measure.each(), each);
        measure.take(9500, 70 * MIB);
        assert_ne!(measure.each(), each);
    }

    #[test]
    fn the_limit_of_one_bad_moment_does_not_stay() {
        let mut measure = Measure::default();
        measure.take(0, 20 * MIB);
        measure.take(2000, 480 * MIB);
        let fits = measure.fits(512 * MIB, 80);
        assert!(fits.is_some_and(|fits| fits < 1800), "{fits:?}");
        measure.take(1700, 40 * MIB);
        assert_eq!(measure.each(), Some(20 * MIB / 1700));
        assert!(measure.fits(512 * MIB, 80) > Some(2000));
        // The same with too few left to measure.
        measure.take(1600, 480 * MIB);
        measure.take(500, 480 * MIB);
        assert_eq!(measure.each(), Some(460 * MIB / 1600));
        measure.take(500, 40 * MIB);
        assert_eq!((measure.each(), measure.fits(512 * MIB, 80)), (None, None));
    }

    #[test]
    fn tasks_follow_connections_unless_a_number_was_given() {
        assert_eq!(
            task_limit(0, 10_000),
            20_000 + limits::TASKS_BESIDE_CONNECTIONS
        );
        assert_eq!(task_limit(500, 10_000), 500);
        assert_eq!(task_limit(0, u64::MAX), u64::MAX);
    }

    proptest! {
        /// However memory grows with connections: while what is used beside the base is below what may be, the limit lies
        /// above the connections there are.
        #[test]
        fn a_measured_limit_never_refuses_while_memory_has_room(
            base in 1u64..64 * MIB, fixed in 0u64..128 * MIB, each in 1u64..100_000, connections in 1000u64..100_000, limit in 1u64..(4096 * MIB),
        ) {
            let used = base + fixed + each * connections;
            let mut measure = Measure::default();
            measure.take(0, base);
            measure.take(connections, used);
            let usable = limit * 80 / 100;
            let fits = measure.fits(limit, 80).unwrap_or_default();
            if used <= usable {
                prop_assert!(fits >= connections, "{fits} of {connections}");
            }
            prop_assert!(fits <= usable.max(1));
        }
    }
}
