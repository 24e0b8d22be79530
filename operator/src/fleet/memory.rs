//! What the operator remembers of each fleet between reconciles (plain state behind locks). It is
//! lost with the leader on purpose: a new one looks for itself, and is careful until it has.

use super::observed::{GatewayState, MetricsView, ScaleMemory};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Namespace and name of a fleet.
pub type FleetKey = (String, String);

/// Memories of all fleets.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<FleetKey, Arc<Memory>>>);

/// What is remembered of one fleet.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

/// The content of a [`Memory`].
#[derive(Default)]
pub struct Remembered {
    /// For the scaler.
    pub scale: ScaleMemory,
    /// The last look at the metrics, and when it was taken.
    pub metrics: Option<(MetricsView, Instant)>,
    /// What gateways said, by pod UID.
    pub gateways: HashMap<String, Polled>,
    /// When the status was last written by this leader.
    pub status_written: Option<Timestamp>,
    /// Reconciles that failed in a row.
    pub failures: u32,
    /// Why the last one failed, as people were told.
    pub told: Option<String>,
}

/// What is known of one gateway.
#[derive(Clone, Debug)]
pub struct Polled {
    /// Its last answer, if it ever gave one.
    pub state: Option<GatewayState>,
    /// When it was last asked.
    pub asked: Instant,
}

impl Memories {
    /// The memory of a fleet, empty at first.
    pub fn of(&self, namespace: &str, name: &str) -> Arc<Memory> {
        let key = (namespace.to_owned(), name.to_owned());
        Arc::clone(unpoisoned(&self.0).entry(key).or_default())
    }

    /// Forgets fleets that are gone, when there are more memories than `fleets`.
    pub fn keep(&self, fleets: usize, exists: impl Fn(&FleetKey) -> bool) {
        let mut all = unpoisoned(&self.0);
        if all.len() > fleets {
            all.retain(|key, _| exists(key));
        }
    }
}

impl Memory {
    /// Access to what is remembered. Never held over an await.
    pub fn lock(&self) -> MutexGuard<'_, Remembered> {
        unpoisoned(&self.0)
    }
}

/// A panic while the lock was held left plain data behind, as good as before.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
