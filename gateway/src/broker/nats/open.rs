//! Effects (NATS): a connection with everything that the live side needs, subscribed before the stream's end is looked at.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Subscriber};
use tokio::sync::mpsc;

use super::read::Reader;
use super::stream::{self, Info};
use super::{Link, Shared};
use crate::broker::Unavailable;
use crate::limits;

/// Reconnects wait at most this long: every client of this pod waits with it.
pub(super) const RECONNECT_WAIT_MAX: Duration = Duration::from_millis(500);

/// Events of the client library that may wait; when there are more, one comparison answers them all.
const EVENTS: usize = 16;

/// Connected and subscribed.
pub(super) struct Live {
    pub(super) link: Link,
    pub(super) messages: Subscriber,
    pub(super) elections: Subscriber,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) info: Info,
    /// Wait before the next comparison or read, after one that failed.
    pub(super) pause: Duration,
    pump: tokio::task::JoinHandle<()>,
}

/// Connects and subscribes.
///
/// # Errors
/// With the first step that failed.
pub(super) async fn open(shared: &Arc<Shared>) -> Result<Live, Unavailable> {
    let (sender, events) = mpsc::channel(EVENTS);
    let client = connect(shared, sender).await?;
    let info = stream::ensure(&client, &shared.config, shared.history, &shared.subjects).await?;
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Unavailable(format!("{what}: {error}"));
    let messages = client
        .subscribe(shared.subjects.all_live())
        .await
        .map_err(|e| failed("live side", &e))?;
    let elected = format!(
        "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{}",
        shared.config.stream
    );
    let elections = client
        .subscribe(elected)
        .await
        .map_err(|e| failed("elections", &e))?;
    let (reader, answers) = Reader::new(client.clone(), shared.config.stream.clone()).await?;
    // The server has all three before the stream's end is looked at: what is stored later is brought.
    client.flush().await.map_err(|e| failed("flush", &e))?;
    let info = stream::info(&client, &shared.config.stream)
        .await
        .unwrap_or(info);
    let reader = Arc::new(reader);
    let pumped = Arc::clone(&reader);
    let pump = tokio::spawn(async move { pumped.pump(answers).await });
    let link = Link {
        client,
        reader,
        epoch: info.epoch.clone(),
    };
    Ok(Live {
        link,
        messages,
        elections,
        events,
        info,
        pause: Duration::ZERO,
        pump,
    })
}

async fn connect(shared: &Shared, events: mpsc::Sender<Event>) -> Result<Client, Unavailable> {
    let servers: Vec<String> = shared
        .config
        .url
        .split(',')
        .map(|url| url.trim().to_owned())
        .collect();
    let options = ConnectOptions::new()
        .name(&shared.name)
        .connection_timeout(limits::BROKER_CONNECT)
        .request_timeout(Some(limits::BROKER_REQUEST))
        .ping_interval(Duration::from_secs(5))
        .subscription_capacity(limits::LIVE_QUEUE_MESSAGES)
        .reconnect_delay_callback(|tries| {
            RECONNECT_WAIT_MAX.min(Duration::from_millis(10) * (1 << tries.min(10) as u32))
        })
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                // When it is full a comparison is due anyway.
                let _ = events.try_send(event);
            }
        });
    let connecting = options.connect(servers);
    match tokio::time::timeout(limits::BROKER_REQUEST, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(Unavailable(error.to_string())),
        Err(_) => Err(Unavailable("no connection in time".into())),
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.pump.abort();
    }
}
