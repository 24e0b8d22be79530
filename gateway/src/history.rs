//! Effects (broker reads): history for readers that are behind the ring. Bounded concurrency, one read for all readers of the
//! same stretch, and a short memory of what was read, so that a crowd that fell behind together costs a few reads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sluice_protocol::{ChannelName, Epoch};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::broker::{Broker, Unavailable};
use crate::hub::encode;
use crate::hub::ring::Frame;
use crate::limits;
use crate::metrics::Metrics;

/// What one read brought.
#[derive(Debug)]
pub struct Stretch {
    /// Whose history.
    pub channel: ChannelName,
    /// The position asked for.
    pub after: u64,
    /// Epoch of the offsets.
    pub epoch: Epoch,
    /// Messages after it, in order.
    pub frames: Vec<Arc<Frame>>,
    /// Nothing but `frames` is stored after `after` up to here; `None` when the read did not reach the end.
    pub whole_to: Option<u64>,
    /// True when messages before the first frame may be gone.
    pub lost: bool,
    bytes: usize,
}

/// What a reader wants to read.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whose history.
    pub channel: ChannelName,
    /// Epoch of the positions.
    pub epoch: Epoch,
    /// What comes after this position.
    pub after: u64,
    /// Up to here the channel was offered to the reader before it asked.
    pub tip: u64,
}

type Key = (ChannelName, u64);
type Reading = Shared<BoxFuture<'static, Result<Arc<Stretch>, Unavailable>>>;

/// Reads history for connections.
#[derive(Debug)]
pub struct History {
    broker: Arc<dyn Broker>,
    /// The broker's: shards come and go with their threads, a read that others wait for does not.
    runtime: Handle,
    permits: Arc<Semaphore>,
    running: Mutex<HashMap<Key, Reading>>,
    recent: Mutex<Recent>,
    metrics: Arc<Metrics>,
}

/// Stretches by channel, and the order in which they came.
#[derive(Debug, Default)]
struct Recent {
    channels: HashMap<ChannelName, VecDeque<Arc<Stretch>>>,
    order: VecDeque<(Instant, ChannelName)>,
    bytes: usize,
}

impl History {
    /// Reads from this broker.
    pub fn new(broker: Arc<dyn Broker>, runtime: Handle, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            runtime,
            permits: Arc::new(Semaphore::new(limits::HISTORY_READS)),
            running: Mutex::default(),
            recent: Mutex::default(),
            metrics,
        })
    }

    /// What comes after a position; a stretch may begin before it.
    pub async fn read(self: Arc<Self>, wish: Wish) -> Result<Arc<Stretch>, Unavailable> {
        if let Some(stretch) =
            self.recent()
                .find(&wish.channel, &wish.epoch, wish.after, Instant::now())
        {
            return Ok(stretch);
        }
        let key = (wish.channel.clone(), wish.after);
        let reading = {
            let mut running = self.running();
            if let Some(reading) = running.get(&key) {
                reading.clone()
            } else {
                // A task of its own: readers may leave, the read still ends and gives its permit back.
                let task = self.runtime.spawn(Arc::clone(&self).fetch(wish));
                let reading = task
                    .map(|result| {
                        result.unwrap_or_else(|error| Err(Unavailable(error.to_string())))
                    })
                    .boxed()
                    .shared();
                running.insert(key, reading.clone());
                reading
            }
        };
        reading.await
    }

    /// Drops what was read too long ago, also while nobody reads.
    pub fn sweep(&self) {
        self.recent().forget_old(Instant::now());
    }

    async fn fetch(self: Arc<Self>, wish: Wish) -> Result<Arc<Stretch>, Unavailable> {
        let Wish {
            channel,
            epoch,
            after,
            tip,
        } = wish;
        let _forget = Forget {
            history: &self,
            key: Some((channel.clone(), after)),
        };
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Unavailable("closing".into()))?;
        self.metrics.history_reads.inc();
        let replay = self.broker.replay(&channel, after).await?;
        let mut bytes = 0;
        let frames = replay.messages.into_iter().map(|message| {
            let frame = encode(&channel, &replay.epoch, &message, 0);
            bytes += frame.suffix.len();
            Arc::new(frame)
        });
        let frames: Vec<_> = frames.collect();
        // What was offered before the read was stored before it, so a complete read holds it; positions of another epoch
        // say nothing.
        let tip = if replay.epoch == epoch { tip } else { after };
        let whole_to = replay
            .complete
            .then(|| frames.last().map_or(tip, |frame| tip.max(frame.offset)));
        let stretch = Arc::new(Stretch {
            channel,
            after,
            epoch: replay.epoch,
            frames,
            whole_to,
            lost: replay.lost,
            bytes,
        });
        self.recent()
            .keep(&stretch.channel, Arc::clone(&stretch), Instant::now());
        Ok(stretch)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Reading>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a finished or abandoned read out of the table.
struct Forget<'a> {
    history: &'a History,
    key: Option<Key>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.history.running().remove(&key);
        }
    }
}

impl Recent {
    /// A stretch that holds messages after this position, with nothing missing between.
    fn find(
        &mut self,
        channel: &ChannelName,
        epoch: &Epoch,
        after: u64,
        now: Instant,
    ) -> Option<Arc<Stretch>> {
        self.forget_old(now);
        let fits = |stretch: &&Arc<Stretch>| {
            !stretch.lost
                && stretch.epoch == *epoch
                && stretch.after <= after
                && stretch
                    .frames
                    .last()
                    .is_some_and(|last| last.offset > after)
        };
        self.channels
            .get(channel.as_str())?
            .iter()
            .rev()
            .find(fits)
            .map(Arc::clone)
    }

    fn keep(&mut self, channel: &ChannelName, stretch: Arc<Stretch>, now: Instant) {
        self.forget_old(now);
        if stretch.frames.is_empty() {
            return;
        }
        self.bytes += stretch.bytes;
        self.channels
            .entry(channel.clone())
            .or_default()
            .push_back(stretch);
        self.order.push_back((now, channel.clone()));
        while self.bytes > limits::HISTORY_RECENT_BYTES {
            self.forget_one();
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let old = |at: Instant| now.saturating_duration_since(at) > limits::HISTORY_RECENT_AGE;
        while self.order.front().is_some_and(|(at, _)| old(*at)) {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let Some((_, channel)) = self.order.pop_front() else {
            return;
        };
        let Some(stretches) = self.channels.get_mut(channel.as_str()) else {
            return;
        };
        if let Some(stretch) = stretches.pop_front() {
            self.bytes -= stretch.bytes;
        }
        if stretches.is_empty() {
            self.channels.remove(channel.as_str());
        }
    }
}
