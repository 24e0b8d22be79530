//! Effects: publishes at a rate, over all channels, until each publish is accepted or given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_protocol::Position;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::audit::{Auditor, Channel, Content};
use super::config::LoadConfig;
use super::limits;
use super::tally::{Count, lock};

/// The channels to publish to; users' own ones grow with the clients.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) topics: Vec<Arc<Channel>>,
    pub(super) users: std::sync::Mutex<Vec<Arc<Channel>>>,
}

impl Targets {
    /// A random channel without a publish under way, marked as busy.
    fn pick(&self, user_share_percent: u32) -> Option<Arc<Channel>> {
        let users = lock(&self.users);
        let mut random = rand::rng();
        for _ in 0..limits::CHANNEL_PICKS {
            let own = random.random_range(0..100) < user_share_percent;
            let from = if own || self.topics.is_empty() {
                &users
            } else {
                &self.topics
            };
            if from.is_empty() {
                continue;
            }
            let channel = &from[random.random_range(0..from.len())];
            if !channel.busy.swap(true, Ordering::Relaxed) {
                return Some(channel.clone());
            }
        }
        None
    }
}

/// Publishes on behalf of one load.
pub(super) struct Publisher {
    auditor: Arc<Auditor>,
    targets: Arc<Targets>,
    http: reqwest::Client,
    urls: watch::Receiver<Vec<String>>,
    key: Option<String>,
    run: String,
    padding: String,
    user_share_percent: u32,
    give_up: Duration,
    /// Turns between endpoints.
    turn: AtomicU64,
    /// Publishes per second; may change at run time.
    pub(super) rate: AtomicU32,
    stopping: AtomicBool,
    under_way: Arc<Semaphore>,
}

#[derive(Serialize)]
struct Request<'a> {
    channel: &'a str,
    id: &'a str,
    data: &'a RawValue,
}

/// What became of one attempt.
enum Attempt {
    Accepted(Position),
    Refused(String),
    Again(String),
}

impl Publisher {
    /// A publisher that does nothing until [`Self::run`].
    pub(super) fn new(
        config: &LoadConfig,
        auditor: &Arc<Auditor>,
        targets: &Arc<Targets>,
    ) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(limits::PUBLISH_CONNECT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .context("building the publishers' HTTP client")?;
        Ok(Self {
            auditor: auditor.clone(),
            targets: targets.clone(),
            http,
            urls: config.publish_urls.clone(),
            key: config.publish_key.clone(),
            run: format!("{:08x}", rand::random::<u32>()),
            padding: "x".repeat(config.padding_bytes),
            user_share_percent: config.user_share_percent,
            give_up: config.publish_give_up,
            turn: AtomicU64::new(0),
            rate: AtomicU32::new(config.publishes_per_second),
            stopping: AtomicBool::new(false),
            under_way: Arc::new(Semaphore::new(limits::PUBLISHES_UNDER_WAY)),
        })
    }

    /// Publishes until [`Self::finish`]. A stalled machine catches up rather than publishing less.
    pub(super) async fn run(self: Arc<Self>) {
        while !self.stopping.load(Ordering::Relaxed) {
            let rate = self.rate.load(Ordering::Relaxed);
            if rate == 0 {
                sleep(limits::LOOK_EVERY).await;
                continue;
            }
            let mut turns = interval(Duration::from_secs(1) / rate);
            turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while rate == self.rate.load(Ordering::Relaxed)
                && !self.stopping.load(Ordering::Relaxed)
            {
                turns.tick().await;
                if !self.stopping.load(Ordering::Relaxed) {
                    self.clone().turn();
                }
            }
        }
    }

    /// Begins nothing more and waits for what is under way; each publish has its own limit.
    pub(super) async fn finish(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // An error would mean that the semaphore was closed, which nobody does.
        let _ = self
            .under_way
            .acquire_many(limits::PUBLISHES_UNDER_WAY as u32)
            .await;
    }

    fn turn(self: Arc<Self>) {
        let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
            return self.auditor.tally.add(Count::Skipped, 1);
        };
        let Some(channel) = self.targets.pick(self.user_share_percent) else {
            return self.auditor.tally.add(Count::Skipped, 1);
        };
        tokio::spawn(async move {
            self.publish(&channel).await;
            channel.busy.store(false, Ordering::Relaxed);
            drop(permit);
        });
    }

    async fn publish(&self, channel: &Channel) {
        let tally = &self.auditor.tally;
        let n = channel.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let (begun, since) = (self.auditor.now(), Instant::now());
        let id = format!("{}-{n}", self.run);
        let content = Content {
            p: self.run.clone(),
            n,
            t: begun,
            x: self.padding.clone(),
        };
        // A struct of texts and numbers always serializes.
        let Ok(data) = serde_json::value::to_raw_value(&content) else {
            return;
        };
        let request = Request {
            channel: channel.name.as_str(),
            id: &id,
            data: &data,
        };
        let mut limit = limits::PUBLISH_ATTEMPT;
        let mut wait = limits::PUBLISH_RETRY;
        loop {
            let attempt = self.attempt(&request, limit).await;
            let took = since.elapsed();
            match attempt {
                Attempt::Accepted(position) => {
                    channel.accepted(&position, begun, self.auditor.now());
                    tally.publish.add(took.as_micros() as u64);
                    tally.add(Count::Accepted, 1);
                    tally.add(
                        Count::AcceptedInTime,
                        u64::from(took <= limits::PUBLISH_OBJECTIVE),
                    );
                    return;
                }
                Attempt::Again(reason) if took < self.give_up => {
                    tally.incident(format!("published again: {reason}"));
                }
                Attempt::Again(reason) | Attempt::Refused(reason) => {
                    tracing::warn!(channel = %channel.name, id, reason, "a publish was refused");
                    return tally.add(Count::Refused, 1);
                }
            }
            sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
            wait = (wait * 2).min(limits::PUBLISH_RETRY_MAX);
            limit = (limit * 2).min(limits::PUBLISH_ATTEMPT_MAX);
        }
    }

    async fn attempt(&self, request: &Request<'_>, limit: Duration) -> Attempt {
        let url = {
            let urls = self.urls.borrow();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
            match urls.get(turn % urls.len().max(1)) {
                Some(url) => format!("{}/v1/publish", url.trim_end_matches('/')),
                None => return Attempt::Again("no publish endpoint is known".into()),
            }
        };
        let mut post = self.http.post(&url).json(request);
        if let Some(key) = &self.key {
            post = post.bearer_auth(key);
        }
        let exchange = async {
            let answer = post.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        let (status, body) = match timeout(limit, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Attempt::Again(causes(&error)),
            Err(_) => return Attempt::Again(format!("{url}: no answer within {limit:?}")),
        };
        match status {
            StatusCode::OK => match serde_json::from_str(&body) {
                Ok(position) => Attempt::Accepted(position),
                Err(error) => Attempt::Refused(format!("{url}: unreadable answer {body}: {error}")),
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Attempt::Again(format!("{url}: {status} {body}"))
            }
            status if status.is_server_error() => Attempt::Again(format!("{url}: {status} {body}")),
            status => Attempt::Refused(format!("{url}: {status} {body}")),
        }
    }
}

/// An error with what it came from; its own words name the address alone.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
