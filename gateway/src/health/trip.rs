//! Pure: addresses whose connections were evicted again and again are refused for a while. Off unless asked for, because an
//! address behind a proxy or a NAT is not a client. Times are on any clock that only goes forward.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::handshake::address::client_block;
use crate::tuning::rules::HealthRules;

/// What an eviction led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is kept: it is off, the address has many connections, or the table is full of tripped addresses.
    Ignored,
    /// It is remembered.
    Noted,
    /// The address is refused from now on, for this long.
    Tripped(Duration),
}

/// Addresses with evictions. Bounded: the one that was quiet the longest is forgotten first.
#[derive(Debug)]
pub struct Trips {
    addresses: HashMap<IpAddr, Address>,
    most: usize,
}

#[derive(Debug, Default)]
struct Address {
    /// Within the window, oldest first.
    evictions: VecDeque<Duration>,
    tripped_until: Option<Duration>,
}

impl Address {
    fn is_tripped(&self, now: Duration) -> bool {
        self.tripped_until.is_some_and(|until| now < until)
    }

    fn last(&self) -> Duration {
        self.evictions.back().copied().unwrap_or_default()
    }
}

impl Trips {
    /// For at most `most` addresses.
    pub fn new(most: usize) -> Self {
        Self {
            addresses: HashMap::new(),
            most,
        }
    }

    /// A connection was evicted as slow or for broken framing. `connections` is what its address has, this one included.
    pub fn evicted(
        &mut self,
        address: IpAddr,
        connections: usize,
        now: Duration,
        rules: &HealthRules,
    ) -> Outcome {
        let few = connections <= usize::from(rules.trip_connections);
        if rules.trip_evictions == 0 || !few || !self.make_room(address, now, rules) {
            return Outcome::Ignored;
        }
        let entry = self.addresses.entry(client_block(address)).or_default();
        if entry.is_tripped(now) {
            return Outcome::Noted;
        }
        let window = Duration::from_secs(rules.trip_window_seconds.into());
        entry.evictions.retain(|at| now < *at + window);
        entry.evictions.push_back(now);
        if entry.evictions.len() < usize::from(rules.trip_evictions) {
            return Outcome::Noted;
        }
        let pause = Duration::from_secs(rules.trip_seconds.into());
        entry.tripped_until = Some(now + pause);
        // It starts anew when it comes back.
        entry.evictions.clear();
        Outcome::Tripped(pause)
    }

    /// For how much longer an address is refused.
    pub fn refused_for(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let until = self.addresses.get(&client_block(address))?.tripped_until?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Addresses that are refused now.
    pub fn tripped(&self, now: Duration) -> usize {
        let all = self.addresses.values();
        all.filter(|address| address.is_tripped(now)).count()
    }

    /// Drops what is over; call it now and then.
    pub fn sweep(&mut self, now: Duration, rules: &HealthRules) {
        let window = Duration::from_secs(rules.trip_window_seconds.into());
        let off = rules.trip_evictions == 0;
        self.addresses.retain(|_, address| {
            !off && (address.is_tripped(now) || now < address.last() + window)
        });
        if self.addresses.is_empty() {
            // What a flood took is given back.
            self.addresses.shrink_to_fit();
        }
    }

    fn make_room(&mut self, address: IpAddr, now: Duration, rules: &HealthRules) -> bool {
        if self.addresses.len() < self.most || self.addresses.contains_key(&client_block(address)) {
            return true;
        }
        self.sweep(now, rules);
        if self.addresses.len() < self.most {
            return true;
        }
        let waiting = self
            .addresses
            .iter()
            .filter(|(_, address)| !address.is_tripped(now));
        let quietest = waiting
            .min_by_key(|(key, address)| (address.last(), **key))
            .map(|(key, _)| *key);
        quietest.is_some_and(|key| self.addresses.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn rules(evictions: u8) -> HealthRules {
        HealthRules {
            trip_evictions: evictions,
            trip_window_seconds: 300,
            trip_seconds: 60,
            trip_connections: 3,
            ..HealthRules::default()
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_second_eviction_within_the_window_trips() {
        let mut trips = Trips::new(10);
        let (ann, rules) = (ip("192.0.2.1"), rules(2));
        assert_eq!(trips.evicted(ann, 1, s(0), &rules), Outcome::Noted);
        assert_eq!(
            trips.evicted(ann, 1, s(301), &rules),
            Outcome::Noted,
            "the first is too old"
        );
        assert_eq!(
            trips.evicted(ann, 1, s(400), &rules),
            Outcome::Tripped(s(60))
        );
        assert_eq!(trips.refused_for(ann, s(401)), Some(s(59)));
        assert_eq!(trips.tripped(s(401)), 1);
        assert_eq!(trips.refused_for(ip("192.0.2.2"), s(401)), None);
        assert_eq!(trips.refused_for(ann, s(460)), None);
        assert_eq!(
            trips.evicted(ann, 1, s(461), &rules),
            Outcome::Noted,
            "it starts anew"
        );
    }

    #[test]
    fn it_is_off_unless_asked_for_and_spares_proxies() {
        let mut trips = Trips::new(10);
        let proxy = ip("192.0.2.9");
        for second in 0..10 {
            assert_eq!(
                trips.evicted(proxy, 1, s(second), &rules(0)),
                Outcome::Ignored
            );
            assert_eq!(
                trips.evicted(proxy, 4, s(second), &rules(2)),
                Outcome::Ignored
            );
        }
        assert!(trips.addresses.is_empty());
    }

    #[test]
    fn one_client_is_known_under_all_its_addresses() {
        let mut trips = Trips::new(10);
        let rules = rules(2);
        trips.evicted(ip("::ffff:192.0.2.1"), 1, s(0), &rules);
        trips.evicted(ip("192.0.2.1"), 1, s(1), &rules);
        assert!(trips.refused_for(ip("192.0.2.1"), s(2)).is_some());
        trips.evicted(ip("2001:db8:1:2::1"), 1, s(0), &rules);
        trips.evicted(ip("2001:db8:1:2:ffff::9"), 1, s(1), &rules);
        assert!(trips.refused_for(ip("2001:db8:1:2::77"), s(2)).is_some());
        assert!(trips.refused_for(ip("2001:db8:1:3::77"), s(2)).is_none());
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut trips = Trips::new(10);
        trips.evicted(ip("192.0.2.1"), 1, s(0), &rules(2));
        trips.sweep(s(299), &rules(2));
        assert_eq!(trips.addresses.len(), 1);
        trips.sweep(s(300), &rules(2));
        assert!(trips.addresses.is_empty());
        trips.evicted(ip("192.0.2.1"), 1, s(300), &rules(2));
        trips.sweep(s(301), &rules(0));
        assert!(trips.addresses.is_empty(), "switched off");
    }

    proptest! {
        /// Whoever is evicted however often: the table is bounded, and a tripped address stays refused for its time.
        #[test]
        fn the_table_is_bounded_and_forgets_no_tripped_address(
            evictions in prop::collection::vec((0u8..30, 1usize..6, 0u64..20), 1..200),
        ) {
            let (mut trips, rules) = (Trips::new(5), rules(2));
            let mut now = 0;
            let mut until: HashMap<IpAddr, u64> = HashMap::new();
            for (host, connections, gap) in evictions {
                now += gap;
                let address = IpAddr::from([192, 0, 2, host]);
                if let Outcome::Tripped(pause) = trips.evicted(address, connections, s(now), &rules) {
                    prop_assert!(connections <= 3);
                    until.insert(address, now + pause.as_secs());
                }
                prop_assert!(trips.addresses.len() <= 5);
                prop_assert!(trips.addresses.values().all(|one| one.evictions.len() <= 2));
                for (address, until) in &until {
                    prop_assert_eq!(trips.refused_for(*address, s(now)).is_some(), now < *until);
                }
            }
        }
    }
}
