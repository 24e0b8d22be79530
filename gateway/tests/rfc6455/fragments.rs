//! Pure: cases of section 5.4: fragmentation, control frames between fragments, limits over fragments.

use super::case::{Case, PROTOCOL, Step, TOO_BIG, answer, ask, case, fails, send};
use super::wire::{
    Frame, Length, binary, close, continuation, ping, pong, question, question_of, text,
};

/// A message in fragments that end before these indexes.
pub fn split(message: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let ends = cuts.iter().copied().chain([message.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let mut frames: Vec<Frame> = starts
        .zip(ends)
        .map(|(start, end)| continuation(&message[start..end]).unfinished())
        .collect();
    frames[0].opcode = super::wire::TEXT;
    if let Some(last) = frames.last_mut() {
        last.fin = true;
    }
    frames
}

pub fn cases() -> Vec<Case> {
    [whole(), between(), out_of_order(), limits()].concat()
}

fn whole() -> Vec<Case> {
    let message = question(1, "");
    let each: Vec<usize> = (1..message.len()).collect();
    let mut cases = vec![
        case(
            "one byte per fragment",
            "5.4",
            [send(&split(&message, &each)), answer(1)],
        ),
        case(
            "an empty first fragment",
            "5.4",
            [send(&split(&message, &[0])), answer(1)],
        ),
        case(
            "an empty last fragment",
            "5.4",
            [send(&split(&message, &[message.len()])), answer(1)],
        ),
        case(
            "empty fragments in the middle",
            "5.4",
            [send(&split(&message, &[4, 4, 4, 9])), answer(1)],
        ),
        case(
            "fragments in writes of their own",
            "5.4",
            split(&message, &[5, 11])
                .iter()
                .map(|frame| Step::Send(frame.bytes()))
                .chain([answer(1)])
                .collect::<Vec<_>>(),
        ),
        case(
            "two fragmented messages after one another",
            "5.4",
            [
                send(
                    &[
                        split(&question(1, ""), &[7]),
                        split(&question(2, ""), &[3, 8]),
                    ]
                    .concat(),
                ),
                answer(1),
                answer(2),
            ],
        ),
        case(
            "whole, fragmented, whole",
            "5.4",
            [
                send(&[vec![ask(1)], split(&question(2, ""), &[7]), vec![ask(3)]].concat()),
                answer(1),
                answer(2),
                answer(3),
            ],
        ),
    ];
    for at in 1..message.len() {
        cases.push(case(
            format!("two fragments, cut after byte {at}"),
            "5.4",
            [send(&split(&message, &[at])), answer(1)],
        ));
    }
    cases
}

fn between() -> Vec<Case> {
    let [first, second] = [0, 1].map(|n| split(&question(1, ""), &[9])[n].clone());
    let pinged = |payload: &str| ping(payload.as_bytes());
    vec![
        case(
            "a ping between fragments is answered before the message",
            "5.4",
            [
                send(&[first.clone(), pinged("now"), second.clone()]),
                Step::Pong(b"now".to_vec()),
                answer(1),
            ],
        ),
        case(
            "a ping between fragments is answered before the last fragment comes",
            "5.4",
            [
                send(&[first.clone(), pinged("now")]),
                Step::Pong(b"now".to_vec()),
                send(std::slice::from_ref(&second)),
                answer(1),
            ],
        ),
        case(
            "ping and pong between fragments",
            "5.4",
            [
                send(&[
                    first.clone(),
                    pong("unasked"),
                    pinged("a"),
                    pong(""),
                    second.clone(),
                ]),
                Step::Pong(b"a".to_vec()),
                answer(1),
            ],
        ),
        case(
            "pings around every fragment",
            "5.4",
            [
                send(&[
                    pinged("1"),
                    first.clone(),
                    pinged("2"),
                    second.clone(),
                    pinged("3"),
                ]),
                Step::Pongs(vec![b"1".to_vec(), b"2".to_vec()]),
                answer(1),
                Step::Pong(b"3".to_vec()),
            ],
        ),
        case(
            "a close between fragments ends the connection",
            "5.4",
            [
                send(&[first.clone(), close(1000, b""), second.clone()]),
                Step::Close(&[1000]),
                Step::End,
            ],
        ),
        fails(
            "a fragmented ping",
            "5.5",
            &[ping("a").unfinished(), continuation("b")],
            PROTOCOL,
        ),
        fails(
            "an unfinished pong",
            "5.5",
            &[pong("a").unfinished()],
            PROTOCOL,
        ),
        fails(
            "an unfinished close",
            "5.5",
            &[close(1000, b"").unfinished()],
            PROTOCOL,
        ),
        fails(
            "a fragmented ping between fragments",
            "5.5",
            &[first, ping("a").unfinished(), second],
            PROTOCOL,
        ),
    ]
}

fn out_of_order() -> Vec<Case> {
    let start = || text("{").unfinished();
    vec![
        fails(
            "a continuation of nothing",
            "5.4",
            &[continuation("x")],
            PROTOCOL,
        ),
        fails(
            "an empty continuation of nothing",
            "5.4",
            &[continuation("")],
            PROTOCOL,
        ),
        fails(
            "an unfinished continuation of nothing",
            "5.4",
            &[continuation("x").unfinished()],
            PROTOCOL,
        ),
        case(
            "a continuation after the last fragment",
            "5.4",
            [
                send(&[split(&question(1, ""), &[5]), vec![continuation("x")]].concat()),
                answer(1),
                Step::Close(PROTOCOL),
                Step::End,
            ],
        ),
        case(
            "a continuation after a whole message",
            "5.4",
            [
                send(&[ask(1), continuation("x")]),
                answer(1),
                Step::Close(PROTOCOL),
                Step::End,
            ],
        ),
        fails(
            "text inside a fragmented message",
            "5.4",
            &[start(), ask(1)],
            PROTOCOL,
        ),
        fails(
            "an unfinished text inside a fragmented message",
            "5.4",
            &[start(), start()],
            PROTOCOL,
        ),
        fails(
            "binary inside a fragmented message",
            "5.4",
            &[start(), binary("x")],
            PROTOCOL,
        ),
        fails(
            "text inside fragmented binary",
            "5.4",
            &[binary("x").unfinished(), ask(1)],
            &[1002, 1003],
        ),
        case(
            "a ping does not start a message",
            "5.4",
            [
                send(&[ping("a")]),
                Step::Pong(b"a".to_vec()),
                send(&[continuation("x")]),
                Step::Close(PROTOCOL),
                Step::End,
            ],
        ),
    ]
}

fn limits() -> Vec<Case> {
    let most = 16_384;
    let exact = question_of(1, most);
    let more = question_of(1, most + 1);
    let small_cuts = |length: usize| (1..length).step_by(100).collect::<Vec<_>>();
    vec![
        case(
            "fragments that fill the limit",
            "10.4",
            [send(&split(&exact, &[1, 8000, 16_383])), answer(1)],
        ),
        case(
            "many fragments that fill the limit",
            "10.4",
            [send(&split(&exact, &small_cuts(most))), answer(1)],
        ),
        fails(
            "fragments one byte over the limit",
            "10.4",
            &split(&more, &[8000]),
            TOO_BIG,
        ),
        fails(
            "the byte too many is a fragment of its own",
            "10.4",
            &split(&more, &[most]),
            TOO_BIG,
        ),
        fails(
            "many fragments over the limit",
            "10.4",
            &split(&more, &small_cuts(most + 1)),
            TOO_BIG,
        ),
        fails(
            "fragments over the limit fail before the last one comes",
            "10.4",
            &[
                text(&more[..9000]).unfinished(),
                continuation(&more[..9000]).unfinished(),
            ],
            TOO_BIG,
        ),
        fails(
            "a fragment is announced beyond the limit",
            "10.4",
            &[
                text("{").unfinished(),
                continuation("").length(Length::Announced(1 << 34)),
            ],
            TOO_BIG,
        ),
        case(
            "ten thousand empty fragments",
            "10.4",
            [send(&split(&question(1, ""), &[6; 10_000])), answer(1)],
        ),
    ]
}
