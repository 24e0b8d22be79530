//! Pure: cases of sections 5.5.1 and 7: close codes, close handshakes from both sides, frames after a Close.

use super::case::{
    Case, NOT_UTF8, PROTOCOL, Step, TOO_BIG, UNSUPPORTED, answer, ask, case, fails, send,
};
use super::wire::{CLOSE, Frame, Length, NO_CODE, binary, close, continuation, ping, text};

/// Codes a client may send, each echoed. Slices, because a case's codes outlive it.
const GOOD: &[&[u16]] = &[
    &[1000],
    &[1001],
    &[1002],
    &[1003],
    &[1007],
    &[1008],
    &[1009],
    &[1010],
    &[1011],
    &[1012],
    &[1013],
    &[3000],
    &[3999],
    &[4000],
    &[4999],
];

/// Codes nobody may send: below the range, reserved for local use, undefined, beyond the range.
const BAD: &[u16] = &[
    0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65_535,
];

pub fn cases() -> Vec<Case> {
    [codes(), bodies(), handshakes(), afterwards()].concat()
}

fn codes() -> Vec<Case> {
    let mut cases: Vec<Case> = GOOD
        .iter()
        .map(|codes| {
            fails(
                format!("close with {}", codes[0]),
                "7.4",
                &[close(codes[0], b"")],
                codes,
            )
        })
        .collect();
    cases.extend(BAD.iter().map(|code| {
        fails(
            format!("close with {code}"),
            "7.4",
            &[close(*code, b"")],
            PROTOCOL,
        )
    }));
    // Registered after the RFC; a server that does not know it yet may refuse it.
    cases.push(fails(
        "close with 1014",
        "7.4",
        &[close(1014, b"")],
        &[1014, 1002],
    ));
    cases
}

fn bodies() -> Vec<Case> {
    let reason = |text: &[u8]| close(1000, text);
    vec![
        fails(
            "close without a body",
            "5.5.1",
            &[Frame::new(CLOSE, "")],
            &[NO_CODE, 1000],
        ),
        fails(
            "close with a body of one byte",
            "5.5.1",
            &[Frame::new(CLOSE, [3])],
            PROTOCOL,
        ),
        fails("close with a reason", "5.5.1", &[reason(b"done")], &[1000]),
        fails(
            "close with a reason of 123 bytes",
            "5.5.1",
            &[reason(&[b'x'; 123])],
            &[1000],
        ),
        fails(
            "close with a reason of 124 bytes",
            "5.5",
            &[reason(&[b'x'; 124])],
            PROTOCOL,
        ),
        fails(
            "close with a reason of 4000 bytes",
            "5.5",
            &[reason(&[b'x'; 4000])],
            PROTOCOL,
        ),
        fails(
            "close with a reason beyond ASCII",
            "5.5.1",
            &[reason("κόσμε".as_bytes())],
            &[1000],
        ),
        fails(
            "close with a reason that is not UTF-8",
            "5.5.1",
            &[reason(&[0xff, 0xfe])],
            NOT_UTF8,
        ),
        fails(
            "close with a reason cut inside a character",
            "5.5.1",
            &[reason(&[b'x', 0xe2, 0x82])],
            NOT_UTF8,
        ),
        fails(
            "close with a surrogate",
            "5.5.1",
            &[reason(&[0xed, 0xa0, 0x80])],
            NOT_UTF8,
        ),
        case(
            "close with a length of 16 bits",
            "5.2",
            [
                send(&[reason(b"").length(Length::Bits16)]),
                Step::Close(&[1000, 1002]),
                Step::End,
            ],
        ),
    ]
}

fn handshakes() -> Vec<Case> {
    let bad = || send(&[binary("x")]);
    vec![
        fails(
            "the client closes, the server ends the connection first",
            "7.1.1",
            &[close(1000, b"")],
            &[1000],
        ),
        case(
            "what came before the Close is answered",
            "5.5.1",
            [
                send(&[ask(1), ping("x"), close(1001, b"")]),
                answer(1),
                Step::Pongs(vec![b"x".to_vec()]),
                Step::Close(&[1001]),
                Step::End,
            ],
        ),
        case(
            "the server closes, the client answers",
            "7.1.2",
            [
                bad(),
                Step::Close(UNSUPPORTED),
                send(&[close(1003, b"")]),
                Step::End,
            ],
        ),
        case(
            "the server closes, the client answers without a body",
            "7.1.2",
            [
                bad(),
                Step::Close(UNSUPPORTED),
                send(&[Frame::new(CLOSE, "")]),
                Step::End,
            ],
        ),
        case(
            "the server closes, the client ends without an answer",
            "7.1.4",
            [bad(), Step::Close(UNSUPPORTED), Step::Fin, Step::End],
        ),
        case(
            "the server closes, the client resets",
            "7.1.4",
            [bad(), Step::Close(UNSUPPORTED), Step::Reset],
        ),
        case(
            "both close at the same time",
            "7.1.2",
            [
                send(&[binary("x"), close(1000, b"")]),
                Step::Close(UNSUPPORTED),
                Step::End,
            ],
        ),
    ]
}

fn afterwards() -> Vec<Case> {
    let done = || close(1000, b"");
    let after = |name: &str, frames: &[Frame]| {
        let all = [&[done()], frames].concat();
        fails(name, "5.5.1", &all, &[1000])
    };
    vec![
        after("a ping after Close is not answered", &[ping("x")]),
        after("a message after Close is not answered", &[ask(1)]),
        after("a second Close is not answered", &[close(1001, b"")]),
        after(
            "nonsense after Close does not matter",
            &[Frame::new(0x7, "x").reserved(7).unmasked()],
        ),
        after("100 KB after Close", &vec![text(vec![b'x'; 10_000]); 10]),
        case(
            "frames after the server's Close are read and dropped",
            "7.1.7",
            [
                send(&[binary("x")]),
                Step::Close(UNSUPPORTED),
                send(&[ask(1), ping("x"), Frame::new(0x7, "x")]),
                Step::End,
            ],
        ),
        // Closing a socket that holds unread bytes makes the kernel send a reset, which destroys the Close frame.
        fails(
            "the Close arrives although more was sent than is read",
            "7.1.1",
            &[vec![binary("x")], vec![text(vec![b'x'; 10_000]); 20]].concat(),
            UNSUPPORTED,
        ),
        fails(
            "the Close arrives although the announced payload follows",
            "7.1.1",
            &[
                vec![text(vec![b'x'; 60_000])],
                vec![continuation(vec![b'x'; 10_000]); 10],
            ]
            .concat(),
            TOO_BIG,
        ),
    ]
}
