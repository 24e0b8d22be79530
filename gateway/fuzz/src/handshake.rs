//! Effects (sockets): the target of the opening handshake. Whatever comes in, a 101 is only for a request that has the right
//! to it (RFC 6455 section 4.2.1); everything else gets a client error in HTTP, or the end.
#![allow(clippy::unwrap_used, clippy::panic)]

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::exchange;
use crate::suite::wire;

/// Panics when an answer is not one of those.
pub fn run(bytes: &[u8]) {
    let answer = exchange::handshake(bytes);
    if answer.is_empty() {
        return;
    }
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an answer's head ends");
    let head = std::str::from_utf8(&answer[..end]).expect("an answer's head is text");
    let status: u16 = head
        .get(9..12)
        .and_then(|s| s.parse().ok())
        .expect("a status");
    if status == 101 {
        check_upgrade(bytes, head);
        check_frames(&answer[end + 4..]);
    } else {
        assert!(
            (400..500).contains(&status)
                || status == 505
                || asked_for_something_else(bytes, status),
            "status {status}"
        );
    }
}

/// `GET /v1/assign` is the port's only other answer.
fn asked_for_something_else(bytes: &[u8], status: u16) -> bool {
    status == 200 && bytes.windows(10).any(|part| part == b"/v1/assign")
}

fn check_upgrade(request: &[u8], answer: &str) {
    // Empty lines before a request are skipped (RFC 9112 section 2.2).
    let start = request
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap_or(0);
    let request = &request[start..];
    let end = request.windows(2).enumerate().find_map(|(at, two)| {
        let rest = &request[at..];
        (two == b"\n\n" || rest.starts_with(b"\n\r\n")).then_some(at)
    });
    let head = String::from_utf8_lossy(&request[..end.expect("a whole head")]).into_owned();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    assert!(
        first.starts_with("GET ") && first.ends_with(" HTTP/1.1"),
        "upgraded: {first}"
    );
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let all = |name: &str| -> Vec<&str> {
        headers
            .iter()
            .filter(|(header, _)| header == name)
            .map(|(_, value)| *value)
            .collect()
    };
    let lists = |name: &str, word: &str| {
        all(name)
            .iter()
            .flat_map(|v| v.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    assert!(lists("upgrade", "websocket"), "upgraded without Upgrade");
    assert!(
        lists("connection", "upgrade"),
        "upgraded without Connection"
    );
    assert_eq!(
        all("sec-websocket-version"),
        ["13"],
        "upgraded in another version"
    );
    assert_eq!(all("host").len(), 1, "upgraded without a Host");
    let keys = all("sec-websocket-key");
    assert!(
        matches!(keys[..], [key] if is_key(key)),
        "upgraded with {keys:?}"
    );
    let accept = format!(
        "sec-websocket-accept: {}",
        derive_accept_key(keys[0].as_bytes())
    );
    assert!(answer.lines().any(|line| line == accept), "{answer}");
}

/// 16 bytes in base64: 22 of its characters and its padding.
fn is_key(key: &str) -> bool {
    let of_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(of_alphabet)
}

fn check_frames(mut bytes: &[u8]) {
    while let Some((_, length)) = wire::read(bytes).unwrap_or_else(|rule| panic!("{rule}")) {
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "a cut frame");
}
