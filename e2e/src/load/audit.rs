//! Effects (shared state): who was to get what, and what each one got.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sluice_client::{Deliver, Ended, Event, LinkId, Tap};
use sluice_protocol::{ChannelName, Epoch, Payload, Position, ServerMessage};

use super::log::{ChannelLog, Micros, Record};
use super::tally::{Count, Tally, lock};
use super::track::{Start, Told, Track};
use super::welcomes::Kind;

/// What a publisher puts into a notification.
#[derive(Serialize, Deserialize)]
pub(super) struct Content {
    /// The load generator's run.
    pub(super) p: String,
    /// Count on this channel.
    pub(super) n: u64,
    /// When the publish began, microseconds since the load began.
    pub(super) t: Micros,
    /// Padding.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) x: String,
}

/// One channel with subscribers.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    /// A publish is under way; the next one waits, so that the publisher's order is known.
    pub(super) busy: AtomicBool,
    /// Publishes begun.
    pub(super) begun: AtomicU64,
    log: Mutex<ChannelLog>,
}

impl Channel {
    pub(super) fn new(name: ChannelName) -> Arc<Self> {
        Arc::new(Self {
            name,
            busy: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            log: Mutex::default(),
        })
    }

    /// Notes an accepted publish.
    pub(super) fn accepted(&self, position: &Position, begun: Micros, accepted: Micros) {
        let offset = position.offset.get();
        lock(&self.log).accept(
            &position.epoch,
            Record {
                offset,
                begun,
                accepted,
            },
        );
    }
}

/// One subscriber of one channel.
struct Claim {
    channel: Arc<Channel>,
    start: Option<Start>,
    told: Vec<Told>,
    wire: Track,
    app: Track,
    /// Last offset per connection: on one connection, order is strict.
    on_link: Vec<(LinkId, Epoch, u64)>,
    last_content: u64,
}

/// One client.
struct Listener {
    claims: Vec<Claim>,
    welcomed: bool,
    connected: bool,
    ended: Option<Micros>,
}

/// Deliveries that are due and have not come, at both places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) app: u64,
    pub(super) wire: u64,
}

/// All channels, clients and counters.
pub(super) struct Auditor {
    origin: Instant,
    pub(super) tally: Tally,
    listeners: RwLock<Vec<Arc<Mutex<Listener>>>>,
}

impl Auditor {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            tally: Tally::default(),
            listeners: RwLock::default(),
        })
    }

    /// Microseconds since the load began.
    pub(super) fn now(&self) -> Micros {
        self.origin.elapsed().as_micros() as Micros
    }

    /// Milliseconds since the load began.
    pub(super) fn now_ms(&self) -> u32 {
        self.origin.elapsed().as_millis() as u32
    }

    /// Registers a client that follows these channels; the result listens at both of its ends.
    pub(super) fn listen(self: &Arc<Self>, channels: Vec<Arc<Channel>>) -> Ear {
        let claims = channels.into_iter().map(Claim::new).collect();
        let listener = Arc::new(Mutex::new(Listener {
            claims,
            welcomed: false,
            connected: false,
            ended: None,
        }));
        let mut listeners = self
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(listener.clone());
        Ear {
            auditor: self.clone(),
            listener,
        }
    }

    /// Compares what arrived with what was accepted, and says what is still due of all that was accepted before
    /// `before`.
    pub(super) fn judge(&self, before: Micros) -> Missing {
        let mut missing = Missing::default();
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for listener in listeners {
            for claim in &mut lock(&listener).claims {
                claim.judge(&self.tally, before, &mut missing);
            }
        }
        missing
    }

    /// Faults of the broker's order, over these channels.
    pub(super) fn log_faults(channels: &[Arc<Channel>]) -> u64 {
        channels.iter().map(|c| lock(&c.log).faults).sum()
    }
}

impl Claim {
    fn new(channel: Arc<Channel>) -> Self {
        Self {
            channel,
            start: None,
            told: Vec::new(),
            wire: Track::default(),
            app: Track::default(),
            on_link: Vec::new(),
            last_content: 0,
        }
    }

    fn judge(&mut self, tally: &Tally, before: Micros, missing: &mut Missing) {
        let Some(start) = &self.start else { return };
        let log = lock(&self.channel.log);
        let app = self.app.judge(&log, start);
        tally.add(Count::Matched, app.matched);
        tally.add(Count::Repeated, app.repeated);
        tally.add(Count::Late, app.late);
        let wire = self.wire.judge(&log, start);
        tally.add(Count::RepeatedOnWire, wire.repeated);
        missing.app += self.app.missing(&log, start, &self.told, before);
        missing.wire += self.wire.missing(&log, start, &self.told, before);
    }

    /// True when this frame keeps the order of its connection.
    fn in_order(&mut self, link: LinkId, epoch: &Epoch, offset: u64) -> bool {
        if let Some((_, last_epoch, last)) = self.on_link.iter_mut().find(|(l, ..)| *l == link) {
            let good = last_epoch != epoch || offset > *last;
            *last_epoch = epoch.clone();
            *last = offset;
            return good;
        }
        // At most two connections live at a time; older ones are over.
        self.on_link.retain(|(l, ..)| l + 1 >= link);
        self.on_link.push((link, epoch.clone(), offset));
        true
    }

    fn tell(&mut self, from: &Position, to: &Position) {
        let told = |epoch: &Epoch, from, to| Told {
            epoch: epoch.clone(),
            from,
            to,
        };
        if from.epoch == to.epoch {
            self.told
                .push(told(&from.epoch, from.offset.get(), to.offset.get()));
        } else {
            self.told
                .push(told(&from.epoch, from.offset.get(), u64::MAX));
            self.told.push(told(&to.epoch, 0, to.offset.get()));
        }
    }
}

/// Listens at one client's two ends: raw frames and events.
#[derive(Clone)]
pub(super) struct Ear {
    auditor: Arc<Auditor>,
    listener: Arc<Mutex<Listener>>,
}

impl Tap for Ear {
    fn frame(&mut self, link: LinkId, frame: &ServerMessage, _: usize) {
        let ServerMessage::Message(message) = frame else {
            return;
        };
        let tally = &self.auditor.tally;
        tally.add(Count::Frames, 1);
        let mut listener = lock(&self.listener);
        if let Some(claim) = listener.claim(&message.channel) {
            let offset = message.offset.get();
            claim.wire.arrived(&message.epoch, offset);
            if !claim.in_order(link, &message.epoch, offset) {
                tally.add(Count::DisorderOnWire, 1);
            }
        }
    }
}

impl Deliver for Ear {
    async fn deliver(&mut self, event: Event) -> bool {
        self.hear(event);
        true
    }
}

impl Listener {
    fn claim(&mut self, channel: &ChannelName) -> Option<&mut Claim> {
        self.claims
            .iter_mut()
            .find(|claim| claim.channel.name == *channel)
    }
}

impl Ear {
    /// One event at the application.
    pub(super) fn hear(&mut self, event: Event) {
        let tally = &self.auditor.tally;
        let mut listener = lock(&self.listener);
        match event {
            Event::Message {
                channel,
                epoch,
                offset,
                data,
                ..
            } => {
                if let Some(claim) = listener.claim(&channel) {
                    claim.app.arrived(&epoch, offset.get());
                    self.content(claim, &data);
                }
            }
            Event::Welcome { resumed, moved, .. } => self.welcome(&mut listener, resumed, moved),
            Event::Subscribed { channel, position } => {
                if let Some(claim) = listener.claim(&channel) {
                    let (epoch, offset) = (position.epoch, position.offset.get());
                    let at = self.auditor.now();
                    claim.start.get_or_insert(Start { epoch, offset, at });
                }
            }
            Event::Gap { channel, from, to } => {
                tally.add(Count::Gaps, 1);
                if let Some(claim) = listener.claim(&channel) {
                    claim.tell(&from, &to);
                }
            }
            Event::Disconnected { reason } => {
                tally.incident(label(&reason));
                listener.ended = Some(self.auditor.now());
                if std::mem::take(&mut listener.connected) {
                    tally.connected.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Event::Migrated { .. } => tally.add(Count::Migrations, 1),
            Event::Reconnecting { .. } => tally.add(Count::Tries, 1),
            Event::Error { .. } => tally.add(Count::Errors, 1),
            Event::Stopped { reason } => {
                tracing::warn!(%reason, "a client of the load stopped for good");
                tally.add(Count::Stopped, 1);
            }
            Event::Unsubscribed { .. } | Event::Migrating { .. } => {}
        }
    }

    fn content(&self, claim: &mut Claim, data: &Payload) {
        let tally = &self.auditor.tally;
        tally.add(Count::Delivered, 1);
        match serde_json::from_str::<Content>(data.get()) {
            Ok(content) if content.n > claim.last_content => {
                claim.last_content = content.n;
                let took = self.auditor.now().saturating_sub(content.t);
                tally.delivery.add(took);
            }
            _ => tally.add(Count::ContentFaults, 1),
        }
    }

    fn welcome(&self, listener: &mut Listener, resumed: bool, moved: bool) {
        let tally = &self.auditor.tally;
        let how = if resumed {
            Count::Resumed
        } else {
            Count::Logins
        };
        tally.add(how, 1);
        let kind = match (listener.welcomed, moved) {
            (false, _) => Kind::First,
            (true, true) => Kind::Move,
            (true, false) => Kind::Reconnect,
        };
        tally.welcomes().add(self.auditor.now_ms(), kind);
        listener.welcomed = true;
        if !std::mem::replace(&mut listener.connected, true) {
            tally.connected.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(ended) = listener.ended.take() {
            tally
                .reconnect
                .add(self.auditor.now().saturating_sub(ended));
        }
    }
}

/// A short text for each way a connection ends, so that equal ones are counted together.
fn label(reason: &Ended) -> String {
    match reason {
        Ended::Failed(_) => "failed".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
