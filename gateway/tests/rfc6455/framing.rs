//! Pure: cases of sections 5.1 to 5.3 and 5.6: masks, reserved bits, opcodes, lengths, text and binary.

use super::case::{Case, PROTOCOL, Step, TOO_BIG, UNSUPPORTED, answer, ask, case, fails, send};
use super::wire::{
    BINARY, CONTINUATION, Frame, Length, PING, PONG, TEXT, binary, close, continuation, ping,
    question, question_of, text,
};

pub fn cases() -> Vec<Case> {
    [masks(), reserved_bits(), opcodes(), lengths(), kinds()].concat()
}

fn masks() -> Vec<Case> {
    let zeros = ask(2).masked_with([0; 4]);
    let ones = ask(3).masked_with([0xff; 4]);
    vec![
        case("masked text", "5.3", [send(&[ask(1)]), answer(1)]),
        case(
            "a mask of zeros",
            "5.3",
            [send(std::slice::from_ref(&zeros)), answer(2)],
        ),
        case(
            "each frame has its own mask",
            "5.3",
            [
                send(&[ask(1), zeros, ones]),
                answer(1),
                answer(2),
                answer(3),
            ],
        ),
        fails("unmasked text", "5.1", &[ask(1).unmasked()], PROTOCOL),
        fails(
            "unmasked empty text",
            "5.1",
            &[text("").unmasked()],
            PROTOCOL,
        ),
        fails(
            "unmasked binary",
            "5.1",
            &[binary("x").unmasked()],
            PROTOCOL,
        ),
        fails("unmasked ping", "5.1", &[ping("x").unmasked()], PROTOCOL),
        fails(
            "unmasked close",
            "5.1",
            &[close(1000, b"").unmasked()],
            PROTOCOL,
        ),
        fails(
            "unmasked continuation",
            "5.1",
            &[text("{").unfinished(), continuation("}").unmasked()],
            PROTOCOL,
        ),
        case(
            "unmasked after masked",
            "5.1",
            [
                send(&[ask(1), ask(2).unmasked()]),
                answer(1),
                Step::Close(PROTOCOL),
                Step::End,
            ],
        ),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let mut cases: Vec<Case> = (1..8)
        .map(|bits| {
            fails(
                format!("reserved bits {bits:03b} on text"),
                "5.2",
                &[ask(1).reserved(bits)],
                PROTOCOL,
            )
        })
        .collect();
    for bits in [1, 2, 4] {
        let started = text("{").unfinished();
        cases.extend([
            fails(
                format!("reserved bits {bits:03b} on ping"),
                "5.2",
                &[ping("x").reserved(bits)],
                PROTOCOL,
            ),
            fails(
                format!("reserved bits {bits:03b} on close"),
                "5.2",
                &[close(1000, b"").reserved(bits)],
                PROTOCOL,
            ),
            fails(
                format!("reserved bits {bits:03b} on continuation"),
                "5.2",
                &[started, continuation("}").reserved(bits)],
                PROTOCOL,
            ),
        ]);
    }
    cases.push(case(
        "a reserved bit after a good message, a ping behind it",
        "5.2",
        [
            send(&[ask(1), ask(2).reserved(2), ping("x")]),
            answer(1),
            Step::Close(PROTOCOL),
            Step::End,
        ],
    ));
    cases
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        cases.extend([
            fails(
                format!("opcode {opcode:#x}, empty"),
                "5.2",
                &[Frame::new(opcode, "")],
                PROTOCOL,
            ),
            fails(
                format!("opcode {opcode:#x}, with payload"),
                "5.2",
                &[Frame::new(opcode, "x")],
                PROTOCOL,
            ),
            fails(
                format!("opcode {opcode:#x}, unfinished"),
                "5.2",
                &[Frame::new(opcode, "x").unfinished()],
                PROTOCOL,
            ),
        ]);
    }
    cases.push(case(
        "a reserved opcode after a good message",
        "5.2",
        [
            send(&[ask(1), Frame::new(0x5, "x")]),
            answer(1),
            Step::Close(PROTOCOL),
            Step::End,
        ],
    ));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases: Vec<Case> = [22, 124, 125, 126, 127, 128, 255, 256, 4095, 16_383, 16_384]
        .map(|bytes| {
            case(
                format!("a message of {bytes} bytes"),
                "5.2",
                [send(&[text(question_of(1, bytes))]), answer(1)],
            )
        })
        .into();
    // The RFC binds who writes ("the minimal number of bytes MUST be used") and does not say what a reader does about it.
    for (name, length) in [("16", Length::Bits16), ("64", Length::Bits64)] {
        cases.extend([
            case(
                format!("a short message with a length of {name} bits"),
                "5.2",
                [
                    send(&[ask(1).length(length)]),
                    Step::AnswerOrClose(1, PROTOCOL),
                ],
            ),
            case(
                format!("an empty last fragment with a length of {name} bits"),
                "5.2",
                [
                    send(&[ask(1).unfinished(), continuation("").length(length)]),
                    Step::AnswerOrClose(1, PROTOCOL),
                ],
            ),
        ]);
    }
    cases.push(case(
        "a message of 200 bytes with a length of 64 bits",
        "5.2",
        [
            send(&[text(question_of(1, 200)).length(Length::Bits64)]),
            Step::AnswerOrClose(1, PROTOCOL),
        ],
    ));
    cases.extend(announced());
    cases
}

/// Lengths beyond the limit, of which only the header comes: refused on the header alone.
fn announced() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [
        16_385,
        65_535,
        65_536,
        1 << 20,
        i32::MAX as u64,
        1 << 32,
        // Its low 32 bits are a small length.
        (1 << 32) + 5,
        1 << 40,
        i64::MAX as u64,
    ] {
        for (kind, opcode) in [("text", TEXT), ("binary", BINARY)] {
            cases.push(fails(
                format!("{length} bytes of {kind} announced, none sent"),
                "10.4",
                &[Frame::new(opcode, "").length(Length::Announced(length))],
                TOO_BIG,
            ));
        }
    }
    for (name, length) in [
        ("top bit alone", 1 << 63),
        ("all bits", u64::MAX),
        ("top bit and 5", (1 << 63) + 5),
    ] {
        cases.push(fails(
            format!("a length of 64 bits: {name}"),
            "5.2",
            &[text("").length(Length::Announced(length))],
            &[1002, 1009],
        ));
    }
    for (kind, opcode) in [
        ("ping", PING),
        ("pong", PONG),
        ("continuation", CONTINUATION),
    ] {
        cases.push(fails(
            format!("{kind} of 2^40 bytes announced, none sent"),
            "10.4",
            &[Frame::new(opcode, "").length(Length::Announced(1 << 40))],
            &[1002, 1009],
        ));
    }
    cases.push(case(
        "the limit is exceeded behind a good message",
        "10.4",
        [
            send(&[ask(1), text("").length(Length::Announced(1 << 33))]),
            answer(1),
            Step::Close(TOO_BIG),
            Step::End,
        ],
    ));
    cases.push(fails(
        "a message one byte over the limit, sent whole",
        "10.4",
        &[text(question_of(1, 16_385))],
        TOO_BIG,
    ));
    cases
}

fn kinds() -> Vec<Case> {
    let json = question(1, "");
    vec![
        fails("binary", "5.6", &[binary(json.clone())], UNSUPPORTED),
        fails("empty binary", "5.6", &[binary("")], UNSUPPORTED),
        fails(
            "binary that is not UTF-8 is no bad text",
            "5.6",
            &[binary([0xff, 0xfe])],
            UNSUPPORTED,
        ),
        fails(
            "binary in two fragments",
            "5.6",
            &[binary("a").unfinished(), continuation("b")],
            UNSUPPORTED,
        ),
        case(
            "text, then binary",
            "5.6",
            [
                send(&[ask(1), binary(json)]),
                answer(1),
                Step::Close(UNSUPPORTED),
                Step::End,
            ],
        ),
        fails(
            "empty text is no message of the subprotocol",
            "5.6",
            &[text("")],
            &[4000],
        ),
        fails("text that is not JSON", "5.6", &[text("hello")], &[4000]),
    ]
}
