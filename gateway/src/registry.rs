//! Effects (a lock, a count): all connections of this gateway, by id and by session. A place is taken before the upgrade is
//! answered and given back when the connection has said goodbye.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::auth::resume::SessionId;
use crate::connection::control::Control;
use crate::hub::tap::Mailbox;
use crate::metrics::Metrics;

/// All connections of this gateway.
#[derive(Debug)]
pub struct Registry {
    most: usize,
    boot: u64,
    next: AtomicU64,
    /// Places taken, handshakes that were admitted included.
    taken: AtomicUsize,
    table: Mutex<Table>,
    emptied: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    connections: HashMap<u64, Arc<Entry>>,
    /// The newest connection of each session.
    sessions: HashMap<SessionId, u64>,
}

#[derive(Debug)]
struct Entry {
    mailbox: Arc<Mailbox>,
    asked_to_go: AtomicBool,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Registry>);

/// A connection's line in the registry, removed when dropped.
#[derive(Debug)]
pub struct Registration {
    id: u64,
    session: SessionId,
    mailbox: Arc<Mailbox>,
    place: Place,
}

impl Registry {
    /// For at most `most` connections.
    pub fn new(most: usize, boot: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            boot,
            next: AtomicU64::new(1),
            taken: AtomicUsize::new(0),
            table: Mutex::default(),
            emptied: Notify::new(),
            metrics,
        })
    }

    /// Takes a place. A connection that replaces one of its session here counts as that one.
    pub fn admit(self: &Arc<Self>, session: SessionId) -> Option<Place> {
        let replaces = self.table().sessions.contains_key(&session);
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        // Dropping it gives the place back.
        let place = Place(Arc::clone(self));
        (before < self.most || replaces).then_some(place)
    }

    /// Whether a session has a connection here.
    pub fn holds(&self, session: SessionId) -> bool {
        self.table().sessions.contains_key(&session)
    }

    /// Enters a connection. One of the same session goes on for a while and then ends.
    pub fn enter(place: Place, session: SessionId) -> Registration {
        let registry = Arc::clone(&place.0);
        let id = registry.next.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        let entry = Entry {
            mailbox: Arc::clone(&mailbox),
            asked_to_go: AtomicBool::new(false),
        };
        let mut table = registry.table();
        table.connections.insert(id, Arc::new(entry));
        let replaced = table.sessions.insert(session, id);
        if let Some(old) = replaced.and_then(|old| table.connections.get(&old)) {
            old.mailbox.order(Control::Replaced);
        }
        drop(table);
        registry.metrics.connections.inc();
        Registration {
            id,
            session,
            mailbox,
            place,
        }
    }

    /// Connections, admitted handshakes not counted.
    pub fn len(&self) -> usize {
        self.table().connections.len()
    }

    /// True without connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes once there are neither connections nor admitted handshakes.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.taken.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Connections that were not asked to go yet.
    pub fn not_asked(&self) -> Vec<u64> {
        let table = self.table();
        let staying = |entry: &Entry| !entry.asked_to_go.load(Ordering::Acquire);
        table
            .connections
            .iter()
            .filter(|(_, entry)| staying(entry))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Asks one to go; false when it is gone or was asked before.
    pub fn ask_to_go(&self, id: u64, order: Control) -> bool {
        let Some(entry) = self.table().connections.get(&id).cloned() else {
            return false;
        };
        if entry.asked_to_go.swap(true, Ordering::AcqRel) {
            return false;
        }
        entry.mailbox.order(order);
        true
    }

    /// Lets everybody stay who was asked to go.
    pub fn let_stay(&self) {
        for entry in self.all() {
            if entry.asked_to_go.swap(false, Ordering::AcqRel) {
                entry.mailbox.order(Control::Stay);
            }
        }
    }

    /// Closes everybody with 1012; says how many.
    pub fn close_all(&self) -> usize {
        let all = self.all();
        for entry in &all {
            entry.mailbox.order(Control::Drained);
        }
        all.len()
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.table().connections.values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

impl Registration {
    /// The connection's number in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection's name, unique over the fleet.
    pub fn name(&self) -> String {
        format!("{:08x}-{:x}", self.place.0.boot >> 32, self.id)
    }

    /// Where orders and news are left.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let registry = &self.place.0;
        let mut table = registry.table();
        table.connections.remove(&self.id);
        if table.sessions.get(&self.session) == Some(&self.id) {
            table.sessions.remove(&self.session);
        }
        drop(table);
        registry.metrics.connections.dec();
    }
}
