//! Scenarios: every wrong request gets its documented error and close code.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Client, End, alone, call, config, eventually, memory, post};
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};
use sluice_gateway::Gateway;
use sluice_gateway::config::{KeySource, TokenConfig};
use sluice_protocol::ServerMessage;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn refused_upgrades() {
    let gateway = alone(&[]);
    let many: Vec<_> = (0..128).map(|n| format!("c{n}")).collect();
    let many = format!("user=ann&channels={}", many.join(","));
    let cases = [
        ("/nope", 404, "not_found"),
        ("", 401, "unauthorized"),
        ("token=nonsense", 401, "unauthorized"),
        ("resume=nonsense", 401, "unauthorized"),
        ("user=ann&channels=user:bob", 403, "forbidden"),
        ("user=ann&channels=news@7", 400, "bad_request"),
        ("user=ann&channels=%ff", 400, "bad_request"),
        (&many, 400, "too_many_channels"),
    ];
    for (query, status, code) in cases {
        let refused = Client::try_connect(&gateway, query, &[])
            .await
            .err()
            .unwrap();
        assert_eq!(
            (refused.status, refused.body["code"].as_str()),
            (status, Some(code)),
            "{query}"
        );
        assert!(refused.body["message"].as_str().unwrap().len() > 10);
    }
    let refused = Client::try_connect(&gateway, "user=ann", &[("sec-websocket-protocol", "mqtt")])
        .await
        .err()
        .unwrap();
    assert_eq!(refused.status, 400);
    let plain = reqwest::get(format!(
        "http://{}/v1/connect?user=ann",
        gateway.addresses().client
    ))
    .await
    .unwrap();
    assert_eq!(
        (
            plain.status().as_u16(),
            plain.headers()["upgrade"].to_str().unwrap()
        ),
        (426, "websocket")
    );
    let assign = reqwest::get(format!("http://{}/v1/assign", gateway.addresses().client))
        .await
        .unwrap();
    assert_eq!(assign.headers()["access-control-allow-origin"], "*");
    assert_eq!(assign.text().await.unwrap(), r#"{"retry_after_ms":0}"#);
}

#[tokio::test]
async fn browsers_are_told_by_frames() {
    let gateway = alone(&[]);
    let cases = [
        ("", 4001, "unauthorized"),
        ("resume=nonsense", 4001, "unauthorized"),
        ("user=ann&channels=user:bob", 4003, "forbidden"),
        ("user=ann&channels=news@7", 4000, "bad_request"),
    ];
    for (query, close, code) in cases {
        let mut client = Client::try_connect(&gateway, query, &[("origin", "https://app.example")])
            .await
            .unwrap();
        assert_ended(&mut client, close, Some(code)).await;
    }
}

#[tokio::test]
async fn wrong_messages_close_with_their_codes() {
    let gateway = alone(&[]);
    let big = format!("\"{}\"", "x".repeat(20_000));
    let cases = [
        ("{", 4000, "bad_request"),
        ("{}", 4000, "bad_request"),
        (r#"{"type":"shout"}"#, 4002, "unknown_message"),
        (r#"{"type":"subscribe","channel":""}"#, 4000, "bad_request"),
        (r#"{"type":"ack","seq":9}"#, 4000, "bad_request"),
        (
            r#"{"type":"resume","resume_token":"x"}"#,
            1008,
            "unauthorized",
        ),
        (r#"{"type":"refresh","token":"x"}"#, 1008, "unauthorized"),
        (&big, 1009, "too_big"),
    ];
    for (text, close, code) in cases {
        let mut client = Client::welcomed(&gateway, "user=ann", 1).await;
        client.text(text).await;
        assert_ended(&mut client, close, Some(code)).await;
    }
    let mut client = Client::welcomed(&gateway, "user=ann", 1).await;
    futures::SinkExt::send(&mut client.ws, Message::binary(vec![1]))
        .await
        .unwrap();
    assert_ended(&mut client, 1003, None).await;
}

#[tokio::test]
async fn some_mistakes_do_not_end_a_connection() {
    let gateway = alone(&[]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    ann.text(r#"{"type":"subscribe","channel":"user:bob","ref":"x"}"#)
        .await;
    assert!(
        matches!(ann.next().await, ServerMessage::Error(e) if e.code.as_str() == "forbidden" && e.reference.is_some())
    );
    for n in 0..127 {
        ann.text(&format!(r#"{{"type":"subscribe","channel":"c{n}"}}"#))
            .await;
        assert!(matches!(ann.next().await, ServerMessage::Subscribed(_)));
    }
    ann.text(r#"{"type":"subscribe","channel":"one-more"}"#)
        .await;
    assert!(
        matches!(ann.next().await, ServerMessage::Error(e) if e.code.as_str() == "too_many_channels")
    );
}

#[tokio::test]
async fn login_tokens_are_checked() {
    let secret = b"a secret of the application";
    let mut config = config(&[]);
    config.dev = false;
    config.tokens = Some(TokenConfig {
        source: KeySource::Hmac(secret.to_vec()),
        issuer: Some("app".into()),
        audience: Some("sluice".into()),
    });
    let gateway = Gateway::start(config, memory()).unwrap();
    let token = |claims: &Value, key: &[u8]| {
        encode(&Header::default(), claims, &EncodingKey::from_secret(key)).unwrap()
    };
    let soon = sluice_gateway::auth::now_seconds() + 60;
    let claims = json!({"sub": "ann", "exp": soon, "iss": "app", "aud": "sluice"});
    let good = token(&claims, secret);
    Client::welcomed(&gateway, &format!("token={good}"), 1).await;
    let header = format!("Bearer {good}");
    Client::try_connect(&gateway, "", &[("authorization", &header)])
        .await
        .unwrap()
        .read_welcome(1)
        .await;
    let protocol = format!("sluice.v1.json, bearer.{good}");
    Client::try_connect(&gateway, "", &[("sec-websocket-protocol", &protocol)])
        .await
        .unwrap()
        .read_welcome(1)
        .await;

    let with = |key: &str, value: Value| {
        let mut changed = claims.clone();
        changed[key] = value;
        token(&changed, secret)
    };
    let cases = [
        (token(&claims, b"another secret"), "unauthorized"),
        (with("exp", json!(soon - 3600)), "expired"),
        (with("iss", json!("other")), "unauthorized"),
        (with("aud", json!("other")), "unauthorized"),
        (with("sub", json!("")), "unauthorized"),
        (with("nbf", json!(soon + 3600)), "unauthorized"),
        (
            good.replacen(
                "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9",
                "eyJhbGciOiJub25lIn0",
                1,
            ),
            "unauthorized",
        ),
    ];
    for (token, code) in cases {
        let refused = Client::try_connect(&gateway, &format!("token={token}"), &[])
            .await
            .err()
            .unwrap();
        assert_eq!(
            (refused.status, refused.body["code"].as_str()),
            (401, Some(code)),
            "{}",
            refused.body
        );
    }
    let refused = Client::try_connect(&gateway, "user=ann", &[])
        .await
        .err()
        .unwrap();
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn credentials_that_expire_end_the_connection() {
    let secret = b"a secret of the application";
    let mut config = config(&[]);
    config.tokens = Some(TokenConfig {
        source: KeySource::Hmac(secret.to_vec()),
        issuer: None,
        audience: None,
    });
    let gateway = Gateway::start(config, memory()).unwrap();
    let until = |seconds: u64| {
        let claims = json!({"sub": "ann", "exp": sluice_gateway::auth::now_seconds() + seconds});
        encode(
            &Header::default(),
            &claims,
            &EncodingKey::from_secret(secret),
        )
        .unwrap()
    };
    let mut short = Client::welcomed(&gateway, &format!("token={}", until(2)), 1).await;
    let mut refreshed = Client::welcomed(&gateway, &format!("token={}", until(2)), 1).await;
    refreshed
        .text(&format!(
            r#"{{"type":"refresh","token":"{}","ref":"r"}}"#,
            until(600)
        ))
        .await;
    assert!(matches!(refreshed.next().await, ServerMessage::Refreshed(r) if r.reference.is_some()));
    assert_ended(&mut short, 1008, Some("expired")).await;
    assert_eq!(refreshed.ping(1).await.id, 1);
}

#[tokio::test]
async fn internal_ports_need_their_keys() {
    let mut config = config(&[]);
    config.keys.admin = Some("the admin key".into());
    config.keys.publish = Some("the publish key".into());
    let gateway = Gateway::start(config, memory()).unwrap();
    let at = gateway.addresses();
    let message = json!({"channel": "a", "data": 1});
    assert_eq!(post(at.publish, "/v1/publish", &message).await.0, 401);
    assert_eq!(
        call(Method::GET, at.admin, "/v1/drain", &json!({})).await.0,
        401
    );
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(
            call(Method::GET, at.admin, path, &json!({})).await.0,
            200,
            "{path}"
        );
    }
    let send = async |key: &str| {
        let url = format!("http://{}/v1/publish", at.publish);
        reqwest::Client::new()
            .post(url)
            .bearer_auth(key)
            .body(message.to_string())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        (send("the publish key").await, send("the admin key").await),
        (200, 401)
    );
}

#[tokio::test]
async fn wrong_publishes() {
    let gateway = alone(&[]);
    let address = gateway.addresses().publish;
    let cases = [
        (json!({"data": 1}), 400, "bad_request"),
        (json!({"channel": "a"}), 400, "bad_request"),
        (json!({"channel": "", "data": 1}), 400, "bad_channel"),
        (
            json!({"channel": "a", "data": 1, "id": ""}),
            400,
            "bad_request",
        ),
        (
            json!({"channel": "a", "data": "x".repeat(17_000)}),
            413,
            "too_big",
        ),
        (
            json!({"channel": "a", "data": "x".repeat(90_000)}),
            413,
            "too_big",
        ),
    ];
    for (body, status, code) in cases {
        let (got, answer) = post(address, "/v1/publish", &body).await;
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)));
    }
    assert_eq!(
        call(Method::GET, address, "/v1/publish", &json!({}))
            .await
            .1["code"],
        "method_not_allowed"
    );
    assert_eq!(
        post(address, "/nope", &json!({})).await.1["code"],
        "not_found"
    );
}

#[tokio::test]
async fn a_full_gateway_says_when_to_come_back() {
    let gateway = alone(&["--max-connections", "1", "--breaker-open-seconds", "1"]);
    let ann = Client::welcomed(&gateway, "user=ann", 1).await;
    let refused = Client::try_connect(&gateway, "user=bob", &[("origin", "https://app.example")])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (503, Some("overload"))
    );
    assert!(refused.retry_after.unwrap().parse::<u32>().unwrap() >= 1);
    let mut again = Client::welcomed(&gateway, &format!("resume={}", ann.resume_token), 1).await;
    assert_eq!(
        again.ping(1).await.id,
        1,
        "it replaces its own connection, so there is room"
    );
    drop((ann, again));
    let metrics = gateway.core().metrics.clone();
    eventually("there is room", || {
        metrics.connections.get() == 0 && metrics.breaker.state.get() < 2
    })
    .await;
    Client::welcomed(&gateway, "user=bob", 1).await;
}

#[tokio::test]
async fn a_peer_that_answers_no_probe_is_closed() {
    let gateway = alone(&[
        "--heartbeat-server-seconds",
        "1",
        "--heartbeat-server-timeout-seconds",
        "1",
    ]);
    let metrics = gateway.core().metrics.clone();
    let mut alive = Client::welcomed(&gateway, "user=alive", 1).await;
    let dead = Client::welcomed(&gateway, "user=dead", 1).await;
    // Reading answers the server's Ping frames; `dead` is never read.
    let reading = tokio::spawn(async move { alive.rest().await.1 });
    eventually("the silent peer is gone", || metrics.connections.get() == 1).await;
    assert!(
        metrics
            .render()
            .contains(r#"sluice_disconnects_total{reason="heartbeat"} 1"#)
    );
    assert!(!reading.is_finished());
    drop(dead);
}

async fn assert_ended(client: &mut Client, close: u16, code: Option<&str>) {
    let (messages, end) = client.rest().await;
    assert!(
        matches!(end, End::Close(got, _) if got == close),
        "{end:?} instead of {close}"
    );
    let error = messages.iter().find_map(|message| match message {
        ServerMessage::Error(error) => Some(error.code.as_str()),
        _ => None,
    });
    assert_eq!(error, code);
}
