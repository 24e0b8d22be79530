//! Effects behind one trait: who keeps notifications. Offsets come from one counter per epoch for all channels, so a channel's
//! offsets skip numbers, and a position of any channel can be compared with how far the broker has come.

pub mod memory;
pub mod nats;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sluice_protocol::{ChannelName, Epoch};

/// A notification on its way in.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where to.
    pub channel: ChannelName,
    /// Idempotency key: the same (channel, id) is stored once.
    pub id: String,
    /// When it came in, milliseconds since the Unix epoch.
    pub time: u64,
    /// One JSON value.
    pub data: Bytes,
}

/// Where a notification was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Epoch of the offset.
    pub epoch: Epoch,
    /// Its place.
    pub offset: u64,
    /// True when it was there already.
    pub duplicate: bool,
}

/// A notification that the broker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place.
    pub offset: u64,
    /// When it came in, milliseconds since the Unix epoch.
    pub time: u64,
    /// One JSON value.
    pub data: Bytes,
}

/// A stretch of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Epoch of the offsets.
    pub epoch: Epoch,
    /// In order, all after the position asked for.
    pub messages: Vec<StoredMessage>,
    /// True when everything stored before the call is in it; otherwise ask again from its last message on.
    pub complete: bool,
    /// True when messages after the position asked for, and before the first one here, may be gone.
    pub lost: bool,
}

/// The broker did not do what was asked, and may do so later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is not available: {0}")]
pub struct Unavailable(pub String);

/// Where a broker offers what it has stored. Calls come from one task, in the order of offsets except after a link failure.
pub trait LiveSink: Send + Sync {
    /// A message and the offset of the one before it in its channel; 0 when that one is known to have been offered.
    fn live(&self, channel: &ChannelName, message: StoredMessage, previous: u64);
    /// Everything up to this offset was offered.
    fn fed_to(&self, offset: u64);
    /// Positions belong to this epoch now; nothing after `last` was offered yet.
    fn epoch(&self, epoch: &Epoch, last: u64);
    /// This many messages were missed on the live side, and are read and offered now.
    fn missed(&self, messages: u64);
    /// Messages up to this offset were missed and will not be offered: followers have to look into history.
    fn skipped(&self, to: u64);
    /// The link to the broker is up or down.
    fn up(&self, up: bool);
}

/// Who keeps notifications.
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Where live messages go from now on.
    fn attach(&self, sink: Arc<dyn LiveSink>);
    /// Stores a message; returns only once the broker holds it.
    fn publish(&self, message: NewMessage) -> BoxFuture<'_, Result<Stored, Unavailable>>;
    /// Reads what is stored after an offset.
    fn replay<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: u64,
    ) -> BoxFuture<'a, Result<Replay, Unavailable>>;
    /// Ends background work and the link.
    fn close(&self) -> BoxFuture<'_, ()>;
}
