//! Scenarios: however a connection ends, the client gets its last words, the reason is counted, and nothing is left of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, End, alone, eventually, post, publish};
use futures::StreamExt as _;
use serde_json::json;
use sluice_gateway::Gateway;
use sluice_gateway::broker::NewMessage;
use sluice_protocol::{ChannelName, ServerMessage};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

fn count(gateway: &Gateway, reason: &str) -> u64 {
    let text = gateway.core().metrics.render();
    let start = format!("sluice_disconnects_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap().parse().unwrap()
}

async fn nothing_is_left(gateway: &Gateway) {
    let core = gateway.core();
    let all_closed = tokio::time::timeout(common::PATIENCE, core.registry.all_closed());
    all_closed.await.unwrap();
    tokio::time::timeout(common::PATIENCE, core.registry.empty())
        .await
        .unwrap();
    let metrics = &core.metrics;
    eventually("nothing is left", || {
        metrics.channels.get() + metrics.subscriptions.get() + metrics.connections.get() == 0
            && metrics.ring_bytes.get() == 0
    })
    .await;
}

#[tokio::test]
async fn unread_input_does_not_destroy_the_last_words() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    // A broken message, and far more behind it than the gateway will ever look at.
    let mut wire = text_frame("{");
    for _ in 0..400 {
        wire.extend(text_frame(&format!("\"{}\"", "x".repeat(1000))));
    }
    ann.ws.get_mut().write_all(&wire).await.unwrap();
    let (messages, end) = ann.rest().await;
    assert!(matches!(&messages[..], [ServerMessage::Error(_)]));
    assert_eq!(end, End::Close(4000, "bad_request".into()));
    drop(ann);
    nothing_is_left(&gateway).await;
    assert_eq!(count(&gateway, "bad_request"), 1);
}

#[tokio::test]
async fn half_closed_peers_get_what_was_due_and_the_end() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    let ping = text_frame(r#"{"type":"ping","id":7}"#);
    ann.ws.get_mut().write_all(&ping).await.unwrap();
    ann.ws.get_mut().shutdown().await.unwrap();
    let (messages, end) = ann.rest().await;
    assert!(matches!(&messages[..], [ServerMessage::Pong(pong)] if pong.id == 7));
    assert_eq!(end, End::Cut, "an end without a Close frame");
    nothing_is_left(&gateway).await;
    assert_eq!(count(&gateway, "eof"), 1);
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    ann.ws.close(None).await.unwrap();
    while let Some(Ok(message)) = ann.ws.next().await {
        assert!(matches!(message, Message::Close(_)), "{message}");
    }
    nothing_is_left(&gateway).await;
    assert_eq!(count(&gateway, "peer"), 1);
}

#[tokio::test]
async fn resets_are_told_apart() {
    let gateway = alone(&[]);
    let ann = Client::welcomed(&gateway, "user=ann", 1).await;
    let socket = socket2::SockRef::from(ann.ws.get_ref());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(ann);
    nothing_is_left(&gateway).await;
    assert_eq!(count(&gateway, "reset"), 1);
}

#[tokio::test]
async fn a_fin_that_is_never_answered_is_cut_at_the_deadline() {
    let gateway = alone(&[]);
    let mut silent = Client::welcomed(&gateway, "user=silent", 1).await;
    silent
        .ws
        .get_mut()
        .write_all(&text_frame("{"))
        .await
        .unwrap();
    let core = gateway.core();
    eventually("its place is free", || core.registry.is_empty()).await;
    let began = Instant::now();
    nothing_is_left(&gateway).await;
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    let (messages, end) = silent.rest().await;
    assert!(matches!(&messages[..], [ServerMessage::Error(_)]));
    assert_eq!(
        end,
        End::Close(4000, "bad_request".into()),
        "it was there all the time"
    );
}

#[tokio::test]
async fn a_peer_that_never_reads_is_no_burden_at_the_end() {
    let gateway = alone(&[]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(gateway.addresses().client).await.unwrap();
    let stuck = Client::over(stream, "user=stuck&channels=news", &[])
        .await
        .unwrap();
    let metrics = gateway.core().metrics.clone();
    for _ in 0..100 {
        publish(&gateway, "news", json!("x".repeat(8000))).await;
    }
    eventually("it is lagging", || metrics.lagging.get() == 1).await;
    let order = json!({"rate_milli_per_second": 1000, "deadline_ms": 1});
    post(gateway.addresses().admin, "/v1/drain", &order).await;
    nothing_is_left(&gateway).await;
    assert_eq!(metrics.lagging.get(), 0);
    assert_eq!(count(&gateway, "drain"), 1);
    drop(stuck);
}

#[tokio::test]
async fn broken_frames_and_half_messages_leave_nothing() {
    let gateway = alone(&[]);
    let whole = text_frame(r#"{"type":"ping","id":1}"#);
    let unmasked = b"\x81\x02{}".to_vec();
    let cases = [(unmasked, Some(1002)), (whole[..7].to_vec(), None)];
    for (wire, code) in cases {
        let mut client = Client::welcomed(&gateway, "user=ann", 1).await;
        client.ws.get_mut().write_all(&wire).await.unwrap();
        if let Some(code) = code {
            assert!(matches!(client.rest().await.1, End::Close(got, _) if got == code));
        }
        drop(client);
        nothing_is_left(&gateway).await;
    }
    assert_eq!(
        (count(&gateway, "protocol"), count(&gateway, "eof")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_message_in_pieces_is_one_message() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    for byte in text_frame(r#"{"type":"ping","id":9}"#) {
        ann.ws.get_mut().write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let ServerMessage::Pong(pong) = ann.next().await else {
        panic!("no pong")
    };
    assert_eq!(pong.id, 9);
}

#[tokio::test]
async fn a_session_is_replaced_on_whatever_shard_it_is() {
    let gateway = alone(&["--shards", "4", "--max-connections", "1"]);
    let mut all = vec![Client::welcomed(&gateway, "user=ann", 1).await];
    // The gateway is full; only who replaces its own is let in.
    for _ in 0..12 {
        let query = format!("resume={}", all[0].resume_token);
        all.push(Client::welcomed(&gateway, &query, 1).await);
    }
    // However often it comes back, the session has two connections: the newest, and the one that it replaced.
    // An ending is counted before its place is free.
    eventually("all but two have ended", || {
        count(&gateway, "replaced") == 11 && gateway.core().registry.len() == 2
    })
    .await;
    let mut last = all.pop().unwrap();
    for mut old in all {
        assert_eq!(old.rest().await.1, End::Close(4004, "replaced".into()));
    }
    assert_eq!(last.ping(1).await.id, 1);
    assert_eq!(count(&gateway, "replaced"), 12);
}

#[tokio::test]
async fn a_burst_that_no_shard_can_take_in_time_arrives_whole() {
    const BURST: i64 = 20_000;
    let gateway = alone(&["--shards", "3", "--history-max-per-channel", "30000"]);
    let mut clients = Vec::new();
    for n in 0..6 {
        clients.push(Client::welcomed(&gateway, &format!("user=u{n}&channels=news"), 2).await);
    }
    let channel = ChannelName::new("news").unwrap();
    for n in 1..=BURST {
        let message = NewMessage {
            channel: channel.clone(),
            id: n.to_string(),
            time: sluice_gateway::auth::now_millis(),
            data: n.to_string().into(),
        };
        gateway.core().broker.publish(message).await.unwrap();
    }
    let reading = clients.into_iter().map(|mut client| async move {
        for n in 1..=BURST {
            assert_eq!(client.data(1).await, [n]);
        }
    });
    futures::future::join_all(reading).await;
    assert_eq!(gateway.core().metrics.gaps.get(), 0);
}

/// A masked text frame; the mask is nothing but zeros, so the text is readable on the wire.
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()).unwrap() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 0x7e);
            frame.extend(long.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
