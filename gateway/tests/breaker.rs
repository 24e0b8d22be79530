//! Scenarios: newcomers are refused while what they use up is short, what is connected stays, and thresholds change at run time.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, Refused, alone, call, config, memory, publish};
use reqwest::Method;
use serde_json::{Value, json};
use sluice_gateway::Gateway;

const FAST: [&str; 4] = [
    "--breaker-open-seconds",
    "1",
    "--breaker-half-open-seconds",
    "1",
];

/// Ten connections, of which the breaker lets in five.
fn small() -> Gateway {
    let limits = [
        "--max-connections",
        "10",
        "--breaker-connections-percent",
        "50",
        "--breaker-margin-percent",
        "10",
    ];
    alone(&[&limits[..], &FAST].concat())
}

#[tokio::test]
async fn over_the_limit_newcomers_come_back_later_and_nobody_leaves() {
    let gateway = small();
    let mut clients = Vec::new();
    for name in 0..5 {
        clients.push(Client::welcomed(&gateway, &format!("user=u{name}"), 1).await);
    }
    let refused = until_refused(&gateway).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("overload"))
    );
    let wait = refused.body["retry_after_ms"].as_u64().unwrap();
    assert!((1000..=4000).contains(&wait), "{wait}");
    assert_eq!(
        refused.retry_after.unwrap(),
        wait.div_ceil(1000).to_string()
    );
    assert!(assigned(&gateway).await >= 1000, "browsers ask here");

    // Who is connected is served, and may replace its own connection.
    publish(&gateway, "user:u0", json!(1)).await;
    assert_eq!(clients[0].data(1).await, [1]);
    let resume = format!("resume={}", clients[1].resume_token);
    clients[1] = Client::welcomed(&gateway, &resume, 1).await;

    let text = gateway.core().metrics.render();
    for line in [
        "sluice_breaker_state 2",
        "sluice_breaker_cause{cause=\"connections\"} 1",
        "sluice_breaker_cause{cause=\"memory\"} 0",
        "sluice_breaker_opened_total 1",
        "sluice_max_connections 10",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(gateway.core().metrics.breaker.tasks.get() > 5);

    // Two leave: good readings, a few are tried, then everybody is taken.
    clients.truncate(3);
    let late = until_welcomed(&gateway).await;
    assert_eq!(clients[2].ping(7).await.id, 7);
    state(&gateway, 0).await;
    assert_eq!(assigned(&gateway).await, 0);
    drop(late);
}

#[tokio::test]
async fn a_half_open_breaker_tries_only_a_few() {
    let one = ["--breaker-probes-per-second", "1"];
    let slow = [
        "--breaker-open-seconds",
        "1",
        "--breaker-half-open-seconds",
        "600",
    ];
    let gateway = alone(&[&one[..], &slow].concat());
    put(&gateway, &json!({"breaker": {"max_tasks": 1, "open_seconds": 1, "half_open_seconds": 600, "probes_per_second": 1}})).await;
    state(&gateway, 2).await;
    put(
        &gateway,
        &json!({"breaker": {"open_seconds": 1, "half_open_seconds": 600, "probes_per_second": 1}}),
    )
    .await;
    state(&gateway, 1).await;
    // In any one second one is let in: of eight at once at most two, should the second change meanwhile.
    let tries = (0..8).map(|n| {
        let gateway = &gateway;
        async move {
            Client::try_connect(gateway, &format!("user=n{n}"), &[])
                .await
                .is_ok()
        }
    });
    let admitted = futures::future::join_all(tries).await;
    let count = admitted.into_iter().filter(|admitted| *admitted).count();
    assert!((1..=2).contains(&count), "{count}");
    let text = gateway.core().metrics.render();
    assert!(text.contains("sluice_breaker_refusals_total{cause=\"half_open\"}"));
}

#[tokio::test]
async fn thresholds_change_without_a_restart() {
    let gateway = small();
    let ann = Client::welcomed(&gateway, "user=ann", 1).await;
    state(&gateway, 0).await;

    // Too many tasks shuts everybody out, a session's own replacement too.
    let (status, answer) = put(&gateway, &json!({"generation": "g1", "breaker": {"max_tasks": 1, "open_seconds": 1, "half_open_seconds": 1}})).await;
    assert_eq!((status, &answer["limits_generation"]), (200, &json!("g1")));
    state(&gateway, 2).await;
    let resume = format!("resume={}", ann.resume_token);
    let refused = Client::try_connect(&gateway, &resume, &[])
        .await
        .err()
        .unwrap();
    assert_eq!(refused.status, 503);
    assert!(
        gateway
            .core()
            .metrics
            .render()
            .contains("sluice_breaker_cause{cause=\"tasks\"} 1")
    );

    let shown = call(
        Method::GET,
        gateway.addresses().admin,
        "/v1/limits",
        &Value::Null,
    )
    .await
    .1;
    assert_eq!(
        (
            &shown["generation"],
            &shown["breaker"]["max_tasks"],
            &shown["breaker_state"]
        ),
        (&json!("g1"), &json!(1), &json!(2))
    );
    assert_eq!(
        shown["breaker"]["connections_percent"], 95,
        "what is left out is the default"
    );

    // The same again changes nothing; another set does.
    put(&gateway, &json!({"generation": "g1", "breaker": {"max_tasks": 1, "open_seconds": 1, "half_open_seconds": 1}})).await;
    put(
        &gateway,
        &json!({"generation": "g2", "breaker": {"open_seconds": 1, "half_open_seconds": 1}}),
    )
    .await;
    drop(until_welcomed(&gateway).await);
    state(&gateway, 0).await;
    let status = call(
        Method::GET,
        gateway.addresses().admin,
        "/v1/drain",
        &Value::Null,
    )
    .await
    .1;
    assert_eq!(status["limits_generation"], "g2");
}

#[tokio::test]
async fn limits_are_refused_when_they_make_no_sense_or_come_from_a_former_leader() {
    let mut settings = config(&["--limits-generation", "born"]);
    settings.dev = false;
    let gateway = Gateway::start(settings, memory()).unwrap();
    let generation = || gateway.core().tuning.generation();
    let term = |transitions: u64| json!({"lease": "l", "transitions": transitions});
    let cases = [
        (json!({"generation": "x"}), 400),
        (
            json!({"term": term(3), "generation": "x", "breaker": {"memory_percent": 0}}),
            400,
        ),
        (
            json!({"term": term(3), "generation": "x", "health": {"trip_evictions": 1}}),
            400,
        ),
        (json!({"term": term(3), "generation": 7}), 400),
    ];
    for (body, wanted) in cases {
        let (status, answer) = put(&gateway, &body).await;
        assert_eq!(
            (status, &answer["code"]),
            (wanted, &json!("bad_request")),
            "{body}"
        );
    }
    assert_eq!(generation(), "born");
    assert_eq!(
        put(&gateway, &json!({"term": term(3), "generation": "third"}))
            .await
            .0,
        200
    );
    // One fence for all orders: a drain's term counts here, and this one's there.
    let stale = put(&gateway, &json!({"term": term(2), "generation": "second"})).await;
    assert_eq!((stale.0, &stale.1["code"]), (409, &json!("stale_term")));
    let admin = gateway.addresses().admin;
    let drain = call(Method::POST, admin, "/v1/drain", &json!({"term": term(2)})).await;
    assert_eq!(drain.0, 409);
    call(
        Method::DELETE,
        admin,
        "/v1/drain",
        &json!({"term": term(5)}),
    )
    .await;
    assert_eq!(
        put(&gateway, &json!({"term": term(4), "generation": "fourth"}))
            .await
            .0,
        409
    );
    assert_eq!(generation(), "third");
}

async fn put(gateway: &Gateway, body: &Value) -> (u16, Value) {
    call(Method::PUT, gateway.addresses().admin, "/v1/limits", body).await
}

async fn assigned(gateway: &Gateway) -> u64 {
    let answer = call(
        Method::GET,
        gateway.addresses().client,
        "/v1/assign",
        &Value::Null,
    )
    .await;
    answer.1["retry_after_ms"].as_u64().unwrap()
}

/// Waits for the breaker: 0 closed, 1 half-open, 2 open.
async fn state(gateway: &Gateway, wanted: i64) {
    let numbers = gateway.core().metrics.clone();
    common::eventually("the breaker changes", || {
        numbers.breaker.state.get() == wanted
    })
    .await;
}

async fn until_refused(gateway: &Gateway) -> Refused {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match Client::try_connect(gateway, "user=late", &[]).await {
                Err(refused) => return refused,
                Ok(client) => drop(client),
            }
        }
    })
    .await
    .expect("never refused")
}

async fn until_welcomed(gateway: &Gateway) -> Client {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(mut client) = Client::try_connect(gateway, "user=late", &[]).await {
                client.read_welcome(1).await;
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("never welcomed")
}
