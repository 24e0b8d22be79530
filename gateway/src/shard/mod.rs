//! Effects (wake-ups, clock): one thread's share of the gateway. Everything in here belongs to that thread and needs no lock;
//! other threads leave what they have in the shard's inbox.
//!
//! ```text
//! hub ─► inbox ─► rings of followed channels ─► bells of their followers, a slice at a time ─► connections
//!           ▲                                                         wheel (all deadlines) ─►     │
//!           └─ letters: sessions, drain                                 entries (slab) ◄───────────┘
//! ```

pub mod channels;
pub mod inbox;
pub mod mail;
mod poll;
pub mod slab;
pub mod tasks;
pub mod thread;
pub mod wheel;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use sluice_protocol::ChannelName;
use tokio::sync::Notify;

use crate::auth::resume::SessionId;
use crate::connection::batch::Batch;
use crate::connection::control::{Control, Orders};
use crate::connection::decoder::Decoder;
use crate::connection::slots::Slots;
use crate::core::Core;
use crate::error::ApiError;
use crate::hub::Fed;
use crate::limits;
use crate::metrics::level;
use channels::{Channel, Channels};
use inbox::{Delivery, Inbox, Letter, Seat};
use poll::Moment;
use slab::{Key, Slab};
use wheel::Wheel;

/// One thread's share of the gateway.
pub struct Shard {
    core: Arc<Core>,
    index: u16,
    inbox: Arc<Inbox>,
    entries: RefCell<Slab<Entry>>,
    channels: RefCell<Channels>,
    wheel: RefCell<Wheel>,
    /// The newest connection of each session that this shard keeps, on whatever shard it is.
    sessions: RefCell<HashMap<SessionId, Seat>>,
    /// The connections that those replaced and that still go on.
    overlapping: RefCell<HashMap<SessionId, Seat>>,
    timer: Notify,
    crowded: Notify,
    start: Instant,
    moment: Cell<Moment>,
    next_id: Cell<u64>,
    observed: Cell<u64>,
    spare: Spare,
}

/// What one connection at a time uses.
#[derive(Default)]
struct Spare {
    scratch: Cell<Option<Box<[u8]>>>,
    batch: Cell<Option<Box<Batch>>>,
    decoder: Cell<Option<Box<Decoder>>>,
    deliveries: Cell<Vec<Delivery>>,
}

/// What others on this thread may leave for a connection's task.
#[derive(Debug)]
struct Entry {
    waker: Option<Waker>,
    /// Channels with news.
    news: Slots,
    orders: Orders,
    session: SessionId,
    /// False once it has said goodbye.
    present: bool,
    asked_to_go: bool,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.index)
    }
}

impl Shard {
    /// Without connections.
    pub fn new(core: Arc<Core>, index: u16) -> Rc<Self> {
        let inbox = Arc::clone(core.registry.inbox(index));
        Rc::new(Self {
            core,
            index,
            inbox,
            entries: RefCell::default(),
            channels: RefCell::default(),
            wheel: RefCell::default(),
            sessions: RefCell::default(),
            overlapping: RefCell::default(),
            timer: Notify::new(),
            crowded: Notify::new(),
            start: Instant::now(),
            moment: Cell::new(Moment::now()),
            next_id: Cell::new(0),
            observed: Cell::new(0),
            spare: Spare::default(),
        })
    }

    /// What all shards share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Enters a connection; an older one of its session goes on for a while and then ends.
    pub fn enter(&self, session: SessionId) -> (Key, u64) {
        let key = self.entries.borrow_mut().insert(Entry {
            waker: None,
            news: Slots::default(),
            orders: Orders::default(),
            session,
            present: true,
            asked_to_go: false,
        });
        self.core.registry.entered();
        let seat = self.seat(key);
        self.send(
            self.core.registry.home(session),
            Letter::Arrived(session, seat),
        );
        let id = self.next_id.get() + 1;
        self.next_id.set(id);
        (
            key,
            id * self.core.registry.shards() as u64 + u64::from(self.index),
        )
    }

    /// A connection has said goodbye; its socket may go on for a while.
    pub fn depart(&self, key: Key) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.present) else {
            return;
        };
        entry.present = false;
        let session = entry.session;
        drop(entries);
        let home = self.core.registry.home(session);
        self.send(home, Letter::Left(session, self.seat(key)));
        self.core.registry.left();
    }

    /// A connection's task ends.
    pub fn forget(&self, key: Key) {
        self.depart(key);
        self.wheel.borrow_mut().disarm(key.index());
        self.entries.borrow_mut().remove(key);
    }

    /// A connection's task runs: where to ring from now on, and what was left for it.
    pub fn attend(&self, key: Key, waker: &Waker) -> (Slots, Vec<Control>) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key) else {
            return (Slots::default(), Vec::new());
        };
        if !entry
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            entry.waker = Some(waker.clone());
        }
        (std::mem::take(&mut entry.news), entry.orders.take())
    }

    /// A connection's client has said one thing more; an error when its session says too much.
    pub fn allow_frame(&self, key: Key) -> Result<(), ApiError> {
        let mut entries = self.entries.borrow_mut();
        let session = entries.get_mut(key).map(|entry| entry.session);
        session.map_or(Ok(()), |session| self.core.admission.frame(session))
    }

    /// Wakes a connection's task no later than at this moment.
    pub fn wake_at(&self, key: Key, at: Instant) {
        // Up, so that nobody is woken just before its time.
        let due = ticks(at.saturating_duration_since(self.start)) + 1;
        let now = ticks(self.now().saturating_duration_since(self.start));
        if self.wheel.borrow_mut().arm(key.index(), due, now) {
            self.timer.notify_one();
        }
    }

    /// Follows a channel; also says where in its list. `None` until the broker was reached.
    pub fn follow(&self, name: &ChannelName, key: Key, slot: u8) -> Option<(Rc<Channel>, u32)> {
        // What was handed over before must not meet a ring that begins behind it.
        self.catch_up();
        let mut channels = self.channels.borrow_mut();
        let channel = match channels.get(name) {
            Some(channel) => channel,
            None => channels.create(name, self.core.hub.follow(name, self.index)?),
        };
        self.core.metrics.subscriptions.inc();
        let at = channel.join(key, slot);
        Some((channel, at))
    }

    /// Ends what [`Self::follow`] began; the last follower takes the channel with it.
    pub fn unfollow(&self, channel: &Channel, at: u32) {
        if channel.part(at) {
            self.channels.borrow_mut().remove(channel.name());
            self.core.metrics.ring_bytes.dec_by(level(channel.bytes()));
            self.core.hub.leave(channel.name(), self.index);
        }
        self.core.metrics.subscriptions.dec();
    }

    /// Everything up to this mark is in the rings.
    pub fn fed(&self) -> Fed {
        let fed = self.core.hub.fed();
        self.catch_up();
        fed
    }

    /// Brings the rings up to what the hub has handed over. Followers are told by the shard's own task.
    pub fn catch_up(&self) {
        let mut deliveries = self.spare.deliveries.take();
        self.inbox.take_deliveries(&mut deliveries);
        if !deliveries.is_empty() {
            let mut channels = self.channels.borrow_mut();
            let mut grown = 0;
            for delivery in deliveries.drain(..) {
                grown += match delivery {
                    Delivery::Frame { channel, frame } => {
                        let crowded = self.is_crowded();
                        channels.push(&channel, frame, crowded)
                    }
                    Delivery::Epoch {
                        epoch,
                        generation,
                        last,
                    } => channels.restart(Some((&epoch, generation)), last),
                    Delivery::Skipped { to } => channels.restart(None, to),
                };
            }
            self.core.metrics.ring_bytes.inc_by(grown as i64);
        }
        if deliveries.capacity() > limits::SPARE_DELIVERIES {
            deliveries = Vec::new();
        }
        self.spare.deliveries.set(deliveries);
    }

    /// Notes how old a message was when it was written. At most one each millisecond: the others of a crowd say the same.
    pub fn observe(&self, published: u64) {
        let now = self.unix_millis();
        if self.observed.replace(now) != now {
            let age = now.saturating_sub(published);
            self.core
                .metrics
                .delivery_seconds
                .observe(age as f64 / 1000.0);
        }
    }

    /// The buffer that sockets are read into.
    pub fn lend_scratch(&self) -> Box<[u8]> {
        let fresh = || vec![0; limits::SCRATCH_BYTES].into_boxed_slice();
        self.spare.scratch.take().unwrap_or_else(fresh)
    }

    /// Gives it back.
    pub fn return_scratch(&self, scratch: Box<[u8]>) {
        self.spare.scratch.set(Some(scratch));
    }

    /// An empty batch.
    pub fn lend_batch(&self) -> Box<Batch> {
        self.spare.batch.take().unwrap_or_default()
    }

    /// Gives an empty batch back.
    pub fn return_batch(&self, batch: Box<Batch>) {
        self.spare.batch.set(Some(batch));
    }

    /// A decoder at rest.
    pub fn lend_decoder(&self) -> Box<Decoder> {
        let fresh = || Box::new(Decoder::new(self.core.config.message_bytes));
        self.spare.decoder.take().unwrap_or_else(fresh)
    }

    /// Gives a decoder at rest back.
    pub fn return_decoder(&self, decoder: Box<Decoder>) {
        self.spare.decoder.set(Some(decoder));
    }

    /// Too many bytes in all rings of the process.
    fn is_crowded(&self) -> bool {
        let crowded = self.core.metrics.ring_bytes.get() > level(limits::RINGS_BYTES);
        if crowded {
            self.core.metrics.rings_full.inc();
            self.crowded.notify_one();
        }
        crowded
    }

    fn seat(&self, key: Key) -> Seat {
        Seat {
            shard: self.index,
            key,
        }
    }

    fn tick(&self) -> u64 {
        ticks(self.start.elapsed())
    }

    fn moment_of(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(limits::TIMER_TICK_MS * tick)
    }
}

/// Whole ticks of the wheel.
fn ticks(time: Duration) -> u64 {
    (time.as_secs() * 1000 + u64::from(time.subsec_millis())) / limits::TIMER_TICK_MS
}

/// A count of the shards that a process has use for: the processors that affinity and cgroup quota (v1 or v2) leave it.
pub fn processors() -> u16 {
    let most = limits::SHARDS_MAX;
    std::thread::available_parallelism().map_or(1, |n| n.get().min(usize::from(most)) as u16)
}
