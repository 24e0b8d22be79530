//! Scenarios: connections leave at the ordered pace, in a drain that may be taken back and after SIGTERM.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, End, alone, call, eventually, post, publish};
use reqwest::Method;
use serde_json::{Value, json};
use sluice_gateway::Gateway;
use sluice_protocol::ServerMessage;

async fn crowd(gateway: &Gateway, count: usize) -> Vec<Client> {
    let connecting = (0..count).map(|n| async move {
        Client::welcomed(gateway, &format!("user=u{n}&channels=news"), 2).await
    });
    futures::future::join_all(connecting).await
}

fn order(transitions: u64, rate: u64, deadline_ms: u64) -> Value {
    let term = json!({"lease": "uid-1", "transitions": transitions});
    json!({"term": term, "reason": "node-drain", "rate_milli_per_second": rate, "deadline_ms": deadline_ms})
}

#[tokio::test]
async fn migrates_come_at_the_rate_and_are_counted_when_followed() {
    let gateway = alone(&[]);
    let clients = crowd(&gateway, 20).await;
    let began = Instant::now();
    let (status, answer) = post(
        gateway.addresses().admin,
        "/v1/drain",
        &order(1, 20_000, 60_000),
    )
    .await;
    assert_eq!(
        (
            status,
            answer["state"].as_str(),
            answer["connections"].as_u64()
        ),
        (200, Some("draining"), Some(20))
    );
    let leaving = clients.into_iter().map(|mut client| async move {
        let ServerMessage::Migrate(migrate) = client.next().await else {
            panic!("not asked to go")
        };
        assert_eq!(
            (migrate.reason.as_str(), migrate.deadline_ms),
            ("node_drain", 10_000)
        );
        let at = began.elapsed();
        client.ws.close(None).await.unwrap();
        at
    });
    let mut times = futures::future::join_all(leaving).await;
    times.sort();
    assert!(
        times[19] >= Duration::from_millis(850),
        "20 at 20 per second took {:?}",
        times[19]
    );
    let in_half_a_second = times
        .iter()
        .filter(|t| **t <= Duration::from_millis(500))
        .count();
    assert!(
        in_half_a_second <= 13,
        "{in_half_a_second} of 20 in the first half second"
    );
    let core = gateway.core();
    eventually("all have left", || core.registry.is_empty()).await;
    let (_, answer) = call(
        Method::GET,
        gateway.addresses().admin,
        "/v1/drain",
        &json!({}),
    )
    .await;
    assert_eq!(
        (answer["moved"].as_u64(), answer["ready"].as_bool()),
        (Some(20), Some(true))
    );
}

#[tokio::test]
async fn newcomers_are_refused_until_the_drain_is_taken_back() {
    let gateway = alone(&[]);
    let admin = gateway.addresses().admin;
    let mut stays = Client::welcomed(&gateway, "user=stays&channels=news", 2).await;
    post(admin, "/v1/drain", &order(1, 20_000, 60_000)).await;
    assert!(matches!(stays.next().await, ServerMessage::Migrate(_)));
    let refused = Client::try_connect(&gateway, "user=new", &[])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (503, Some("draining"))
    );
    assert!(refused.retry_after.is_some());
    assert_eq!(call(Method::GET, admin, "/readyz", &json!({})).await.0, 200);
    let assign = reqwest::get(format!("http://{}/v1/assign", gateway.addresses().client))
        .await
        .unwrap();
    let wait: Value = serde_json::from_str(&assign.text().await.unwrap()).unwrap();
    assert!(wait["retry_after_ms"].as_u64().unwrap() > 0);

    let (status, answer) = call(
        Method::DELETE,
        admin,
        "/v1/drain",
        &json!({"term": {"lease": "uid-1", "transitions": 1}}),
    )
    .await;
    assert_eq!(
        (
            status,
            answer["state"].as_str(),
            answer["deadline_in_ms"].is_null()
        ),
        (200, Some("serving"), true)
    );
    Client::welcomed(&gateway, "user=new", 1).await;
    publish(&gateway, "news", json!(1)).await;
    assert_eq!(stays.data(1).await, [1], "who was asked to go may stay");
    assert_eq!(
        call(Method::GET, admin, "/v1/drain", &json!({})).await.1["moved"],
        0
    );
}

#[tokio::test]
async fn the_deadline_closes_with_1012() {
    let gateway = alone(&[]);
    let mut clients = crowd(&gateway, 3).await;
    post(gateway.addresses().admin, "/v1/drain", &order(1, 1, 300)).await;
    for client in &mut clients {
        assert_eq!(client.rest().await.1, End::Close(1012, "drained".into()));
    }
}

#[tokio::test]
async fn who_ignores_migrate_is_closed_with_1012() {
    let gateway = alone(&[]);
    let mut deaf = Client::welcomed(&gateway, "user=deaf", 1).await;
    post(
        gateway.addresses().admin,
        "/v1/drain",
        &order(1, 100_000, 60_000),
    )
    .await;
    let began = Instant::now();
    let (messages, end) = deaf.rest().await;
    assert!(matches!(messages[..], [ServerMessage::Migrate(_)]));
    assert_eq!(end, End::Close(1012, "drained".into()));
    assert!(began.elapsed() >= Duration::from_secs(9));
    assert_eq!(gateway.core().drain.moved(), 1);
}

#[tokio::test]
async fn former_leaders_are_fenced_off() {
    let gateway = alone(&[]);
    let admin = gateway.addresses().admin;
    assert_eq!(
        post(admin, "/v1/drain", &order(3, 1000, 60_000)).await.0,
        200
    );
    let (status, answer) = post(admin, "/v1/drain", &order(2, 9000, 60_000)).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("stale_term")));
    let other = json!({"term": {"lease": "uid-2", "transitions": 2}});
    assert_eq!(
        call(Method::DELETE, admin, "/v1/drain", &other).await.0,
        409
    );
    let (_, answer) = post(admin, "/v1/drain", &order(3, 2000, 50_000)).await;
    assert_eq!(answer["rate_milli_per_second"], 2000);
}

#[tokio::test]
async fn sigterm_moves_everybody_and_ends() {
    let gateway = alone(&[
        "--grace-period-seconds",
        "30",
        "--endpoint-lag-seconds",
        "1",
    ]);
    let clients = crowd(&gateway, 30).await;
    let core = gateway.core().clone();
    let began = Instant::now();
    let ending = tokio::spawn(gateway.terminate());
    eventually("no longer ready", || !core.is_ready()).await;
    assert!(
        core.drain.accepts(),
        "endpoints lag behind, so newcomers are still taken"
    );
    let leaving = clients.into_iter().map(|mut client| async move {
        let ServerMessage::Migrate(migrate) = client.next().await else {
            panic!("not asked to go")
        };
        client.ws.close(None).await.unwrap();
        migrate.reason
    });
    let reasons = futures::future::join_all(leaving).await;
    assert!(reasons.iter().all(|reason| reason == "shutdown"));
    assert!(
        began.elapsed() >= Duration::from_millis(1900),
        "20 per second at least, and no faster than needed"
    );
    tokio::time::timeout(Duration::from_secs(5), ending)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(core.drain.moved(), 30);
}

#[tokio::test]
async fn a_drained_gateway_serves_publishers_while_endpoints_lag() {
    let gateway = alone(&["--endpoint-lag-seconds", "1"]);
    let (admin, port) = (gateway.addresses().admin, gateway.addresses().publish);
    post(admin, "/v1/drain", &order(1, 1000, 60_000)).await;
    let core = std::sync::Arc::clone(gateway.core());
    let ending = tokio::spawn(gateway.terminate());
    eventually("it is about to end", || core.is_exiting()).await;
    let url = format!("http://{port}/v1/publish");
    let answer = reqwest::Client::new()
        .post(url)
        .body(r#"{"channel":"news","data":1}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close");
    tokio::time::timeout(Duration::from_secs(5), ending)
        .await
        .unwrap()
        .unwrap();
}
