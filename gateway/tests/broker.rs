//! One suite for every broker, and what the gateway does when NATS misbehaves. NATS runs when SLUICE_NATS_SERVER names its binary.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod common;

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use common::nats::{NatsCluster, NatsServer, Wire};
use common::{Client, PATIENCE, config, eventually, member, publish};
use serde_json::json;
use sluice_gateway::broker::memory::MemoryBroker;
use sluice_gateway::broker::nats::NatsBroker;
use sluice_gateway::broker::{Broker, LiveSink, NewMessage, Stored, StoredMessage};
use sluice_gateway::config::{HistoryConfig, NatsConfig};
use sluice_protocol::{ChannelName, Epoch, ServerMessage};

const HISTORY: HistoryConfig = HistoryConfig {
    max_age: Duration::from_hours(1),
    max_per_channel: 20,
};

/// Names that must never be taken for anything but names.
const HOSTILE: [&str; 12] = [
    ">", "*", "a.b", "a b", "}", "{x}", "a\r\nb", "$JS.API", "user:é", "=41", "..", "A",
];

static NOW: LazyLock<u64> = LazyLock::new(sluice_gateway::auth::now_millis);

#[derive(Debug, Default)]
struct Recorder(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    epoch: Option<Epoch>,
    live: Vec<(String, u64, u64)>,
    fed_to: u64,
    downs: usize,
}

impl LiveSink for Recorder {
    fn live(&self, channel: &ChannelName, message: StoredMessage, previous: u64) {
        self.0
            .lock()
            .unwrap()
            .live
            .push((channel.as_str().to_owned(), message.offset, previous));
    }
    fn fed_to(&self, offset: u64) {
        self.0.lock().unwrap().fed_to = offset;
    }
    fn epoch(&self, epoch: &Epoch, _last: u64) {
        self.0.lock().unwrap().epoch = Some(epoch.clone());
    }
    fn missed(&self, _messages: u64) {}
    fn skipped(&self, _to: u64) {}
    fn up(&self, up: bool) {
        self.0.lock().unwrap().downs += usize::from(!up);
    }
}

impl Recorder {
    fn live_of(&self, channel: &str) -> Vec<(u64, u64)> {
        let record = self.0.lock().unwrap();
        record
            .live
            .iter()
            .filter(|(name, ..)| name == channel)
            .map(|(_, offset, previous)| (*offset, *previous))
            .collect()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

async fn store(broker: &dyn Broker, name: &str, id: &str, data: &str) -> Stored {
    let message = NewMessage {
        channel: channel(name),
        id: id.into(),
        time: *NOW,
        data: data.to_owned().into(),
    };
    tokio::time::timeout(PATIENCE, broker.publish(message))
        .await
        .unwrap()
        .unwrap()
}

/// All of a channel's history after a position, and whether something may be missing before it.
async fn read_all(broker: &dyn Broker, name: &str, after: u64) -> (Vec<StoredMessage>, bool) {
    let (mut all, mut at, mut lost) = (Vec::new(), after, false);
    loop {
        let replay = broker.replay(&channel(name), at).await.unwrap();
        lost |= replay.lost;
        at = replay.messages.last().map_or(at, |message| message.offset);
        let (empty, complete) = (replay.messages.is_empty(), replay.complete);
        all.extend(replay.messages);
        if complete {
            return (all, lost);
        }
        assert!(!empty, "neither messages nor the end");
    }
}

async fn conformance(broker: Arc<dyn Broker>) {
    let sink = Arc::new(Recorder::default());
    broker.attach(sink.clone());
    eventually("the broker was reached", || {
        sink.0.lock().unwrap().epoch.is_some()
    })
    .await;
    let epoch = sink.0.lock().unwrap().epoch.clone().unwrap();

    // Stored once per (channel, id), in order, with one epoch.
    let first = store(&*broker, "a", "1", "1").await;
    assert_eq!(
        (first.epoch.clone(), first.duplicate),
        (epoch.clone(), false)
    );
    let again = store(&*broker, "a", "1", "2").await;
    assert_eq!((again.offset, again.duplicate), (first.offset, true));
    let other = store(&*broker, "b", "1", "3").await;
    assert!(
        other.offset > first.offset && !other.duplicate,
        "the same id on another channel is another message"
    );
    let second = store(&*broker, "a", "2", "4").await;
    assert!(second.offset > other.offset);

    // The live side names each message's predecessor in its channel and repeats none.
    eventually("two live messages", || sink.live_of("a").len() == 2).await;
    assert_eq!(
        sink.live_of("a"),
        [(first.offset, 0), (second.offset, first.offset)]
    );
    eventually("everything was fed", || {
        sink.0.lock().unwrap().fed_to >= second.offset
    })
    .await;

    // History gives what is after a position.
    let (messages, lost) = read_all(&*broker, "a", 0).await;
    let data: Vec<_> = messages
        .iter()
        .map(|m| (m.offset, std::str::from_utf8(&m.data).unwrap(), m.time))
        .collect();
    let time = *NOW;
    assert_eq!(
        data,
        [(first.offset, "1", time), (second.offset, "4", time)]
    );
    assert!(!lost);
    assert_eq!(
        read_all(&*broker, "a", second.offset).await,
        (vec![], false)
    );
    assert_eq!(read_all(&*broker, "never used", 0).await, (vec![], false));
    assert!(
        read_all(&*broker, "a", second.offset + 1000).await.1,
        "a position from nowhere is not whole"
    );

    // Any name is only a name, any id only an id.
    for name in HOSTILE {
        let stored = store(&*broker, name, "hostile \r\n id", "5").await;
        eventually("its live message", || {
            sink.live_of(name) == [(stored.offset, 0)]
        })
        .await;
        assert_eq!(read_all(&*broker, name, 0).await.0.len(), 1, "{name}");
    }

    // Beyond the limit per channel the oldest go, and that is said.
    let before = store(&*broker, "c", "first", "0").await.offset;
    for n in 0..30 {
        store(&*broker, "c", &n.to_string(), &n.to_string()).await;
    }
    let (messages, lost) = read_all(&*broker, "c", before).await;
    assert_eq!((messages.len(), lost), (20, true));
    let (messages, lost) = read_all(&*broker, "c", messages[4].offset).await;
    assert_eq!((messages.len(), lost), (15, false));

    broker.close().await;
}

fn nats(url: String, name: &str, max_per_channel: u32) -> Arc<NatsBroker> {
    let config = NatsConfig {
        url,
        stream: "TEST".into(),
        replicas: 1,
    };
    Arc::new(NatsBroker::new(
        config,
        HistoryConfig {
            max_per_channel,
            ..HISTORY
        },
        name.into(),
    ))
}

#[tokio::test]
async fn memory_conforms() {
    conformance(Arc::new(MemoryBroker::new(HISTORY))).await;
}

#[tokio::test]
async fn nats_conforms() {
    let Some(server) = NatsServer::start() else {
        return;
    };
    conformance(nats(server.url(), "conformance", 20)).await;
}

#[tokio::test]
async fn what_a_cut_link_missed_is_delivered_without_a_further_publish() {
    let Some(server) = NatsServer::start() else {
        return;
    };
    let wire = Wire::to(server.address()).await;
    let near = member(nats(format!("nats://{}", wire.address), "near", 5000), &[]);
    let far = member(nats(server.url(), "far", 5000), &[]);
    let (near_core, far_core) = (near.core().clone(), far.core().clone());
    eventually("both are ready", || {
        near_core.is_ready() && far_core.is_ready()
    })
    .await;
    let mut ann = Client::welcomed(&near, "user=ann&channels=news,quiet", 3).await;
    publish(&far, "news", json!(0)).await;
    assert_eq!(ann.data(1).await, [0]);

    wire.cut();
    eventually("the link is down", || {
        near_core.metrics.broker_up.get() == 0
    })
    .await;
    for n in 1..=600 {
        publish(&far, "news", json!(n)).await;
    }
    publish(&far, "quiet", json!(-1)).await;
    let refused = publish(&near, "news", json!("lost")).await;
    assert_eq!(refused["code"], "broker_unavailable");
    assert_eq!(ann.ping(1).await.id, 1, "clients stay");

    wire.mend();
    let got = ann.data(601).await;
    let news: Vec<_> = got.iter().copied().filter(|n| *n >= 0).collect();
    assert_eq!(news, (1..=600).collect::<Vec<_>>());
    assert!(
        got.contains(&-1),
        "the last message of a quiet channel came, too"
    );
    publish(&near, "news", json!(601)).await;
    assert_eq!(ann.data(1).await, [601]);
}

#[tokio::test]
async fn a_restarted_server_costs_nothing() {
    let Some(mut server) = NatsServer::start() else {
        return;
    };
    let gateway = member(nats(server.url(), "one", 5000), &[]);
    let core = gateway.core().clone();
    eventually("ready", || core.is_ready()).await;
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    publish(&gateway, "news", json!(1)).await;
    server.kill();
    eventually("the link is down", || core.metrics.broker_up.get() == 0).await;
    assert!(core.is_ready());
    server.run();
    // Tries inside one request until the server is back, under one id.
    let mut answer = json!(null);
    for _ in 0..4 {
        answer = publish(&gateway, "news", json!(2)).await;
        if answer["offset"].is_u64() {
            break;
        }
    }
    assert_eq!(answer["offset"], 2, "{answer}");
    assert_eq!(ann.data(2).await, [1, 2]);
    let query = format!(
        "user=bob&channels=news@{}:0",
        answer["epoch"].as_str().unwrap()
    );
    let mut bob = Client::welcomed(&gateway, &query, 2).await;
    assert_eq!(bob.data(2).await, [1, 2]);
}

#[tokio::test]
async fn a_stream_made_anew_is_a_gap_for_everybody() {
    let Some(mut server) = NatsServer::start() else {
        return;
    };
    let gateway = member(nats(server.url(), "one", 5000), &[]);
    let core = gateway.core().clone();
    eventually("ready", || core.is_ready()).await;
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    publish(&gateway, "news", json!(1)).await;
    let seen = ann.message().await;
    let before = core.hub.epoch();
    server.wipe();
    server.run();
    eventually("a new epoch", || core.hub.epoch() != before).await;
    let (mut gap_news, mut gap_own) = (false, false);
    while !(gap_news && gap_own) {
        let ServerMessage::Gap(gap) = ann.next().await else {
            continue;
        };
        assert_ne!(gap.to.epoch, seen.epoch);
        gap_news |= gap.channel.as_str() == "news";
        gap_own |= gap.channel.as_str() == "user:ann";
    }
    let answer = publish(&gateway, "news", json!(2)).await;
    assert_eq!(answer["offset"], 1);
    assert_eq!(ann.data(1).await, [2]);
}

#[tokio::test]
async fn ready_within_a_second() {
    let Some(server) = NatsServer::start() else {
        return;
    };
    let warm = nats(server.url(), "warm", 20);
    let sink = Arc::new(Recorder::default());
    warm.attach(sink.clone());
    eventually("the server runs", || sink.0.lock().unwrap().epoch.is_some()).await;
    let began = std::time::Instant::now();
    let gateway = member(nats(server.url(), "cold", 20), &[]);
    let core = gateway.core().clone();
    eventually("ready", || core.is_ready()).await;
    assert!(
        began.elapsed() < Duration::from_millis(1200),
        "{:?}",
        began.elapsed()
    );
    assert!(config(&[]).dev);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_each_server_of_a_cluster_in_turn_loses_no_message() {
    let Some(cluster) = NatsCluster::start() else {
        return;
    };
    // The time without a leader after a kill is up to NATS: several seconds.
    in_turn(cluster, NatsServer::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_each_server_of_a_cluster_in_turn_refuses_no_publish() {
    let Some(cluster) = NatsCluster::start() else {
        return;
    };
    let (slow, refused) = in_turn(cluster, NatsServer::terminate).await;
    assert_eq!(refused, 0);
    assert!(slow <= 1, "{slow} publishes took over a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_announces_its_end_is_left_without_a_pause() {
    let Some(mut cluster) = NatsCluster::start() else {
        return;
    };
    let broker = clustered(&cluster);
    let recorder = Arc::new(Recorder::default());
    broker.attach(recorder.clone());
    eventually("the link is up", || {
        recorder.0.lock().unwrap().epoch.is_some()
    })
    .await;
    recorder.0.lock().unwrap().downs = 0;

    let mut stored = Vec::new();
    let publish = async |stored: &mut Vec<u64>| {
        let id = stored.len().to_string();
        stored.push(store(&broker, "news", &id, "1").await.offset);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // Whichever server it is linked to, that one goes, too.
    for server in &mut cluster.servers {
        server.retire();
        let most = stored.len() + 4000;
        while !server.has_ended() {
            assert!(stored.len() < most, "the server ends");
            publish(&mut stored).await;
        }
        server.run();
        for _ in 0..600 {
            publish(&mut stored).await;
        }
    }
    eventually("everything was brought", || {
        recorder.live_of("news").len() >= stored.len()
    })
    .await;
    let live: Vec<u64> = recorder.live_of("news").iter().map(|(o, _)| *o).collect();
    assert_eq!(
        live.iter().collect::<std::collections::BTreeSet<_>>(),
        stored.iter().collect(),
    );
    assert_eq!(
        recorder.0.lock().unwrap().downs,
        0,
        "the link was never down"
    );
}

/// A broker that knows all servers.
fn clustered(cluster: &NatsCluster) -> NatsBroker {
    let config = NatsConfig {
        url: cluster.url(),
        stream: "TEST".into(),
        replicas: 3,
    };
    let history = HistoryConfig {
        max_per_channel: 5000,
        ..HISTORY
    };
    NatsBroker::new(config, history, "one".into())
}

/// Every server is ended and started again in turn, the stream's leader among them, under steady publishing. Says how many
/// publishes took over a second, and how many were refused.
async fn in_turn(mut cluster: NatsCluster, end: impl Fn(&mut NatsServer)) -> (usize, usize) {
    let broker = || Arc::new(clustered(&cluster));
    let (first, second) = (member(broker(), &[]), member(broker(), &[]));
    let (one, two) = (first.core().clone(), second.core().clone());
    eventually("both are ready", || one.is_ready() && two.is_ready()).await;
    let mut ann = Client::welcomed(&first, "user=ann&channels=news", 2).await;
    let mut bob = Client::welcomed(&second, "user=bob&channels=news", 2).await;

    let stored_epoch = one.hub.epoch().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (publisher, stopped, count) = (one.broker.clone(), stop.clone(), answered.clone());
    let publishing = tokio::spawn(async move {
        let (mut stored, mut slow, mut refused) = (Vec::new(), 0, 0);
        let mut n = 0_i64;
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            n += 1;
            let began = std::time::Instant::now();
            let message = NewMessage {
                channel: channel("news"),
                id: n.to_string(),
                time: *NOW,
                data: n.to_string().into(),
            };
            match publisher.publish(message).await {
                Ok(_) => {
                    stored.push(n);
                    count.store(stored.len(), std::sync::atomic::Ordering::SeqCst);
                }
                Err(_) => refused += 1,
            }
            slow += usize::from(began.elapsed() > Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (stored, slow, refused)
    });
    let hundred_more = async || {
        let count = || answered.load(std::sync::atomic::Ordering::SeqCst);
        let wanted = count() + 100;
        eventually("a hundred more are stored", || count() >= wanted).await;
    };
    let url = cluster.url();
    for server in &mut cluster.servers {
        hundred_more().await;
        end(server);
        hundred_more().await;
        server.run();
        all_current(&url).await;
    }
    hundred_more().await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (stored, slow, refused) = publishing.await.unwrap();
    println!(
        "{} stored, {slow} took over a second, {refused} refused",
        stored.len()
    );
    assert!(stored.len() >= 700);
    // A refused one may have been stored all the same; none that was answered may be missing.
    let expect = async |client: &mut Client| {
        let (mut last, mut got) = (0, Vec::new());
        while last < *stored.last().unwrap() {
            let n = client.data(1).await[0];
            assert!(n > last, "{n} after {last}");
            last = n;
            got.push(n);
        }
        assert!(stored.iter().all(|n| got.contains(n)));
    };
    expect(&mut ann).await;
    expect(&mut bob).await;
    assert_eq!((one.metrics.gaps.get(), two.metrics.gaps.get()), (0, 0));
    assert_eq!(
        one.hub.epoch(),
        Some(stored_epoch),
        "positions were never used again"
    );
    (slow, refused)
}

/// Waits until every server of the stream has all of it: the next one may end.
async fn all_current(url: &str) {
    let servers: Vec<String> = url.split(',').map(str::to_owned).collect();
    let client = async_nats::connect(servers).await.unwrap();
    let current = async {
        loop {
            if let Ok(answer) = client.request("$JS.API.STREAM.INFO.TEST", "".into()).await
                && let Ok(info) = serde_json::from_slice::<serde_json::Value>(&answer.payload)
                && let Some(replicas) = info["cluster"]["replicas"].as_array()
                && replicas.len() == 2
                && replicas.iter().all(|replica| replica["current"] == true)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = tokio::time::timeout(common::PATIENCE, current).await;
    assert!(patience.is_ok(), "a server never caught up");
}
