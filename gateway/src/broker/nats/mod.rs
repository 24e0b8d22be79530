//! Effects (NATS): notifications in a JetStream stream, one subject per channel. The server repeats each stored message with its
//! sequence number; that is the live side. Offsets are the stream's sequence numbers.

mod age;
mod link;
mod open;
mod read;
mod stream;
mod subject;
mod tracker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Request};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use sluice_protocol::{ChannelName, Epoch};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Broker, LiveSink, NewMessage, Replay, Stored, Unavailable};
use crate::config::{HistoryConfig, NatsConfig};
use crate::limits;
use age::Age;
use read::Reader;
use subject::Subjects;

/// Notifications in a JetStream stream.
#[derive(Debug)]
pub struct NatsBroker {
    shared: Arc<Shared>,
}

/// What publishing, reading and the live side have in common.
#[derive(Debug)]
struct Shared {
    config: NatsConfig,
    history: HistoryConfig,
    name: String,
    subjects: Subjects,
    link: RwLock<Option<Link>>,
    age: Mutex<Age>,
    /// Highest sequence number known to be stored.
    seen: AtomicU64,
    /// How many messages the stream keeps per channel.
    per_channel: AtomicU64,
    /// Asks the live side to compare itself with the stream.
    compare: Notify,
    /// Wakes publishes whose answer may never come: the stream has a new leader, or the link is a new one.
    turned: Notify,
    closed: CancellationToken,
}

/// The connection, once there is one. The client library reconnects by itself.
#[derive(Clone, Debug)]
struct Link {
    client: Client,
    reader: Arc<Reader>,
    epoch: Epoch,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    description: String,
}

impl NatsBroker {
    /// Not connected yet: [`Broker::attach`] does that.
    pub fn new(config: NatsConfig, history: HistoryConfig, name: String) -> Self {
        let subjects = Subjects::new(&config.stream);
        Self {
            shared: Arc::new(Shared {
                config,
                history,
                name,
                subjects,
                link: RwLock::new(None),
                age: Mutex::new(Age::new(history.max_age)),
                seen: AtomicU64::new(0),
                per_channel: AtomicU64::new(history.max_per_channel.into()),
                compare: Notify::new(),
                turned: Notify::new(),
                closed: CancellationToken::new(),
            }),
        }
    }
}

impl Shared {
    fn link(&self) -> Result<Link, Unavailable> {
        let link = self
            .link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let link = link.ok_or_else(|| Unavailable("not connected yet".into()))?;
        if link.client.connection_state() == State::Connected {
            Ok(link)
        } else {
            // Not queued: what waits in the client library would be stored long after it was refused.
            Err(Unavailable("the link is down".into()))
        }
    }

    fn age(&self) -> MutexGuard<'_, Age> {
        self.age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until the stream's leader has answered or the time is over. The same id each time: stored once.
    async fn publish(&self, message: NewMessage) -> Result<Stored, Unavailable> {
        let deadline = Instant::now() + limits::PUBLISH_TIMEOUT;
        let subject = self.subjects.stored(&message.channel);
        let mut headers = HeaderMap::new();
        headers.insert(
            "Nats-Msg-Id",
            subject::message_id(&message.channel, &message.id),
        );
        headers.insert(read::TIME, message.time.to_string());
        let mut wait = limits::PUBLISH_ATTEMPT;
        let mut tries = 0_u32;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unavailable(format!("not acknowledged after {tries} tries")));
            }
            tries += 1;
            let failure = match self
                .try_publish(&subject, &headers, &message, wait.min(left))
                .await
            {
                Ok(stored) => {
                    // A repetition of our own is no duplicate of the publisher's.
                    return Ok(Stored {
                        duplicate: stored.duplicate && tries == 1,
                        ..stored
                    });
                }
                Err(failure) => failure,
            };
            tracing::debug!(%failure, tries, "publish not acknowledged");
            if failure.waited {
                // An election takes some hundred milliseconds: sparing the servers begins after that.
                if tries > limits::PUBLISH_ATTEMPTS_FAST {
                    wait *= 2;
                }
            } else {
                tokio::time::sleep(limits::PUBLISH_RETRY.min(left)).await;
            }
        }
    }

    async fn try_publish(
        &self,
        subject: &str,
        headers: &HeaderMap,
        message: &NewMessage,
        wait: Duration,
    ) -> Result<Stored, Failure> {
        let link = self.link().map_err(|error| Failure {
            text: error.0,
            waited: false,
        })?;
        let request = Request::new()
            .headers(headers.clone())
            .payload(message.data.clone())
            .timeout(Some(wait));
        let asked = Instant::now();
        let reply = tokio::select! {
            reply = link.client.send_request(subject.to_owned(), request) => reply.map_err(|error| Failure {
                text: error.to_string(),
                waited: asked.elapsed() >= wait,
            })?,
            () = self.turned.notified() => {
                return Err(Failure { text: "the stream has a new leader".into(), waited: false });
            }
        };
        let ack: Ack = serde_json::from_slice(&reply.payload).map_err(|error| Failure {
            text: error.to_string(),
            waited: false,
        })?;
        if let Some(error) = ack.error {
            return Err(Failure {
                text: error.description,
                waited: false,
            });
        }
        let seen = self.seen.load(Ordering::Acquire);
        if !ack.duplicate && ack.seq < seen.saturating_sub(limits::LIVE_QUEUE_MESSAGES as u64) {
            // Far behind what was seen: the stream may have been made anew.
            self.compare.notify_one();
        }
        Ok(Stored {
            epoch: link.epoch,
            offset: ack.seq,
            duplicate: ack.duplicate,
        })
    }

    async fn replay(&self, channel: &ChannelName, after: u64) -> Result<Replay, Unavailable> {
        let link = self.link()?;
        let subject = self.subjects.stored(channel);
        let mut replay = Replay {
            epoch: link.epoch.clone(),
            messages: Vec::new(),
            complete: false,
            lost: false,
        };
        if after > self.seen.load(Ordering::Acquire) {
            let info = stream::info(&link.client, &self.config.stream).await?;
            self.note(&info);
            if after > info.last {
                return Ok(Replay {
                    complete: true,
                    lost: true,
                    ..replay
                });
            }
        }
        let mut total = 0;
        match link.reader.first(&subject, after + 1).await? {
            // The leader has nothing more.
            None => replay.complete = true,
            Some(first) => {
                let batch = link
                    .reader
                    .batch(
                        &subject,
                        first.message.offset,
                        limits::HISTORY_BATCH_MESSAGES,
                    )
                    .await?;
                total = batch.total;
                let same = batch
                    .messages
                    .first()
                    .is_some_and(|read| read.message.offset == first.message.offset);
                replay.messages = if same {
                    batch
                        .messages
                        .into_iter()
                        .map(|read| read.message)
                        .collect()
                } else {
                    vec![first.message]
                };
            }
        }
        replay.lost = total >= self.per_channel.load(Ordering::Acquire)
            || self.aged_out(&link, after).await?;
        Ok(replay)
    }

    /// True when messages after this position may have grown too old.
    async fn aged_out(&self, link: &Link, after: u64) -> Result<bool, Unavailable> {
        if self.age().holds(after, Instant::now()) {
            return Ok(false);
        }
        // After the read: what is there now was there then.
        let info = stream::info(&link.client, &self.config.stream).await?;
        self.note(&info);
        Ok(!self.age().holds(after, Instant::now()) && info.first > after + 1)
    }

    fn note(&self, info: &stream::Info) {
        self.seen.fetch_max(info.last, Ordering::AcqRel);
        let existed = jiff::Timestamp::now().duration_since(info.created);
        let existed = Duration::try_from(existed).unwrap_or_default();
        // The stream's own limits count, which another gateway's settings may have made.
        self.per_channel.store(info.per_channel, Ordering::Release);
        self.age()
            .look(info.last, existed, info.max_age, Instant::now());
    }
}

#[derive(Debug)]
struct Failure {
    text: String,
    /// True when the whole time was spent waiting; otherwise the answer came at once.
    waited: bool,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Broker for NatsBroker {
    fn attach(&self, sink: Arc<dyn LiveSink>) {
        tokio::spawn(link::run(Arc::clone(&self.shared), sink));
    }

    fn publish(&self, message: NewMessage) -> BoxFuture<'_, Result<Stored, Unavailable>> {
        self.shared.publish(message).boxed()
    }

    fn replay<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: u64,
    ) -> BoxFuture<'a, Result<Replay, Unavailable>> {
        self.shared.replay(channel, after).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.shared.closed.cancel();
        }
        .boxed()
    }
}

impl Drop for NatsBroker {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}
