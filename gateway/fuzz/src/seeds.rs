//! Pure: where fuzzing starts: the suite's cases as bytes, and frames of every wire message.

use crate::suite::case::{Case, Step};
use crate::suite::{closing, control, delivery, fragments, framing, opening, utf8};

/// Longest input, bytes. Long enough for a dozen frames; the largest message is tried by the suite.
pub const INPUT_BYTES: usize = 4096;

/// Wire messages and queries as PROTOCOL.md shows them; the first byte picks the reader.
const MESSAGES: &[&str] = &[
    r#"0{"type":"subscribe","channel":"news","after":{"epoch":"e1","offset":7},"ref":"s1"}"#,
    r#"0{"type":"unsubscribe","channel":"news","ref":"u1"}"#,
    r#"0{"type":"ack","seq":128}"#,
    r#"0{"type":"resume","resume_token":"r.1","channels":{"news":{"epoch":"e1","offset":7}}}"#,
    r#"0{"type":"refresh","token":"eyJ","ref":"r1"}"#,
    r#"0{"type":"ping","id":3}"#,
    r#"0{"ref":"x","type":"shout","id":[1,{"a":null}]}"#,
    r#"1{"type":"welcome","connection":"c","user":"ann","resume_token":"t","heartbeat":{"client_ms":15000,"client_timeout_ms":8000,"server_ms":30000},"limits":{"window_messages":256,"window_bytes":262144,"message_bytes":16384}}"#,
    r#"1{"type":"subscribed","channel":"news","epoch":"e1","offset":7,"recovered":true,"ref":"s1"}"#,
    r#"1{"type":"unsubscribed","channel":"news","code":"requested"}"#,
    r#"1{"type":"message","seq":1,"channel":"news","epoch":"e1","offset":8,"time":1700000000000,"data":{"a":[1.5,"\u00e9"]}}"#,
    r#"1{"seq":1,"type":"message","channel":"news","epoch":"e1","offset":8,"time":0,"data":null}"#,
    r#"1{"type":"gap","channel":"news","from":{"epoch":"e1","offset":7},"to":{"epoch":"e2","offset":0}}"#,
    r#"1{"type":"migrate","reason":"drain","not_before_ms":10,"deadline_ms":10000,"url":"wss://a/"}"#,
    r#"1{"type":"pong","id":3,"time":5,"cursors":{"news":{"epoch":"e1","offset":9}}}"#,
    r#"1{"type":"refreshed","expires":1700000000000}"#,
    r#"1{"type":"error","code":"overload","message":"later","retry_after_ms":2000}"#,
    "2channels=a,b@e1:7&token=t&resume=r&user=ann",
    "2channels=a%2540b,%25,caf%C3%A9&channels=x&unknown=1&=&&",
    "2user=user%3Aann+b&channels=a@e.1:9007199254740991",
];

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = match target {
        "handshake" => opening::cases()
            .into_iter()
            .map(|case| case.request)
            .collect(),
        "frames" => [
            framing::cases(),
            fragments::cases(),
            control::cases(),
            utf8::cases(),
            closing::cases(),
            delivery::cases(),
        ]
        .concat()
        .iter()
        .map(bytes)
        .collect(),
        _ => MESSAGES
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect(),
    };
    seeds.retain(|seed| seed.len() <= INPUT_BYTES);
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Everything that a case's client sends.
fn bytes(case: &Case) -> Vec<u8> {
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(bytes) | Step::Slowly(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    sent.collect::<Vec<_>>().concat()
}
