//! Effects: the client against a server on loopback whose every frame is written by the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use sluice_client::{Client, Ended, Event, Resume, fixed};
use sluice_protocol::{ClientMessage, CloseCode, Seq};
use support::{Peer, Server, event, offset};
use tokio::sync::mpsc;

/// A server with one client that is welcomed, follows its channels and has `news` up to offset 5.
async fn connected() -> (Server, Peer, Client, mpsc::Receiver<Event>) {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.accept().await;
    assert_eq!(peer.bearer.as_deref(), Some("Bearer login"));
    assert_eq!(peer.query.channels.len(), 1);
    peer.welcome("r1").await;
    assert_eq!(peer.next().await, ClientMessage::Ack { seq: Seq::START });
    assert!(matches!(
        event(&mut events).await,
        Event::Welcome { resumed: false, .. }
    ));
    peer.subscribed("news", 5, false).await;
    peer.subscribed("user:ann", 0, false).await;
    for _ in 0..2 {
        assert!(matches!(event(&mut events).await, Event::Subscribed { .. }));
    }
    (server, peer, client, events)
}

#[tokio::test]
async fn messages_come_once_and_half_a_window_is_acknowledged() {
    let (_server, mut peer, client, mut events) = connected().await;
    peer.message(1, 6).await;
    peer.message(2, 6).await;
    peer.message(3, 9).await;
    assert_eq!(offset(&mut events).await, 6);
    assert_eq!(offset(&mut events).await, 9);
    assert_eq!(peer.next().await, ClientMessage::Ack { seq: Seq::new(2) });
    let stop = tokio::spawn(client.stop());
    assert_eq!(peer.next().await, ClientMessage::Ack { seq: Seq::new(3) });
    assert_eq!(peer.closed().await, 1000);
    stop.await.unwrap();
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_was() {
    let (server, mut peer, _client, mut events) = connected().await;
    peer.message(1, 6).await;
    assert_eq!(offset(&mut events).await, 6);
    drop(peer);
    assert!(matches!(
        event(&mut events).await,
        Event::Disconnected { .. }
    ));
    let mut peer = server.accept().await;
    assert_eq!(peer.query.resume.as_deref(), Some("r1"));
    assert_eq!(peer.bearer, None);
    let news = peer
        .query
        .channels
        .iter()
        .find(|s| s.channel.as_str() == "news")
        .unwrap();
    assert_eq!(news.after.as_ref().unwrap().to_string(), "e:6");
    peer.welcome("r2").await;
    peer.subscribed("news", 6, true).await;
    peer.message(1, 7).await;
    assert!(matches!(
        event(&mut events).await,
        Event::Welcome {
            resumed: true,
            moved: false,
            ..
        }
    ));
    assert_eq!(offset(&mut events).await, 7);
}

#[tokio::test]
async fn a_migration_delivers_throughout_and_drops_repeats() {
    let (server, mut old, _client, mut events) = connected().await;
    old.send(r#"{"type":"migrate","reason":"drain","not_before_ms":1,"deadline_ms":10000}"#)
        .await;
    let mut new = server.accept().await;
    old.message(1, 6).await;
    assert_eq!(offset(&mut events).await, 6);
    new.welcome("r2").await;
    assert!(matches!(
        event(&mut events).await,
        Event::Welcome { moved: true, .. }
    ));
    new.subscribed("news", 5, true).await;
    new.message(1, 6).await;
    new.message(2, 7).await;
    assert_eq!(offset(&mut events).await, 7);
    old.message(2, 7).await;
    new.subscribed("user:ann", 0, true).await;
    assert!(matches!(event(&mut events).await, Event::Migrated { .. }));
    assert_eq!(old.closed().await, 1000);
    new.message(3, 8).await;
    assert_eq!(offset(&mut events).await, 8);
}

#[tokio::test]
async fn a_failed_migration_leaves_the_old_connection_alone() {
    let (server, mut old, _client, mut events) = connected().await;
    old.send(r#"{"type":"migrate","reason":"drain","not_before_ms":1,"deadline_ms":10000}"#)
        .await;
    server
        .refuse(
            503,
            r#"{"code":"draining","message":"","retry_after_ms":1}"#,
        )
        .await;
    old.message(1, 6).await;
    assert_eq!(offset(&mut events).await, 6);
    let mut new = server.accept().await;
    new.welcome("r2").await;
    assert!(matches!(
        event(&mut events).await,
        Event::Welcome { moved: true, .. }
    ));
    // The old one ends before the new one has everything: there is still no break.
    old.close(1012).await;
    assert!(matches!(event(&mut events).await, Event::Migrated { .. }));
    new.subscribed("news", 6, true).await;
    new.message(1, 7).await;
    assert_eq!(offset(&mut events).await, 7);
}

#[tokio::test]
async fn a_drained_connection_is_resumed_at_once() {
    let (server, mut peer, _client, mut events) = connected().await;
    peer.close(1012).await;
    let reason = Ended::Closed(CloseCode::Drained);
    assert_eq!(event(&mut events).await, Event::Disconnected { reason });
    server.accept().await.welcome("r2").await;
    assert!(matches!(
        event(&mut events).await,
        Event::Welcome { resumed: true, .. }
    ));
}

#[tokio::test]
async fn refused_credentials_end_the_session_after_a_full_login() {
    let (server, mut peer, _client, mut events) = connected().await;
    peer.close(1008).await;
    assert!(matches!(
        event(&mut events).await,
        Event::Disconnected { .. }
    ));
    server
        .refuse(401, r#"{"code":"unauthorized","message":""}"#)
        .await;
    let reason = Ended::Refused {
        status: 401,
        retry_after: None,
    };
    assert_eq!(event(&mut events).await, Event::Stopped { reason });
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn another_address_is_tried_when_one_fails() {
    let dead = Server::start().await;
    let server = Server::start().await;
    let mut config = server.config();
    config.urls = fixed([dead.url.clone(), server.url.clone()]);
    drop(dead);
    let (_client, mut events) = Client::start(config);
    server.accept().await.welcome("r1").await;
    assert!(matches!(event(&mut events).await, Event::Welcome { .. }));
}

#[tokio::test]
async fn channels_come_and_go() {
    let (_server, mut peer, client, mut events) = connected().await;
    let sport = sluice_protocol::ChannelName::new("sport").unwrap();
    client.subscribe(sport.clone()).await;
    assert!(
        matches!(peer.next().await, ClientMessage::Subscribe { channel, after: None, .. } if channel == sport)
    );
    peer.subscribed("sport", 3, false).await;
    assert!(matches!(event(&mut events).await, Event::Subscribed { .. }));
    client.unsubscribe(sport.clone()).await;
    assert!(
        matches!(peer.next().await, ClientMessage::Unsubscribe { channel, .. } if channel == sport)
    );
}

#[tokio::test]
async fn what_the_application_kept_is_asked_for_after_a_restart() {
    let (server, mut peer, client, mut events) = connected().await;
    let mut kept = Resume::default();
    peer.message(1, 6).await;
    peer.message(2, 7).await;
    // The application handles the first message and dies.
    kept.apply(&event(&mut events).await);
    drop((client, events, peer));
    let mut config = server.config();
    config.resume = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    let (_client, mut events) = Client::start(config);
    let mut peer = server.accept().await;
    assert_eq!(
        peer.query.channels[0].after.as_ref().unwrap().to_string(),
        "e:6"
    );
    peer.welcome("r2").await;
    peer.subscribed("news", 6, true).await;
    peer.message(1, 7).await;
    assert!(matches!(event(&mut events).await, Event::Welcome { .. }));
    assert_eq!(offset(&mut events).await, 7);
}

#[tokio::test]
async fn a_slow_application_gets_everything_and_acknowledges_as_it_takes() {
    let server = Server::start().await;
    let mut config = server.config();
    config.events = 1;
    let (_client, mut events) = Client::start(config);
    let mut peer = server.accept().await;
    peer.welcome("r1").await;
    assert_eq!(peer.next().await, ClientMessage::Ack { seq: Seq::START });
    peer.subscribed("news", 0, false).await;
    for n in 1..=8_u32 {
        peer.message(n, u64::from(n)).await;
    }
    // One event is in the channel and one waits before it; the rest waits in the socket.
    assert!(matches!(event(&mut events).await, Event::Welcome { .. }));
    assert!(matches!(event(&mut events).await, Event::Subscribed { .. }));
    for n in 1..=8 {
        assert_eq!(offset(&mut events).await, n);
    }
    for n in [2, 4, 6, 8] {
        assert_eq!(peer.next().await, ClientMessage::Ack { seq: Seq::new(n) });
    }
}
