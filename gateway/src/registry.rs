//! Effects (counts, letters): all connections of this gateway, over all shards. A place is taken before the upgrade is
//! answered and given back when the connection has said goodbye. Who the connections are is known to their shards only.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, oneshot};

use crate::auth::resume::SessionId;
use crate::connection::control::Control;
use crate::limits;
use crate::metrics::Metrics;
use crate::shard::inbox::{Inbox, Letter, Seat};

/// Longest name of a connection: two numbers in hexadecimal digits.
const CONNECTION_NAME_BYTES: usize = 8 + 1 + 16;

/// All connections of this gateway.
#[derive(Debug)]
pub struct Registry {
    most: usize,
    boot: u64,
    inboxes: Arc<[Arc<Inbox>]>,
    /// Places taken, handshakes that were admitted included.
    taken: AtomicUsize,
    connected: AtomicUsize,
    /// Sockets that wait for a FIN.
    lingering: AtomicUsize,
    emptied: Notify,
    metrics: Arc<Metrics>,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Registry>);

/// A place for a socket that waits for a FIN, given back when dropped.
#[derive(Debug)]
pub struct Linger(Arc<Registry>);

impl Registry {
    /// For at most `most` connections on the shards with these inboxes.
    pub fn new(
        most: usize,
        boot: u64,
        inboxes: Arc<[Arc<Inbox>]>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            most,
            boot,
            inboxes,
            taken: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
            emptied: Notify::new(),
            metrics,
        })
    }

    /// Takes a place. A connection that replaces one of its session here counts as that one.
    pub async fn admit(self: &Arc<Self>, session: SessionId) -> Option<Place> {
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        // Dropping it gives the place back.
        let place = Place(Arc::clone(self));
        (before < self.most || self.holds(session).await).then_some(place)
    }

    /// True while a connection of this session is here.
    pub async fn holds(&self, session: SessionId) -> bool {
        let (answer, question) = oneshot::channel();
        self.inbox(self.home(session))
            .post(Letter::IsHere(session, answer));
        let answered = tokio::time::timeout(limits::SHARD_ANSWER, question).await;
        matches!(answered, Ok(Ok(true)))
    }

    /// Connections, admitted handshakes not counted.
    pub fn len(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// True without connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes once there are neither connections nor admitted handshakes.
    pub async fn empty(&self) {
        self.zero(&self.taken).await;
    }

    /// A place for a socket that waits for a FIN; `None` when too many wait already.
    pub fn linger(self: &Arc<Self>) -> Option<Linger> {
        let before = self.lingering.fetch_add(1, Ordering::AcqRel);
        // Dropping it gives the place back.
        let linger = Linger(Arc::clone(self));
        if before < limits::REAPED_SOCKETS {
            return Some(linger);
        }
        self.metrics.reaper_full.inc();
        None
    }

    /// Sockets that wait for a FIN.
    pub fn lingering(&self) -> usize {
        self.lingering.load(Ordering::Acquire)
    }

    /// Completes once no socket waits for a FIN.
    pub async fn all_closed(&self) {
        self.zero(&self.lingering).await;
    }

    /// Connections that were not asked to go yet.
    pub async fn not_asked(&self) -> Vec<Seat> {
        let mut all = Vec::new();
        for (shard, keys) in self.ask_shards(|_| Some(Letter::NotAsked)).await {
            all.extend(keys.into_iter().map(|key| Seat { shard, key }));
        }
        all
    }

    /// Asks connections to go; says how many were still there and had not been asked before.
    pub async fn ask_to_go(&self, orders: Vec<(Seat, Control)>) -> usize {
        let mut by_shard: HashMap<u16, Vec<_>> = HashMap::new();
        for (seat, order) in orders {
            by_shard
                .entry(seat.shard)
                .or_default()
                .push((seat.key, order));
        }
        let answers = self.ask_shards(|shard| {
            let orders = by_shard.remove(&shard)?;
            Some(move |answer| Letter::Ask(orders, answer))
        });
        answers.await.into_iter().map(|(_, asked)| asked).sum()
    }

    /// Lets everybody stay who was asked to go.
    pub fn let_stay(&self) {
        for inbox in self.inboxes.iter() {
            inbox.post(Letter::LetStay);
        }
    }

    /// Closes everybody with 1012; says how many.
    pub fn close_all(&self) -> usize {
        for inbox in self.inboxes.iter() {
            inbox.post(Letter::CloseAll);
        }
        self.len()
    }

    /// Shards of this gateway.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Where to leave something for a shard.
    pub fn inbox(&self, shard: u16) -> &Arc<Inbox> {
        &self.inboxes[usize::from(shard)]
    }

    /// The shard that keeps a session.
    pub fn home(&self, session: SessionId) -> u16 {
        u16::from(session.0[0]) % self.inboxes.len() as u16
    }

    /// A connection's name, unique over the fleet.
    pub fn name(&self, id: u64) -> String {
        let mut name = String::with_capacity(CONNECTION_NAME_BYTES);
        // Writing to a text does not fail.
        let _ = write!(name, "{:08x}-{id:x}", self.boot >> 32);
        name
    }

    /// A connection has begun.
    pub fn entered(&self) {
        self.connected.fetch_add(1, Ordering::AcqRel);
        self.metrics.connections.inc();
    }

    /// A connection has ended.
    pub fn left(&self) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
        self.metrics.connections.dec();
    }

    /// Asks all shards at once. One that does not answer in time is stuck, and must not hold up the others.
    async fn ask_shards<T, L>(&self, mut letter: impl FnMut(u16) -> Option<L>) -> Vec<(u16, T)>
    where
        L: FnOnce(oneshot::Sender<T>) -> Letter,
    {
        let mut asked = Vec::new();
        for (inbox, shard) in self.inboxes.iter().zip(0..) {
            if let Some(letter) = letter(shard) {
                let (answer, question) = oneshot::channel();
                inbox.post(letter(answer));
                asked.push(async move {
                    let answered = tokio::time::timeout(limits::SHARD_ANSWER, question).await;
                    answered.ok()?.ok().map(|answer| (shard, answer))
                });
            }
        }
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    async fn zero(&self, count: &AtomicUsize) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // Counted from here on, also before it is awaited.
            emptied.as_mut().enable();
            if count.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn give_back(&self, count: &AtomicUsize) {
        if count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back(&self.0.taken);
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        self.0.give_back(&self.0.lingering);
    }
}
