//! Scenarios: who stalls is evicted, and an address whose connections end badly again and again is refused for a while.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Client, End, alone, call, eventually, publish};
use reqwest::Method;
use serde_json::json;
use sluice_gateway::Gateway;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn a_client_that_stalls_is_evicted_by_the_thresholds_of_the_moment() {
    let wide = ["--window-messages", "100000", "--window-bytes", "100000000"];
    let gateway = alone(&wide);
    let mut reader = Client::welcomed(&gateway, "user=ann&channels=news", 2).await;
    let stuck = Client::welcomed(&gateway, "user=bob&channels=news", 2).await;
    // It reads nothing; the other one keeps up.
    let reading = tokio::spawn(async move { reader.rest().await.1 });
    let data = json!("x".repeat(8000));
    let metrics = gateway.core().metrics.clone();
    for _ in 0..200 {
        publish(&gateway, "news", data.clone()).await;
    }
    eventually("it lags", || metrics.lagging.get() == 1).await;
    assert_eq!(
        metrics.health.evictions.get(),
        0,
        "one stall is no reason by default"
    );
    let strict =
        json!({"health": {"stall_seconds": 1, "evict_below": 100, "evict_after_seconds": 0}});
    let (status, _) = call(
        Method::PUT,
        gateway.addresses().admin,
        "/v1/limits",
        &strict,
    )
    .await;
    assert_eq!(status, 200);
    // A look is due when something happens to the connection.
    publish(&gateway, "user:bob", json!(1)).await;
    eventually("the stuck one is evicted", || {
        metrics.health.evictions.get() == 1
    })
    .await;
    eventually("only the reader is left", || metrics.connections.get() == 1).await;
    assert!(!reading.is_finished());
    let text = metrics.render();
    for line in [
        "sluice_disconnects_total{reason=\"slow\"} 1",
        "sluice_health_events_total 1",
        "sluice_wait_seconds_count{on=\"write\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    drop(stuck);
}

#[tokio::test]
async fn late_answers_are_counted_with_those_in_time() {
    let gateway = alone(&["--heartbeat-server-seconds", "1"]);
    let mut client = Client::welcomed(&gateway, "user=ann", 1).await;
    let metrics = gateway.core().metrics.clone();
    // Reading answers probes.
    let reading = tokio::spawn(async move { client.rest().await.1 });
    eventually("a probe is answered", || {
        metrics
            .render()
            .contains("sluice_wait_seconds_count{on=\"answer\"} 1")
    })
    .await;
    assert_eq!(metrics.health.events.get(), 0, "it was in time");
    assert!(!reading.is_finished());
}

#[tokio::test]
async fn an_address_that_breaks_the_protocol_again_and_again_is_refused_for_a_while() {
    let trips = ["--health-trip-evictions", "2", "--health-trip-seconds", "2"];
    let gateway = alone(&trips);
    let peaceful = Client::welcomed(&gateway, "user=ann", 1).await;
    break_framing(&gateway).await;
    Client::welcomed(&gateway, "user=ann", 1).await;
    break_framing(&gateway).await;
    let metrics = gateway.core().metrics.clone();
    eventually("the address is refused", || metrics.health.trips.get() == 1).await;
    let refused = Client::try_connect(&gateway, "user=bob", &[])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (429, Some("rate_limited"))
    );
    assert!(refused.retry_after.unwrap().parse::<u32>().unwrap() >= 1);
    eventually("it is counted", || metrics.health.tripped.get() == 1).await;
    assert_eq!(metrics.connections.get(), 1, "who is connected stays");
    eventually("the pause is over", || metrics.health.tripped.get() == 0).await;
    Client::welcomed(&gateway, "user=bob", 1).await;
    drop(peaceful);
}

#[tokio::test]
async fn addresses_are_nobodys_business_by_default() {
    let gateway = alone(&[]);
    for _ in 0..4 {
        break_framing(&gateway).await;
    }
    Client::welcomed(&gateway, "user=bob", 1).await;
    assert_eq!(gateway.core().metrics.health.trips.get(), 0);
}

/// Sends a frame without a mask, which RFC 6455 section 5.1 forbids clients to do.
async fn break_framing(gateway: &Gateway) {
    let mut client = Client::welcomed(gateway, "user=eve", 1).await;
    client
        .ws
        .get_mut()
        .write_all(&[0x81, 0x01, b'x'])
        .await
        .unwrap();
    let (_, end) = client.rest().await;
    assert!(matches!(end, End::Close(1002, _)), "{end:?}");
}
