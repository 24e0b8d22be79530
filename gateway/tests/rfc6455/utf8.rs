//! Pure: cases of sections 5.6 and 8.1: text is UTF-8, over fragments, and nothing else is text.

use super::case::{Case, NOT_UTF8, Step, answer, case, fails, send};
use super::fragments::split;
use super::wire::{continuation, ping, question, text};

/// Strings that are easily taken for wrong.
const GOOD: &[(&str, &str)] = &[
    ("two bytes each", "\u{80}\u{7ff}κόσμε"),
    ("three bytes each", "\u{800}日本\u{d7ff}\u{e000}"),
    ("four bytes each", "\u{10000}😀\u{10ffff}"),
    ("noncharacters", "\u{ffff}\u{fffe}\u{1fffe}\u{fdd0}"),
    ("a byte order mark", "\u{feff}x"),
    ("the replacement character", "\u{fffd}"),
    ("combining characters", "e\u{301}\u{327}"),
];

/// Byte sequences that are no UTF-8 (RFC 3629).
const BAD: &[(&str, &[u8])] = &[
    ("a lone continuation byte", &[0x80]),
    ("a lone continuation byte, the highest", &[0xbf]),
    ("a slash in two bytes", &[0xc0, 0xaf]),
    ("the highest overlong two bytes", &[0xc1, 0xbf]),
    ("a slash in three bytes", &[0xe0, 0x80, 0xaf]),
    ("the highest overlong three bytes", &[0xe0, 0x9f, 0xbf]),
    ("a slash in four bytes", &[0xf0, 0x80, 0x80, 0xaf]),
    ("the highest overlong four bytes", &[0xf0, 0x8f, 0xbf, 0xbf]),
    ("the first surrogate", &[0xed, 0xa0, 0x80]),
    ("the last surrogate", &[0xed, 0xbf, 0xbf]),
    ("a surrogate pair", &[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]),
    ("beyond U+10FFFF", &[0xf4, 0x90, 0x80, 0x80]),
    ("five bytes", &[0xf8, 0x88, 0x80, 0x80, 0x80]),
    ("a byte that is never used, FE", &[0xfe]),
    ("a byte that is never used, FF", &[0xff]),
    ("two of three bytes", &[0xe2, 0x82]),
    ("three of four bytes", &[0xf0, 0x9f, 0x98]),
    ("a start byte followed by ASCII", &[0xc3, 0x28]),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, string) in GOOD {
        cases.extend(good(name, string));
    }
    for (name, bytes) in BAD {
        cases.extend(bad(name, bytes));
    }
    cases.push(case(
        "a ping may come in the middle of a character",
        "5.4",
        {
            let message = question(1, "€");
            let at = message.len() - 4;
            let mut frames = split(&message, &[at]);
            frames.insert(1, ping("x"));
            [
                send(&frames),
                Step::Pong(b"x".to_vec()),
                Step::Answer(1, "€".into()),
            ]
        },
    ));
    cases.push(case(
        "wrong bytes in a later message do not touch the first",
        "8.1",
        [
            send(&[text(question(1, "")), text([b'"', 0xff, b'"'])]),
            answer(1),
            Step::Close(NOT_UTF8),
            Step::End,
        ],
    ));
    cases
}

fn good(name: &str, string: &str) -> [Case; 2] {
    let message = question(1, string);
    let every: Vec<usize> = (1..message.len()).collect();
    let said = || Step::Answer(1, string.to_owned());
    [
        case(
            format!("good text: {name}"),
            "8.1",
            [send(&[text(message.clone())]), said()],
        ),
        case(
            format!("good text, cut inside characters: {name}"),
            "5.6",
            [send(&split(&message, &every)), said()],
        ),
    ]
}

fn bad(name: &str, bytes: &[u8]) -> [Case; 4] {
    let message = [b"{\"type\":\"ping\",\"id\":1,\"ref\":\"", bytes, b"\"}"].concat();
    let at = message.len() - 2 - bytes.len();
    let last = [b"\"".as_slice(), bytes].concat();
    let every: Vec<usize> = (1..message.len()).collect();
    [
        fails(
            format!("bad text: {name}"),
            "8.1",
            &[text(message.clone())],
            NOT_UTF8,
        ),
        fails(
            format!("bad text at the end of a message: {name}"),
            "8.1",
            &[text(last)],
            NOT_UTF8,
        ),
        fails(
            format!("bad text in single bytes: {name}"),
            "8.1",
            &split(&message, &every),
            NOT_UTF8,
        ),
        // Both to fail at once and to fail with the last fragment are right.
        fails(
            format!("bad text before the last fragment: {name}"),
            "8.1",
            &[
                text(&message[..=at]).unfinished(),
                continuation(&message[at + 1..]),
            ],
            NOT_UTF8,
        ),
    ]
}
