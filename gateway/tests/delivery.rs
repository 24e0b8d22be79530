//! Scenarios: what is published reaches whoever follows, once and in order, on this gateway or the next.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::Duration;

use common::{Client, End, PATIENCE, alone, eventually, member, memory, post, publish};
use serde_json::json;
use sluice_protocol::{ClientMessage, ServerMessage};
use tokio::net::TcpSocket;

#[tokio::test]
async fn a_plain_client_sees_welcome_and_messages() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    publish(&gateway, "news", json!(1)).await;
    publish(&gateway, "user:ann", json!(2)).await;
    publish(&gateway, "user:bob", json!(3)).await;
    publish(&gateway, "news", json!(4)).await;
    let mut got = ann.data(3).await;
    got.sort_unstable();
    assert_eq!(got, [1, 2, 4]);
}

#[tokio::test]
async fn data_is_passed_on_as_it_came() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    let body = r#"{"id":"x","data":{"b":1.50,"a":"é\u00e9"},"channel":"user:ann"}"#;
    let url = format!("http://{}/v1/publish", gateway.addresses().publish);
    let answer = reqwest::Client::new()
        .post(url)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        ann.message().await.data.get(),
        r#"{"b":1.50,"a":"é\u00e9"}"#
    );
}

#[tokio::test]
async fn the_same_id_is_stored_once_per_channel() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=a,b", 3).await;
    let address = gateway.addresses().publish;
    let send = async |channel: &str, data: i64| {
        post(
            address,
            "/v1/publish",
            &json!({"channel": channel, "id": "same", "data": data}),
        )
        .await
        .1["offset"]
            .clone()
    };
    let first = send("a", 1).await;
    assert_eq!(send("a", 2).await, first);
    assert_ne!(send("b", 3).await, first);
    let mut got = ann.data(2).await;
    got.sort_unstable();
    assert_eq!(got, [1, 3]);
}

#[tokio::test]
async fn a_batch_answers_each_message_in_order() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=a,b", 3).await;
    let messages = json!({"messages": [
        {"channel": "a", "data": 1}, {"channel": "", "data": 2}, {"channel": "a", "data": 3}, {"channel": "b", "data": 4}, {"data": 5},
    ]});
    let (status, answer) = post(gateway.addresses().publish, "/v1/publish/batch", &messages).await;
    assert_eq!(status, 200);
    let codes: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["error"]["code"].as_str())
        .collect();
    assert_eq!(
        codes,
        [None, Some("bad_channel"), None, None, Some("bad_request")]
    );
    let got = ann.data(3).await;
    assert!(
        got.iter().position(|n| *n == 1) < got.iter().position(|n| *n == 3),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_session_resumes_on_any_gateway() {
    let broker = memory();
    let (first, second) = (member(broker.clone(), &[]), member(broker, &[]));
    let mut ann = Client::welcomed(&first, "user=ann&channels=news", 2).await;
    publish(&first, "news", json!(1)).await;
    let seen = ann.message().await;
    drop(ann.ws);
    for n in 2..=700 {
        publish(&second, "news", json!(n)).await;
    }
    let query = format!(
        "resume={}&channels=news@{}:{}",
        ann.resume_token, seen.epoch, seen.offset
    );
    let mut again = Client::connect(&second, &query).await;
    let ServerMessage::Welcome(welcome) = again.next().await else {
        panic!("no welcome")
    };
    assert_eq!(welcome.user.as_str(), "ann");
    assert!(
        matches!(again.next().await, ServerMessage::Subscribed(s) if s.channel.as_str() == "user:ann")
    );
    assert!(
        matches!(again.next().await, ServerMessage::Subscribed(s) if s.recovered && s.offset == seen.offset)
    );
    publish(&first, "news", json!(701)).await;
    assert_eq!(again.data(700).await, (2..=701).collect::<Vec<_>>());
}

#[tokio::test]
async fn joining_while_messages_stream_in_misses_and_repeats_nothing() {
    let broker = memory();
    let (first, second) = (member(broker.clone(), &[]), member(broker, &[]));
    let start = publish(&first, "news", json!(0)).await;
    let publisher = async {
        for n in 1..=600 {
            publish(&first, "news", json!(n)).await;
        }
    };
    let reader = async {
        let mut all = Vec::new();
        let query = format!(
            "user=bob&channels=news@{}:{}",
            start["epoch"].as_str().unwrap(),
            start["offset"]
        );
        for _ in 0..6 {
            let at = all.last().cloned().unwrap_or(query.clone());
            all.push(at);
            let mut bob = Client::welcomed(&second, &query, 2).await;
            assert_eq!(bob.data(100).await, (1..=100).collect::<Vec<_>>());
        }
        let mut bob = Client::welcomed(&second, &query, 2).await;
        assert_eq!(bob.data(600).await, (1..=600).collect::<Vec<_>>());
    };
    tokio::join!(publisher, reader);
}

#[tokio::test]
async fn a_window_holds_messages_back_until_they_are_acknowledged() {
    let gateway = alone(&["--window-messages", "8"]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    ann.ack(0).await;
    ann.ping(1).await;
    for n in 1..=8 {
        publish_now(&gateway, "news", n).await;
    }
    assert_eq!(ann.data(8).await, (1..=8).collect::<Vec<_>>());
    for n in 9..=2000 {
        publish_now(&gateway, "news", n).await;
    }
    let metrics = gateway.core().metrics.clone();
    eventually("the connection is lagging", || metrics.lagging.get() == 1).await;
    // History keeps 1,000 per channel, so what is older has become a gap.
    ann.ack(8).await;
    let ServerMessage::Gap(gap) = ann.next().await else {
        panic!("no gap")
    };
    assert_eq!((gap.from.offset.get(), gap.to.offset.get()), (8, 1000));
    let mut got = Vec::new();
    while got.len() < 1000 {
        got.extend(ann.data(8).await);
        let last = ann.last_seq;
        ann.ack(last).await;
    }
    assert_eq!(got, (1001..=2000).collect::<Vec<_>>());
    eventually("the connection is no longer lagging", || {
        metrics.lagging.get() == 0
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_stalls_costs_an_offset_and_catches_up_exactly_once() {
    // Each shard that follows a channel has a ring of it: with one shard there is one.
    let gateway = alone(&["--history-max-per-channel", "3000", "--shards", "1"]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(gateway.addresses().client).await.unwrap();
    let mut slow = Client::over(stream, "user=slow&channels=news", &[])
        .await
        .unwrap();
    let mut quick = Client::welcomed(&gateway, "user=quick&channels=news", 2).await;
    slow.read_welcome(2).await;
    let padding = "x".repeat(8000);
    let body = |n: i64| json!({"n": n, "pad": padding});
    for n in 1..=2000 {
        publish_value(&gateway, "news", body(n)).await;
        assert_eq!(number(&quick.message().await), n);
    }
    let metrics = gateway.core().metrics.clone();
    assert_eq!(metrics.lagging.get(), 1);
    let kept = metrics.ring_bytes.get();
    assert!(
        kept <= 300_000,
        "16 MB were published, {kept} bytes are kept"
    );
    for n in 1..=2000 {
        assert_eq!(number(&slow.message().await), n);
    }
    publish_value(&gateway, "news", body(2001)).await;
    assert_eq!(number(&slow.message().await), 2001);
    eventually("it has caught up", || metrics.lagging.get() == 0).await;
    assert_eq!(metrics.gaps.get(), 0);
}

#[tokio::test]
async fn a_crowd_that_fell_behind_together_costs_a_few_reads() {
    let gateway = alone(&[]);
    let start = publish(&gateway, "news", json!(0)).await;
    for n in 1..=900 {
        publish_now(&gateway, "news", n).await;
    }
    let query = format!(
        "channels=news@{}:{}",
        start["epoch"].as_str().unwrap(),
        start["offset"]
    );
    let readers = (0..100).map(|n| {
        let (gateway, query) = (&gateway, format!("user=u{n}&{query}"));
        async move {
            let mut reader = Client::welcomed(gateway, &query, 2).await;
            assert_eq!(reader.data(900).await, (1..=900).collect::<Vec<_>>());
        }
    });
    futures::future::join_all(readers).await;
    let reads = gateway.core().metrics.history_reads.get();
    assert!(reads <= 60, "{reads} reads for 100 readers of one stretch");
}

#[tokio::test]
async fn a_lost_tail_is_told_to_everybody_who_saw_it() {
    let broker = memory();
    let gateway = member(broker.clone(), &[]);
    let mut here = Client::welcomed(&gateway, "user=here&channels=news", 2).await;
    for n in 1..=5 {
        publish(&gateway, "news", json!(n)).await;
    }
    here.data(4).await;
    let seen = here.message().await;
    broker.lose_tail(2);
    for n in 6..=9 {
        publish(&gateway, "news", json!(n)).await;
    }
    let gaps = async |client: &mut Client| {
        let mut gaps = 0;
        while gaps < 1 {
            if let ServerMessage::Gap(gap) = client.next().await
                && gap.channel.as_str() == "news"
            {
                assert_ne!(gap.from.epoch, gap.to.epoch);
                gaps += 1;
            }
        }
    };
    gaps(&mut here).await;
    let query = format!("user=back&channels=news@{}:{}", seen.epoch, seen.offset);
    let mut back = Client::connect(&gateway, &query).await;
    gaps(&mut back).await;
}

#[tokio::test]
async fn a_broker_outage_refuses_publishers_and_keeps_clients() {
    let broker = memory();
    let gateway = member(broker.clone(), &[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    broker.set_up(false);
    let (status, body) = post(
        gateway.addresses().publish,
        "/v1/publish",
        &json!({"channel": "news", "data": 1}),
    )
    .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (503, Some("broker_unavailable"))
    );
    assert!(
        gateway.core().is_ready(),
        "an outage of the broker must not take the whole fleet out"
    );
    assert_eq!(ann.ping(1).await.id, 1);
    broker.set_up(true);
    publish(&gateway, "news", json!(2)).await;
    assert_eq!(ann.data(1).await, [2]);
}

#[tokio::test]
async fn cursors_move_idle_channels_on() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=quiet", 2).await;
    let stored = publish(&gateway, "busy", json!(1)).await;
    let pong = ann.ping(7).await;
    let moved: Vec<_> = pong
        .cursors
        .iter()
        .map(|(name, at)| (name.as_str(), at.offset.get()))
        .collect();
    let offset = stored["offset"].as_u64().unwrap();
    assert_eq!(moved, [("quiet", offset), ("user:ann", offset)]);
    assert!(ann.ping(8).await.cursors.is_empty());
}

#[tokio::test]
async fn coming_back_to_a_quiet_channel_reads_no_history() {
    let gateway = alone(&[]);
    let first = publish(&gateway, "quiet", json!(1)).await;
    let (epoch, offset) = (first["epoch"].as_str().unwrap(), &first["offset"]);
    publish(&gateway, "busy", json!(2)).await;
    let query = format!("user=ann&channels=quiet@{epoch}:{offset}");
    let mut ann = Client::welcomed(&gateway, &query, 2).await;
    publish(&gateway, "quiet", json!(3)).await;
    assert_eq!(ann.data(1).await, [3]);
    let reads = gateway.core().metrics.history_reads.get();
    assert_eq!(
        reads, 0,
        "nobody followed the channel, but the gateway heard that it was quiet"
    );
}

#[tokio::test]
async fn a_replaced_connection_goes_on_beside_the_new_one() {
    let gateway = alone(&[]);
    let mut old = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    let query = format!("resume={}&channels=news", old.resume_token);
    let mut new = Client::welcomed(&gateway, &query, 2).await;
    publish(&gateway, "news", json!(1)).await;
    assert_eq!((old.data(1).await, new.data(1).await), (vec![1], vec![1]));
    let (_, end) = tokio::time::timeout(PATIENCE, old.rest()).await.unwrap();
    assert_eq!(end, End::Close(4004, "replaced".into()));
    publish(&gateway, "news", json!(2)).await;
    assert_eq!(new.data(1).await, [2]);
}

#[tokio::test]
async fn a_second_subscribe_is_answered_like_the_first() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    publish(&gateway, "news", json!(1)).await;
    let seen = ann.message().await;
    let query = format!(
        "resume={}&channels=news@{}:{}",
        ann.resume_token, seen.epoch, seen.offset
    );
    let mut again = Client::welcomed(&gateway, &query, 2).await;
    for (channel, recovered) in [("news", true), ("user:ann", false)] {
        again
            .send(&ClientMessage::Subscribe {
                channel: sluice_protocol::ChannelName::new(channel).unwrap(),
                after: None,
                reference: None,
            })
            .await;
        assert!(
            matches!(again.next().await, ServerMessage::Subscribed(s) if s.channel.as_str() == channel && s.recovered == recovered),
            "{channel}"
        );
    }
    publish(&gateway, "news", json!(2)).await;
    assert_eq!(again.data(1).await, [2]);
}

#[tokio::test]
async fn channels_come_and_go() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    let channel = sluice_protocol::ChannelName::new("news").unwrap();
    ann.send(&ClientMessage::Subscribe {
        channel: channel.clone(),
        after: None,
        reference: None,
    })
    .await;
    assert!(matches!(ann.next().await, ServerMessage::Subscribed(_)));
    publish(&gateway, "news", json!(1)).await;
    assert_eq!(ann.data(1).await, [1]);
    ann.send(&ClientMessage::Unsubscribe {
        channel,
        reference: None,
    })
    .await;
    assert!(matches!(ann.next().await, ServerMessage::Unsubscribed(_)));
    publish(&gateway, "news", json!(2)).await;
    publish(&gateway, "user:ann", json!(3)).await;
    assert_eq!(ann.data(1).await, [3]);
    let metrics = gateway.core().metrics.clone();
    assert_eq!(
        (metrics.channels.get(), metrics.subscriptions.get()),
        (1, 1)
    );
    drop(ann);
    eventually("nothing is left", || {
        metrics.channels.get() + metrics.subscriptions.get() + metrics.connections.get() == 0
    })
    .await;
    assert_eq!(metrics.ring_bytes.get(), 0);
}

async fn publish_now(gateway: &sluice_gateway::Gateway, channel: &str, n: i64) {
    publish_value(gateway, channel, json!(n)).await;
}

/// Past the HTTP port, for tests that need many.
async fn publish_value(gateway: &sluice_gateway::Gateway, channel: &str, data: serde_json::Value) {
    let message = sluice_gateway::broker::NewMessage {
        channel: sluice_protocol::ChannelName::new(channel).unwrap(),
        id: format!("{:x}", rand::random::<u128>()),
        time: sluice_gateway::auth::now_millis(),
        data: data.to_string().into(),
    };
    tokio::time::timeout(
        Duration::from_secs(5),
        gateway.core().broker.publish(message),
    )
    .await
    .unwrap()
    .unwrap();
}

fn number(message: &sluice_protocol::server::Message) -> i64 {
    let data: serde_json::Value = serde_json::from_str(message.data.get()).unwrap();
    data["n"].as_i64().unwrap()
}
