//! Effects (clock, locks): rates per client. `governor` does the arithmetic (GCRA: one time stamp per client); the table of
//! clients is ours, because it has to have a bound.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

/// A client, as a hash that only this process can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u64);

/// Stripes of the table: checks for different clients seldom wait for each other.
const STRIPES: usize = 16;

/// Whoever finds the table full shares this line with all others who do.
const CROWD: Key = Key(0);

/// Nanoseconds of a second, as the limiter's clock counts.
const SECOND: u64 = 1_000_000_000;

/// A rate that each client may not exceed.
#[derive(Debug)]
pub struct Rate<C: Clock = MonotonicClock> {
    limiter: RateLimiter<Key, Table, C, NoOpMiddleware<C::Instant>>,
    most: usize,
    clock: C,
    start: C::Instant,
    /// Nanoseconds from the start to the last sweep of a full table.
    swept: AtomicU64,
}

impl Rate {
    /// So many per minute, of which all may come at once. `None` for 0: no limit.
    pub fn per_minute(count: u32, most_clients: usize) -> Option<Self> {
        let quota = Quota::per_minute(NonZeroU32::new(count)?);
        Some(Self::with_clock(quota, most_clients, MonotonicClock))
    }

    /// So many per second, of which `burst_seconds` worth may come at once. `None` for 0: no limit.
    pub fn per_second(count: u32, burst_seconds: u32, most_clients: usize) -> Option<Self> {
        let burst = NonZeroU32::new(count.saturating_mul(burst_seconds.max(1)))?;
        let quota = Quota::per_second(NonZeroU32::new(count)?).allow_burst(burst);
        Some(Self::with_clock(quota, most_clients, MonotonicClock))
    }
}

impl<C: Clock + Clone> Rate<C> {
    fn with_clock(quota: Quota, most_clients: usize, clock: C) -> Self {
        Self {
            limiter: RateLimiter::new(quota, Table::new(most_clients), clock.clone()),
            most: most_clients,
            start: clock.now(),
            clock,
            swept: AtomicU64::new(0),
        }
    }

    /// Counts one for this client, or says how long it has to wait until there is room for one.
    pub fn check(&self, key: Key) -> Result<(), Duration> {
        if self.limiter.len() >= self.most {
            self.make_room();
        }
        self.limiter
            .check_key(&key)
            .map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets clients whose rate is all theirs again, and gives the memory back.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// Clients in the table.
    pub fn clients(&self) -> usize {
        self.limiter.len()
    }

    /// Sweeps a full table, but not more than once in a second: it may be full of clients that count.
    fn make_room(&self) {
        let now: u64 = self.clock.now().duration_since(self.start).into();
        let last = self.swept.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= SECOND;
        let order = Ordering::Relaxed;
        if due
            && self
                .swept
                .compare_exchange(last, now.max(1), order, order)
                .is_ok()
        {
            self.limiter.retain_recent();
        }
    }
}

/// One time stamp per client, for a bounded number of clients.
#[derive(Debug)]
struct Table {
    most: usize,
    clients: AtomicUsize,
    stripes: [Mutex<HashMap<Key, Nanos>>; STRIPES],
}

impl Table {
    fn new(most: usize) -> Self {
        Self {
            most,
            clients: AtomicUsize::new(0),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn stripe(&self, key: Key) -> &Mutex<HashMap<Key, Nanos>> {
        &self.stripes[key.0 as usize % STRIPES]
    }
}

impl StateStore for Table {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut stripe = self
            .stripe(*key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = stripe.get_mut(key) {
            let (allowed, next) = decide(Some(*state))?;
            *state = next;
            return Ok(allowed);
        }
        if self.clients.load(Ordering::Relaxed) < self.most || *key == CROWD {
            let (allowed, next) = decide(None)?;
            stripe.insert(*key, next);
            self.clients.fetch_add(1, Ordering::Relaxed);
            return Ok(allowed);
        }
        drop(stripe);
        self.measure_and_replace(&CROWD, decide)
    }
}

impl ShrinkableKeyedStateStore<Key> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let before = stripe.len();
            stripe.retain(|_, state| *state > drop_below);
            self.clients
                .fetch_sub(before - stripe.len(), Ordering::Relaxed);
        }
    }

    fn shrink_to_fit(&self) {
        for stripe in &self.stripes {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    fn two_per_second(most: usize) -> (Rate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_second(NonZeroU32::new(2).unwrap());
        (Rate::with_clock(quota, most, clock.clone()), clock)
    }

    #[test]
    fn each_client_has_its_own_rate_and_learns_its_wait() {
        let (rate, clock) = two_per_second(10);
        assert_eq!([rate.check(Key(1)), rate.check(Key(1))], [Ok(()); 2]);
        assert_eq!(rate.check(Key(1)), Err(Duration::from_millis(500)));
        assert_eq!(rate.check(Key(2)), Ok(()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(rate.check(Key(1)), Ok(()));
        assert!(rate.check(Key(1)).is_err());
    }

    #[test]
    fn quiet_clients_are_forgotten_and_busy_ones_are_not() {
        let (rate, clock) = two_per_second(10);
        for client in 1..5 {
            rate.check(Key(client)).unwrap();
        }
        clock.advance(Duration::from_secs(5));
        rate.check(Key(1)).unwrap();
        rate.check(Key(1)).unwrap();
        rate.sweep();
        assert_eq!(rate.clients(), 1);
        assert!(rate.check(Key(1)).is_err());
    }

    #[test]
    fn a_full_table_is_swept_then_its_crowd_shares_one_rate() {
        let (rate, clock) = two_per_second(3);
        for client in 1..4 {
            rate.check(Key(client)).unwrap();
        }
        assert!(rate.check(Key(4)).is_ok() && rate.check(Key(5)).is_ok());
        assert!(rate.check(Key(6)).is_err(), "the crowd's rate is used up");
        assert!(rate.check(Key(1)).is_ok(), "who is known keeps its own");
        clock.advance(Duration::from_secs(3));
        assert!(rate.check(Key(7)).is_ok());
        assert_eq!(rate.clients(), 1);
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(Rate::per_minute(0, 10).is_none() && Rate::per_second(0, 1, 10).is_none());
    }

    proptest! {
        #[test]
        fn the_table_never_grows_beyond_its_bound_and_nobody_gets_more_than_the_rate(
            steps in proptest::collection::vec((1_u64..40, 0_u64..400), 0..400),
        ) {
            let (rate, clock) = two_per_second(8);
            let mut allowed: HashMap<u64, u32> = HashMap::new();
            let mut milliseconds = 0;
            for (client, pause) in steps {
                clock.advance(Duration::from_millis(pause));
                milliseconds += pause;
                if rate.check(Key(client)).is_ok() {
                    *allowed.entry(client).or_default() += 1;
                }
                // The crowd's own line comes on top.
                prop_assert!(rate.clients() <= 9);
            }
            for (client, count) in allowed {
                // A client may have been allowed by its own line and by the crowd's.
                prop_assert!(u64::from(count) <= 2 * (2 + milliseconds / 500), "{} {}", client, count);
            }
        }
    }
}
