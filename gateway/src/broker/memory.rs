//! Effects (a lock): the broker of `--dev` and of tests. Several gateways in one process may share it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use sluice_protocol::{ChannelName, Epoch};

use super::{Broker, LiveSink, NewMessage, Replay, Stored, StoredMessage, Unavailable};
use crate::config::HistoryConfig;
use crate::limits;

/// Notifications in this process's memory.
pub struct MemoryBroker {
    history: HistoryConfig,
    state: Mutex<State>,
}

struct State {
    epoch: Epoch,
    last: u64,
    up: bool,
    channels: HashMap<ChannelName, Log>,
    /// Offsets of recent (channel, id), and the order in which they came, to forget the oldest.
    known: HashMap<(ChannelName, String), u64>,
    known_order: VecDeque<(ChannelName, String)>,
    sinks: Vec<Arc<dyn LiveSink>>,
}

#[derive(Default)]
struct Log {
    messages: VecDeque<StoredMessage>,
    last: u64,
    /// The newest message that is gone.
    dropped: u64,
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBroker")
    }
}

impl MemoryBroker {
    /// Empty, with an epoch of its own.
    pub fn new(history: HistoryConfig) -> Self {
        Self {
            history,
            state: Mutex::new(State {
                epoch: new_epoch(),
                last: 0,
                up: true,
                channels: HashMap::new(),
                known: HashMap::new(),
                known_order: VecDeque::new(),
                sinks: Vec::new(),
            }),
        }
    }

    /// Lets everything fail until it is called again with `true`, for tests and drills.
    pub fn set_up(&self, up: bool) {
        let mut state = self.lock();
        state.up = up;
        for sink in &state.sinks {
            sink.up(up);
        }
    }

    /// Loses the last `count` messages of all channels together, as a broker does that crashed before writing them.
    pub fn lose_tail(&self, count: u64) {
        let mut state = self.lock();
        let last = state.last.saturating_sub(count);
        state.last = last;
        state.epoch = new_epoch();
        for log in state.channels.values_mut() {
            log.messages.retain(|message| message.offset <= last);
            log.last = log
                .messages
                .back()
                .map_or(log.dropped, |message| message.offset);
        }
        state.known.retain(|_, offset| *offset <= last);
        for sink in &state.sinks {
            sink.epoch(&state.epoch, last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, new: NewMessage) -> Result<Stored, Unavailable> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.up {
            return Err(Unavailable("the memory broker is switched off".into()));
        }
        let key = (new.channel.clone(), new.id);
        if let Some(offset) = state.known.get(&key) {
            return Ok(Stored {
                epoch: state.epoch.clone(),
                offset: *offset,
                duplicate: true,
            });
        }
        state.last += 1;
        let message = StoredMessage {
            offset: state.last,
            time: new.time,
            data: new.data,
        };
        let log = state.channels.entry(new.channel.clone()).or_default();
        let previous = std::mem::replace(&mut log.last, message.offset);
        log.messages.push_back(message.clone());
        log.limit(self.history, new.time);
        state.remember(key, message.offset);
        for sink in &state.sinks {
            sink.live(&new.channel, message.clone(), previous);
            sink.fed_to(message.offset);
        }
        Ok(Stored {
            epoch: state.epoch.clone(),
            offset: message.offset,
            duplicate: false,
        })
    }

    fn read(&self, channel: &ChannelName, after: u64) -> Result<Replay, Unavailable> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.up {
            return Err(Unavailable("the memory broker is switched off".into()));
        }
        let mut replay = Replay {
            epoch: state.epoch.clone(),
            messages: Vec::new(),
            complete: true,
            lost: after > state.last,
        };
        let Some(log) = state.channels.get_mut(channel.as_str()) else {
            return Ok(replay);
        };
        log.limit(self.history, crate::auth::now_millis());
        replay.lost |= after < log.dropped;
        let mut bytes = 0;
        for message in log.messages.iter().filter(|message| message.offset > after) {
            if replay.messages.len() == limits::HISTORY_BATCH_MESSAGES
                || bytes > limits::HISTORY_BATCH_BYTES
            {
                replay.complete = false;
                break;
            }
            bytes += message.data.len();
            replay.messages.push(message.clone());
        }
        Ok(replay)
    }
}

impl State {
    fn remember(&mut self, key: (ChannelName, String), offset: u64) {
        self.known.insert(key.clone(), offset);
        self.known_order.push_back(key);
        if self.known_order.len() > limits::MEMORY_DUPLICATES
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Log {
    fn limit(&mut self, history: HistoryConfig, now: u64) {
        let oldest = now.saturating_sub(history.max_age.as_millis() as u64);
        while self.messages.len() > history.max_per_channel as usize
            || self
                .messages
                .front()
                .is_some_and(|message| message.time < oldest)
        {
            self.dropped = self
                .messages
                .pop_front()
                .map_or(self.dropped, |message| message.offset);
        }
    }
}

fn new_epoch() -> Epoch {
    let text = format!("m-{:016x}", rand::random::<u64>());
    // Letters, digits and a dash are always an epoch.
    Epoch::new(&text).unwrap_or_else(|_| unreachable!("{text} is a valid epoch"))
}

impl Broker for MemoryBroker {
    fn attach(&self, sink: Arc<dyn LiveSink>) {
        let mut state = self.lock();
        sink.up(state.up);
        sink.epoch(&state.epoch, state.last);
        state.sinks.push(sink);
    }

    fn publish(&self, message: NewMessage) -> BoxFuture<'_, Result<Stored, Unavailable>> {
        ready(self.store(message)).boxed()
    }

    fn replay<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: u64,
    ) -> BoxFuture<'a, Result<Replay, Unavailable>> {
        ready(self.read(channel, after)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
