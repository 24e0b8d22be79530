//! Pure: cases of sections 5.5, 5.5.2 and 5.5.3: pings and pongs.

use super::case::{Case, PROTOCOL, Step, answer, ask, case, fails, send};
use super::wire::{Frame, Length, PING, PONG, ping, pong};

pub fn cases() -> Vec<Case> {
    let echoed = |name: &str, payload: Vec<u8>| {
        case(
            name,
            "5.5.2",
            [send(&[ping(payload.clone())]), Step::Pong(payload)],
        )
    };
    let numbered: Vec<Vec<u8>> = (0..100_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let pings: Vec<Frame> = numbered.iter().map(|n| ping(n.clone())).collect();
    let mut cases = vec![
        echoed("an empty ping", Vec::new()),
        echoed("a ping with text", b"hello".to_vec()),
        echoed("a ping that is not UTF-8", vec![0xff, 0xfe, 0x00, 0xc0]),
        echoed("a ping with every byte up to 125", (0..125).collect()),
        case(
            "a hundred pings in one write",
            "5.5.3",
            [send(&pings), Step::Pongs(numbered.clone())],
        ),
        case(
            "a hundred pings, each waited for",
            "5.5.3",
            pings
                .iter()
                .zip(&numbered)
                .flat_map(|(ping, payload)| [Step::Send(ping.bytes()), Step::Pong(payload.clone())])
                .collect::<Vec<_>>(),
        ),
        case(
            "an unasked pong is not answered",
            "5.5.3",
            [send(&[pong("x"), ask(1)]), answer(1)],
        ),
        case(
            "an empty unasked pong",
            "5.5.3",
            [send(&[pong(""), ask(1)]), answer(1)],
        ),
        case(
            "a pong of 125 bytes",
            "5.5",
            [send(&[pong([7; 125]), ask(1)]), answer(1)],
        ),
        case(
            "a hundred unasked pongs, then a ping",
            "5.5.3",
            [
                send(&[vec![pong("x"); 100], vec![ping("y")]].concat()),
                Step::Pong(b"y".to_vec()),
            ],
        ),
        case(
            "a ping between messages",
            "5.5.2",
            [
                send(&[ask(1), ping("x"), ask(2)]),
                answer(1),
                Step::Pong(b"x".to_vec()),
                answer(2),
            ],
        ),
    ];
    for (kind, opcode) in [("ping", PING), ("pong", PONG)] {
        for bytes in [126, 127, 1000, 16_384] {
            cases.push(fails(
                format!("a {kind} of {bytes} bytes"),
                "5.5",
                &[Frame::new(opcode, vec![0x2a; bytes])],
                PROTOCOL,
            ));
        }
    }
    cases.push(fails(
        "a ping of 126 bytes with a length of 64 bits",
        "5.5",
        &[ping([0x2a; 126]).length(Length::Bits64)],
        PROTOCOL,
    ));
    cases
}
