//! Scenarios: what the client port does with requests that are wrong, hostile, too slow or too many.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, End, PATIENCE, Refused, alone, eventually};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use sluice_gateway::Gateway;
use sluice_gateway::handshake::metrics::Check;
use sluice_gateway::limits;
use sluice_protocol::ServerMessage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const UPGRADE: &str = "host: gateway\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const BROWSER: [(&str, &str); 1] = [("origin", "https://app.example")];

fn connect(query: &str, more: &str) -> String {
    format!("GET /v1/connect?{query} HTTP/1.1\r\n{UPGRADE}{more}\r\n")
}

#[tokio::test]
async fn requests_that_are_wrong_are_answered_and_the_socket_ends() {
    let gateway = alone(&[]);
    let long = "x".repeat(40_000);
    let many = "a: b\r\n".repeat(65);
    let good = connect("user=ann", "");
    let cases = [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".into(), 400),
        ("GET / HTTP/9.9\r\n\r\n".into(), 400),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (connect("user=ann", &format!("x: {long}\r\n")), 431),
        (connect("user=ann", &many), 431),
        (connect("user=ann", "bad name: x\r\n"), 400),
        (good.replace("host: gateway\r\n", ""), 400),
        (connect("user=ann", "host: other\r\n"), 400),
        (connect("user=ann", "content-length: 3\r\n") + "abc", 400),
        (
            connect("user=ann", "transfer-encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        (
            connect(
                "user=ann",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            400,
        ),
        (good.replace("dGhl", "dG"), 400),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 426),
        (good.replace("version: 13", "version: 12"), 426),
        (good.replace("websocket\r\n", "h2c\r\n"), 426),
        (good.replace("GET", "POST"), 405),
        (good.replace("/v1/connect", "/v1/other"), 404),
        (
            connect(&format!("user=ann&x={}", "y".repeat(7000)), ""),
            400,
        ),
        (connect("token=x", ""), 401),
    ];
    for (request, status) in cases {
        let shown = &request[..request.len().min(120)];
        let answer = whole_answer(&gateway, &[request.as_bytes()]).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{shown:?}: {answer}"
        );
    }
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn what_follows_a_refused_request_does_not_destroy_its_answer() {
    let gateway = alone(&[]);
    let garbage = vec![0xA5; 200_000];
    for request in [
        connect("", ""),
        connect("", "").repeat(50),
        connect("user=ann", "").replace("GET", "PUT"),
    ] {
        let answer = whole_answer(&gateway, &[request.as_bytes(), &garbage]).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).expect("one whole answer");
        assert!(body["code"].is_string());
    }
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_not_lost() {
    let gateway = alone(&[]);
    // A masked text frame `{"type":"ping","id":7}`, its mask zero.
    let ping = br#"{"type":"ping","id":7}"#;
    let frame = [&[0x81, 0x80 | ping.len() as u8, 0, 0, 0, 0], &ping[..]].concat();
    let mut stream = open(&gateway).await;
    let request = [connect("user=ann", "").as_bytes(), &frame].concat();
    stream.write_all(&request).await.unwrap();
    let mut read = Vec::new();
    let pong = async {
        while !String::from_utf8_lossy(&read).contains(r#""id":7"#) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
    };
    tokio::time::timeout(PATIENCE, pong).await.expect("no pong");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let gateway = alone(&[]);
    let mut silent = open(&gateway).await;
    let mut dripping = open(&gateway).await;
    silent.write_all(b"GET /v1/con").await.unwrap();
    let began = Instant::now();
    let drip = async {
        for byte in connect("user=ann", &format!("x: {}\r\n", "y".repeat(4000))).bytes() {
            if dripping.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("was never cut off");
    };
    drip.await;
    assert!(began.elapsed() < 2 * limits::HANDSHAKE_TIMEOUT);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    eventually("both are counted", || {
        gateway
            .core()
            .metrics
            .render()
            .contains(r#"sluice_handshakes_total{result="timeout"} 2"#)
    })
    .await;
    assert_eq!(gateway.core().handshakes_in_progress(), 0);
}

#[tokio::test]
async fn slow_heads_are_hurried_while_places_are_scarce() {
    let gateway = alone(&[]);
    let taken = limits::HANDSHAKES_IN_PROGRESS - limits::HANDSHAKES_CROWDED_BELOW;
    let places = gateway.core().handshakes.clone();
    for (others, patience) in [
        (0, limits::HANDSHAKE_HEADER_TIMEOUT),
        (taken, limits::HANDSHAKE_HEADER_TIMEOUT_CROWDED),
    ] {
        let _others = places
            .clone()
            .acquire_many_owned(others as u32)
            .await
            .unwrap();
        let mut slow = open(&gateway).await;
        slow.write_all(b"GET /").await.unwrap();
        let began = Instant::now();
        let _ = slow.read(&mut [0; 1]).await;
        let (least, most) = (patience.mul_f64(0.9), patience + Duration::from_secs(3));
        assert!(
            (least..most).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn without_a_place_for_the_handshake_newcomers_are_told_when_to_come() {
    let gateway = alone(&[]);
    let core = gateway.core();
    let all = core
        .handshakes
        .clone()
        .acquire_many_owned(limits::HANDSHAKES_IN_PROGRESS as u32);
    let all = all.await.unwrap();
    for _ in 0..20 {
        let answer = whole_answer(&gateway, &[connect("user=ann", "").as_bytes()]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let (least, most) = limits::RETRY_AFTER_SECONDS;
        let wait = body["retry_after_ms"].as_u64().unwrap();
        assert!((least * 1000..=most * 1000).contains(&wait), "{wait}");
    }
    drop(all);
    Client::welcomed(&gateway, "user=ann", 1).await;
}

#[tokio::test]
async fn a_users_connections_are_limited_and_a_resume_is_no_new_one() {
    let gateway = alone(&["--max-connections-per-user", "2"]);
    let one = Client::welcomed(&gateway, "user=ann", 1).await;
    let two = Client::welcomed(&gateway, "user=ann", 1).await;
    limited(&gateway, "user=ann", &[], 429).await;
    Client::welcomed(&gateway, "user=bob", 1).await;
    let again = Client::welcomed(&gateway, &format!("resume={}", one.resume_token), 1).await;
    drop((one, two, again));
    let metrics = gateway.core().metrics.clone();
    eventually("they are gone", || metrics.connections.get() == 0).await;
    Client::welcomed(&gateway, "user=ann", 1).await;
}

#[tokio::test]
async fn a_resume_token_without_its_connection_is_a_new_one() {
    let gateway = alone(&["--max-connections-per-user", "1"]);
    let metrics = gateway.core().metrics.clone();
    let token = Client::welcomed(&gateway, "user=ann", 1).await.resume_token;
    eventually("it is gone", || metrics.connections.get() == 0).await;
    let _other = Client::welcomed(&gateway, "user=ann", 1).await;
    limited(&gateway, &format!("resume={token}"), &[], 429).await;
}

#[tokio::test]
async fn rates_of_users_addresses_and_everybody() {
    let gateway = alone(&["--handshakes-per-minute-per-user", "2"]);
    for _ in 0..2 {
        Client::welcomed(&gateway, "user=ann", 1).await;
    }
    limited(&gateway, "user=ann", &[], 429).await;
    Client::welcomed(&gateway, "user=bob", 1).await;

    let gateway = alone(&[
        "--handshakes-per-minute-per-address",
        "2",
        "--trusted-proxy-hops",
        "1",
    ]);
    let from = |address| [("x-forwarded-for", address)];
    for claimed in ["192.0.2.1", "198.51.100.7, 192.0.2.1"] {
        Client::try_connect(&gateway, "user=ann", &from(claimed))
            .await
            .unwrap();
    }
    let refused = limited(&gateway, "", &from("203.0.113.9, 192.0.2.1"), 429).await;
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .contains("address"),
        "before credentials"
    );
    Client::try_connect(&gateway, "user=ann", &from("192.0.2.2"))
        .await
        .unwrap();

    let gateway = alone(&["--handshakes-per-second", "1"]);
    Client::welcomed(&gateway, "user=ann", 1).await;
    let refused = Client::try_connect(&gateway, "user=bob", &BROWSER)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (503, Some("overload"))
    );
    assert!(refused.retry_after.is_some());
}

#[tokio::test]
async fn connections_from_one_address_are_limited() {
    let gateway = alone(&["--max-connections-per-address", "1"]);
    let ann = Client::welcomed(&gateway, "user=ann", 1).await;
    // Without trusted proxies the header proves nothing.
    limited(
        &gateway,
        "user=bob",
        &[("x-forwarded-for", "192.0.2.9")],
        429,
    )
    .await;
    let metrics = gateway.core().metrics.clone();
    drop(ann);
    eventually("it is gone", || metrics.connections.get() == 0).await;
    Client::welcomed(&gateway, "user=bob", 1).await;
}

#[tokio::test]
async fn who_says_too_much_is_told_and_closed() {
    let gateway = alone(&["--client-messages-per-second", "1"]);
    let mut ann = Client::welcomed(&gateway, "user=ann", 1).await;
    for _ in 0..=limits::MESSAGE_BURST_SECONDS {
        ann.text(r#"{"type":"ack","seq":0}"#).await;
    }
    told(&mut ann, 1013, "rate_limited", true).await;
    let resume = format!("resume={}", ann.resume_token);
    let mut again = Client::welcomed(&gateway, &resume, 1).await;
    again.text(r#"{"type":"ack","seq":0}"#).await;
    told(&mut again, 1013, "rate_limited", true).await;
    assert!(
        gateway
            .core()
            .metrics
            .render()
            .contains(r#"sluice_disconnects_total{reason="limited"} 2"#)
    );
}

#[tokio::test]
async fn a_resume_token_takes_no_look_at_a_signature() {
    let gateway = alone(&[]);
    let metrics = &gateway.core().metrics.handshakes;
    let mut client = Client::welcomed(&gateway, "user=ann", 1).await;
    for round in 1..=5 {
        client = Client::welcomed(&gateway, &format!("resume={}", client.resume_token), 1).await;
        let of = |check| metrics.checks(check);
        assert_eq!((of(Check::Resume), of(Check::Name)), (round, 1));
        assert_eq!((of(Check::Signature), of(Check::Cached)), (0, 0));
    }
}

#[test]
fn no_bytes_in_any_pieces_make_it_fail_or_hang() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let gateway = alone(&["--max-connections-per-address", "100000"]);
    let heads = prop_oneof![
        Just(connect("user=ann&channels=a,b@e:7", "")),
        Just(connect("", "origin: https://app.example\r\n")),
        Just(connect(
            "user=ann",
            "x-forwarded-for: 1.2.3.4\r\nsec-websocket-protocol: sluice.v1.json\r\n"
        )),
        Just("GET /v1/assign HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()),
    ];
    let hostile = (
        heads,
        proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        proptest::collection::vec(any::<u8>(), 0..120),
        proptest::collection::vec(any::<u16>(), 0..6),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Cases::with_cases(1000));
    let result = runner.run(&hostile, |(head, changes, tail, cuts, bare)| {
        let mut bytes = if bare { Vec::new() } else { head.into_bytes() };
        for (at, byte) in changes {
            let at = at as usize % bytes.len().max(1);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.extend(tail);
        let mut cuts: Vec<_> = cuts
            .iter()
            .map(|cut| *cut as usize % (bytes.len() + 1))
            .collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        let answer = runtime.block_on(whole_answer(&gateway, &pieces));
        prop_assert!(
            answer.is_empty() || answer.starts_with("HTTP/1."),
            "{answer}"
        );
        Ok(())
    });
    result.unwrap();
    runtime.block_on(async {
        nothing_is_left(&gateway).await;
        Client::welcomed(&gateway, "user=ann", 1).await;
    });
}

#[tokio::test]
async fn a_request_may_be_cut_anywhere() {
    let gateway = alone(&[]);
    let request = connect("user=ann", "");
    for cut in 0..request.len() {
        let mut stream = open(&gateway).await;
        for piece in [&request[..cut], &request[cut..]] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101", "cut at {cut}");
    }
}

async fn open(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.addresses().client)
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends pieces, then FIN, and reads to the end; what was read must end with FIN, not with a reset.
async fn whole_answer(gateway: &Gateway, pieces: &[&[u8]]) -> String {
    let (mut read, mut write) = open(gateway).await.into_split();
    let sending = async {
        for piece in pieces {
            // The other side may have heard enough.
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let mut answer = Vec::new();
    let both = async { tokio::join!(sending, read.read_to_end(&mut answer)) };
    let ((), ended) = tokio::time::timeout(PATIENCE, both).await.expect("hung");
    ended.expect("the answer ends in order");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn nothing_is_left(gateway: &Gateway) {
    let core = gateway.core();
    eventually("nothing is left", || {
        core.handshakes_in_progress() == 0
            && core.metrics.connections.get() == 0
            && core.registry.lingering() == 0
    })
    .await;
}

/// A limit answers programs by status and browsers by frames, both with a wait.
async fn limited(gateway: &Gateway, query: &str, headers: &[(&str, &str)], status: u16) -> Refused {
    let mut browser = Client::try_connect(gateway, query, &[headers, &BROWSER[..]].concat())
        .await
        .unwrap();
    told(&mut browser, 1013, "rate_limited", true).await;
    let refused = Client::try_connect(gateway, query, headers)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (status, Some("rate_limited"))
    );
    let wait = refused.body["retry_after_ms"].as_u64().unwrap();
    let header: u64 = refused.retry_after.clone().unwrap().parse().unwrap();
    assert!(
        wait > 0 && header == wait.div_ceil(1000),
        "{wait} ms, {header} s"
    );
    refused
}

async fn told(client: &mut Client, close: u16, code: &str, with_wait: bool) {
    let (messages, end) = client.rest().await;
    assert!(matches!(end, End::Close(got, _) if got == close), "{end:?}");
    let error = messages.iter().find_map(|message| match message {
        ServerMessage::Error(error) => Some((error.code.as_str(), error.retry_after_ms.is_some())),
        _ => None,
    });
    assert_eq!(error, Some((code, with_wait)));
}
