//! Effects (locks): how many connections each client has, for limits per user and per address. Only clients with a connection
//! have a line, so the table is never larger than the connection limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limiter::Key;

/// Stripes of the table: handshakes of different clients seldom wait for each other.
const STRIPES: usize = 16;

/// Connections by client.
#[derive(Debug)]
pub struct Seats {
    most: u32,
    stripes: [Mutex<HashMap<Key, u32>>; STRIPES],
}

/// A client's right to one connection, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    key: Key,
}

impl Seats {
    /// At most `most` connections for each client; 0 counts nothing.
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            stripes: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// True when there is a limit.
    pub fn are_limited(&self) -> bool {
        self.most > 0
    }

    /// A seat, `None` when there is no limit. A connection that replaces one of its session gets a seat in any case: both count
    /// as one, and the older one ends soon.
    pub fn take(self: &Arc<Self>, key: Key, replaces: bool) -> Result<Option<Seat>, Taken> {
        if self.most == 0 {
            return Ok(None);
        }
        let mut stripe = self.stripe(key);
        let count = stripe.entry(key).or_insert(0);
        if *count >= self.most && !replaces {
            return Err(Taken);
        }
        *count += 1;
        drop(stripe);
        Ok(Some(Seat {
            seats: Arc::clone(self),
            key,
        }))
    }

    /// Gives back memory that a crowd took.
    pub fn shrink(&self) {
        for stripe in &self.stripes {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .shrink_to_fit();
        }
    }

    /// Clients with a connection.
    pub fn clients(&self) -> usize {
        self.stripes
            .iter()
            .map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    fn stripe(&self, key: Key) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.stripes[key.0 as usize % STRIPES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// All seats of this client are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken;

impl Drop for Seat {
    fn drop(&mut self) {
        let mut stripe = self.seats.stripe(self.key);
        if let Some(count) = stripe.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                stripe.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_seat_comes_back_with_its_connection() {
        let seats = Seats::new(2);
        let one = seats.take(Key(1), false).unwrap();
        let two = seats.take(Key(1), false).unwrap();
        assert_eq!(seats.take(Key(1), false).unwrap_err(), Taken);
        assert!(
            seats.take(Key(17), false).unwrap().is_some(),
            "same stripe, other client"
        );
        drop(one);
        let three = seats.take(Key(1), false).unwrap();
        drop((two, three));
        assert_eq!(seats.clients(), 0);
    }

    #[test]
    fn who_replaces_its_own_connection_always_fits() {
        let seats = Seats::new(1);
        let old = seats.take(Key(1), false).unwrap();
        let new = seats.take(Key(1), true).unwrap();
        drop(old);
        assert_eq!(seats.take(Key(1), false).unwrap_err(), Taken);
        drop(new);
        assert!(seats.take(Key(1), false).is_ok());
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let seats = Seats::new(0);
        assert!(seats.take(Key(1), false).unwrap().is_none());
        assert_eq!(seats.clients(), 0);
    }
}
