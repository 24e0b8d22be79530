//! Effects (counters shared by all tasks): everything the load counts, and readings of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::histogram::{Counts, Histogram};
use super::welcomes::Welcomes;

/// What is counted; each is one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// Publishes that were answered as stored.
    Accepted,
    /// Of those, within the objective.
    AcceptedInTime,
    /// Publishes given up or refused for good.
    Refused,
    /// Turns without a publish: every channel picked had one under way, or too many were.
    Skipped,
    /// Messages handed to the application.
    Delivered,
    /// `message` frames on the wire.
    Frames,
    /// Accepted and delivered.
    Matched,
    /// Delivered again to the application.
    Repeated,
    /// Delivered to the application after a later one.
    Late,
    /// Came again on the wire.
    RepeatedOnWire,
    /// Came on one connection after a later one.
    DisorderOnWire,
    /// Gap notices.
    Gaps,
    /// The publisher's own count in the content did not increase with the offset.
    ContentFaults,
    /// Welcomes after a full login.
    Logins,
    /// Welcomes after a resume token.
    Resumed,
    /// Sessions that moved without a break.
    Migrations,
    /// Sessions that ended for good.
    Stopped,
    /// Attempts to connect again.
    Tries,
    /// `error` messages.
    Errors,
}

const COUNTS: usize = Count::Errors as usize + 1;

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [AtomicU64; COUNTS],
    /// Clients with a live connection.
    pub(super) connected: AtomicU64,
    /// From the beginning of a publish to its answer.
    pub(super) publish: Histogram,
    /// From the beginning of a publish to the application.
    pub(super) delivery: Histogram,
    /// From the end of a connection to the next welcome.
    pub(super) reconnect: Histogram,
    welcomes: Mutex<Welcomes>,
    incidents: Mutex<BTreeMap<String, u64>>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    counts: [u64; COUNTS],
    pub(super) publish: Counts,
    pub(super) delivery: Counts,
    pub(super) reconnect: Counts,
    pub(super) incidents: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds to one count.
    pub(super) fn add(&self, count: Count, by: u64) {
        if by > 0 {
            self.counts[count as usize].fetch_add(by, Ordering::Relaxed);
        }
    }

    /// One count now.
    pub(super) fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// The welcomes.
    pub(super) fn welcomes(&self) -> MutexGuard<'_, Welcomes> {
        lock(&self.welcomes)
    }

    /// Counts something noteworthy, such as the end of a connection, by its text.
    pub(super) fn incident(&self, reason: String) {
        *lock(&self.incidents).entry(reason).or_default() += 1;
    }

    /// All counters now.
    pub(super) fn read(&self) -> Reading {
        let mut counts = [0; COUNTS];
        for (read, count) in counts.iter_mut().zip(&self.counts) {
            *read = count.load(Ordering::Relaxed);
        }
        Reading {
            counts,
            publish: self.publish.read(),
            delivery: self.delivery.read(),
            reconnect: self.reconnect.read(),
            incidents: lock(&self.incidents).clone(),
        }
    }
}

impl Reading {
    /// One count.
    pub(super) fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// What was added since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (now, then) in counts.iter_mut().zip(earlier.counts) {
            *now = now.saturating_sub(then);
        }
        let mut incidents = self.incidents.clone();
        for (reason, then) in &earlier.incidents {
            if let Some(now) = incidents.get_mut(reason) {
                *now = now.saturating_sub(*then);
            }
        }
        incidents.retain(|_, count| *count > 0);
        Self {
            counts,
            publish: self.publish.since(&earlier.publish),
            delivery: self.delivery.since(&earlier.delivery),
            reconnect: self.reconnect.since(&earlier.reconnect),
            incidents,
        }
    }
}

/// Locks; a task that panicked while holding it leaves counters that are still good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
