//! Effects (NATS): the live side. One subscription brings what the stream has stored; missing sequence numbers are read. It is
//! compared with the stream's end after every reconnect, drop and leader change, and every 30 s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Event, Message};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

use super::Shared;
use super::open::{Live, RECONNECT_WAIT_MAX, open};
use super::read::{LAST_SEQUENCE, Read, Reader, SEQUENCE, TIME, number};
use super::stream::{self, Info};
use super::subject::Subjects;
use super::tracker::{Hole, Tracker};
use crate::broker::{LiveSink, StoredMessage, Unavailable};
use crate::limits;

/// A hole with more messages is not read here: followers look into history for themselves.
const FILL_MOST: u64 = 50_000;

/// Runs until the broker is closed.
pub(super) async fn run(shared: Arc<Shared>, sink: Arc<dyn LiveSink>) {
    let closed = shared.closed.clone();
    let work = async {
        loop {
            match open(&shared).await {
                Ok(live) => live.follow(&shared, sink.as_ref()).await,
                Err(error) => {
                    sink.up(false);
                    tracing::info!(%error, url = %shared.config.url, "NATS is not ready; trying again");
                }
            }
            tokio::time::sleep(RECONNECT_WAIT_MAX / 2).await;
        }
    };
    tokio::select! {
        () = closed.cancelled() => {}
        () = work => {}
    }
}

/// What the live side waits for beside messages.
enum Done {
    /// A look at the stream, and the highest number that was known when it began.
    Compared(Result<Info, Unavailable>, u64),
    Filled(Result<Vec<Read>, Unavailable>, Hole),
}

impl Live {
    /// Feeds the sink until the link has ended for good.
    async fn follow(mut self, shared: &Arc<Shared>, sink: &dyn LiveSink) {
        let mut tracker = Tracker::new(self.info.last);
        self.begin_epoch(shared, sink, &mut tracker);
        sink.up(true);
        let mut work: Option<BoxFuture<'static, Done>> = None;
        let mut successor: Option<BoxFuture<'static, Live>> = None;
        let mut compare_due = false;
        let mut shorter = 0;
        let mut every = tokio::time::interval(limits::COMPARE_INTERVAL);
        every.reset();
        loop {
            if work.is_none() {
                work = self.next_work(shared, &tracker, &mut compare_due);
            }
            tokio::select! {
                message = self.messages.next() => {
                    let Some(message) = message else { break };
                    take_live(&message, &mut tracker, shared, sink);
                }
                done = optional(work.as_mut()) => {
                    work = None;
                    self.pause = Duration::ZERO;
                    match done {
                        Done::Compared(result, known) => {
                            compare_due |= self.compared((result, known), shared, sink, &mut tracker, &mut shorter).await;
                        }
                        Done::Filled(Ok(messages), hole) => filled(messages, hole, &mut tracker, sink),
                        Done::Filled(Err(error), _) => {
                            tracing::debug!(%error, "missed messages not read yet");
                            self.pause = limits::COMPARE_SETTLE;
                        }
                    }
                }
                event = self.events.recv() => {
                    let Some(event) = event else { break };
                    match event {
                        Event::Connected => shared.turned.notify_waiters(),
                        // The server is about to stop. It serves for some time yet: the next link is made meanwhile.
                        Event::LameDuckMode if successor.is_none() => {
                            successor = Some(Box::pin(open_until_done(Arc::clone(shared))));
                        }
                        _ => {}
                    }
                    compare_due |= note(&event, sink);
                }
                next = optional(successor.as_mut()) => {
                    // What was asked over the link that goes is asked anew.
                    (successor, work) = (None, None);
                    self.succeed_by(next, shared, sink, &mut tracker);
                    compare_due = true;
                }
                Some(_) = self.elections.next() => {
                    shared.turned.notify_waiters();
                    compare_due = true;
                }
                () = shared.compare.notified() => compare_due = true,
                _ = every.tick() => compare_due = true,
            }
            sink.fed_to(tracker.fed_to());
        }
        sink.up(false);
    }

    fn begin_epoch(&mut self, shared: &Shared, sink: &dyn LiveSink, tracker: &mut Tracker) {
        self.link.epoch = self.info.epoch.clone();
        shared.age().forget();
        shared.seen.store(self.info.last, Ordering::Release);
        shared.note(&self.info);
        *tracker = Tracker::new(self.info.last);
        self.offer(shared);
        sink.epoch(&self.info.epoch, self.info.last);
    }

    /// One thing at a time, beside the messages: a comparison that is due, or the first hole.
    fn next_work(
        &self,
        shared: &Arc<Shared>,
        tracker: &Tracker,
        compare_due: &mut bool,
    ) -> Option<BoxFuture<'static, Done>> {
        let pause = self.pause;
        let known = tracker.highest();
        if std::mem::take(compare_due) {
            let (client, shared) = (self.link.client.clone(), Arc::clone(shared));
            return Some(Box::pin(async move {
                tokio::time::sleep(pause).await;
                let looked =
                    stream::keep(&client, &shared.config, shared.history, &shared.subjects).await;
                // What is on its way arrives meanwhile and is no difference.
                tokio::time::sleep(limits::COMPARE_SETTLE).await;
                Done::Compared(looked, known)
            }));
        }
        let hole = tracker.hole()?;
        let (reader, subject) = (Arc::clone(&self.link.reader), shared.subjects.all_stored());
        Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Done::Filled(fill(&reader, &subject, hole).await, hole)
        }))
    }

    /// What a comparison found. True when it must be repeated.
    async fn compared(
        &mut self,
        (result, known): (Result<Info, Unavailable>, u64),
        shared: &Arc<Shared>,
        sink: &dyn LiveSink,
        tracker: &mut Tracker,
        shorter: &mut u32,
    ) -> bool {
        let info = match result {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "not compared");
                self.pause = limits::COMPARE_SETTLE;
                return true;
            }
        };
        if info.epoch != self.info.epoch {
            self.info = info;
            self.begin_epoch(shared, sink, tracker);
            return false;
        }
        if info.last < known {
            // A new leader may lag for a moment; a stream that stays short has lost its end.
            *shorter += 1;
            if *shorter >= limits::TAIL_MOVED_LOOKS {
                tracing::warn!(
                    last = info.last,
                    seen = known,
                    "the stream lost its end: new epoch"
                );
                let renewed =
                    stream::renew_epoch(&self.link.client, &shared.config.stream, &info).await;
                if let Ok(info) = renewed {
                    *shorter = 0;
                    self.info = info;
                    self.begin_epoch(shared, sink, tracker);
                    return false;
                }
            }
            self.pause = Duration::from_secs(1);
            return true;
        }
        *shorter = 0;
        shared.note(&info);
        if tracker.stored(info.last) {
            tracing::info!(
                last = info.last,
                fed_to = tracker.fed_to(),
                "the live side missed messages: reading them"
            );
        }
        if let Some(hole) = tracker.hole()
            && (hole.from < info.first || hole.to - hole.from > FILL_MOST)
        {
            tracing::warn!(
                from = hole.from,
                to = hole.to,
                "too much was missed: followers look into history"
            );
            tracker.filled(hole.to);
            sink.skipped(hole.to);
        }
        false
    }

    /// Goes on with another link. What this one still holds is taken first.
    fn succeed_by(
        &mut self,
        next: Self,
        shared: &Shared,
        sink: &dyn LiveSink,
        tracker: &mut Tracker,
    ) {
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            take_live(&message, tracker, shared, sink);
        }
        let renewed = next.info.epoch != self.info.epoch;
        *self = next;
        if renewed {
            self.begin_epoch(shared, sink, tracker);
        } else {
            self.offer(shared);
        }
        sink.up(true);
        tracing::debug!("left a server that stops");
    }

    /// From now on publishes and reads take this link.
    fn offer(&self, shared: &Shared) {
        let link = Some(self.link.clone());
        *shared
            .link
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = link;
    }
}

/// A server that stops refuses new connections, and the address of all servers may still lead to it for a moment.
async fn open_until_done(shared: Arc<Shared>) -> Live {
    loop {
        match open(&shared).await {
            Ok(live) => return live,
            Err(error) => tracing::debug!(%error, "no other server yet"),
        }
        tokio::time::sleep(limits::PUBLISH_RETRY).await;
    }
}

/// What the client library reports. True when a comparison is due.
fn note(event: &Event, sink: &dyn LiveSink) -> bool {
    match event {
        Event::Connected => sink.up(true),
        Event::Disconnected => sink.up(false),
        Event::LameDuckMode => {}
        Event::SlowConsumer(_) => {
            tracing::warn!("live messages were dropped here: reading them again");
        }
        other => tracing::debug!(event = %other, "NATS"),
    }
    matches!(event, Event::Connected | Event::SlowConsumer(_))
}

fn take_live(message: &Message, tracker: &mut Tracker, shared: &Shared, sink: &dyn LiveSink) {
    let parsed = message.headers.as_ref().and_then(|headers| {
        let sequence = number(headers, SEQUENCE)?;
        let previous = number(headers, LAST_SEQUENCE)?;
        Some((sequence, previous, number(headers, TIME).unwrap_or(0)))
    });
    let Some((offset, previous, time)) = parsed else {
        tracing::debug!(subject = %message.subject, "not a repeated message");
        return;
    };
    if tracker.live(offset) {
        tracing::debug!(offset, "sequence numbers are missing on the live side");
    }
    shared.seen.fetch_max(offset, Ordering::AcqRel);
    if let Some(channel) = Subjects::channel(&message.subject) {
        sink.live(
            &channel,
            StoredMessage {
                offset,
                time,
                data: message.payload.clone(),
            },
            previous,
        );
    }
}

/// Reads what was missed, from the hole's start on, as far as one read goes.
async fn fill(reader: &Reader, subject: &str, hole: Hole) -> Result<Vec<Read>, Unavailable> {
    let batch = reader
        .batch(subject, hole.from, limits::FILL_BATCH_MESSAGES)
        .await?;
    let last = batch
        .messages
        .last()
        .map_or(hole.from - 1, |read| read.message.offset);
    let mut messages = batch.messages;
    if last < hole.to && messages.len() as u64 >= batch.total {
        // The replica knows no more; the leader may.
        messages.extend(reader.first(subject, last + 1).await?);
        if messages
            .last()
            .is_none_or(|read| read.message.offset == last)
        {
            // Nothing more: what was there has been taken out of the stream.
            return Ok(messages);
        }
    }
    Ok(messages)
}

fn filled(messages: Vec<Read>, hole: Hole, tracker: &mut Tracker, sink: &dyn LiveSink) {
    let to = messages
        .last()
        .map_or(hole.to, |read| read.message.offset.min(hole.to));
    sink.missed(messages.len() as u64);
    for read in messages
        .into_iter()
        .filter(|read| read.message.offset <= hole.to)
    {
        if let Some(channel) = Subjects::channel(&read.subject) {
            // All before it were offered, live or here.
            sink.live(&channel, read.message, 0);
        }
    }
    tracker.filled(to);
}

async fn optional<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
