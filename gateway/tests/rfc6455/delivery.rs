//! Pure: cases of how bytes arrive: one at a time, many frames together, half-closed, reset. A stream has no segments
//! (section 5.2 knows only bytes), so nothing may depend on them.

use super::case::{Case, Step, answer, ask, case, fails, send};
use super::fragments::split;
use super::wire::{Frame, close, ping, question, question_of, text};

pub fn cases() -> Vec<Case> {
    [apart(), together(), cut_short()].concat()
}

fn apart() -> Vec<Case> {
    let long = text(question_of(2, 300)).bytes();
    let mut cases = vec![
        case(
            "a message byte by byte",
            "5.2",
            [Step::Slowly(ask(1).bytes()), answer(1)],
        ),
        case(
            "a longer message byte by byte",
            "5.2",
            [Step::Slowly(long.clone()), answer(2)],
        ),
        case(
            "a ping byte by byte",
            "5.2",
            [Step::Slowly(ping("x").bytes()), Step::Pong(b"x".to_vec())],
        ),
        case(
            "fragments byte by byte",
            "5.2",
            [
                Step::Slowly(
                    split(&question(1, "é"), &[5, 30])
                        .iter()
                        .flat_map(Frame::bytes)
                        .collect(),
                ),
                Step::Answer(1, "é".into()),
            ],
        ),
        case(
            "a Close byte by byte",
            "5.2",
            [
                Step::Slowly(close(1000, b"bye").bytes()),
                Step::Close(&[1000]),
                Step::End,
            ],
        ),
    ];
    for at in 1..9 {
        // A ping on the same connection would be inside the frame: what came before has to be waited for otherwise.
        cases.push(case(
            format!("a header cut after byte {at}"),
            "5.2",
            [
                Step::Send([ask(1).bytes(), long[..at].to_vec()].concat()),
                answer(1),
                Step::Send(long[at..].to_vec()),
                answer(2),
            ],
        ));
    }
    cases
}

fn together() -> Vec<Case> {
    let asks: Vec<Frame> = (0..200).map(ask).collect();
    let answers = (0..200).map(answer);
    let pings: Vec<Vec<u8>> = (0..2000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    vec![
        case(
            "200 messages in one write, answered in order",
            "5.2",
            [send(&asks)]
                .into_iter()
                .chain(answers.clone())
                .collect::<Vec<_>>(),
        ),
        case(
            "200 messages and a Close in one write",
            "5.5.1",
            [send(&[asks, vec![close(1000, b"")]].concat())]
                .into_iter()
                .chain(answers)
                .chain([Step::Close(&[1000]), Step::End])
                .collect::<Vec<_>>(),
        ),
        case(
            "2000 pings in one write",
            "5.5.3",
            [
                send(&pings.iter().map(|n| ping(n.clone())).collect::<Vec<_>>()),
                Step::Pongs(pings),
            ],
        ),
    ]
}

fn cut_short() -> Vec<Case> {
    let frame = ask(1).bytes();
    let unfinished = text("{").unfinished().bytes();
    let half = |what: &str, bytes: &[u8]| {
        [
            case(
                format!("the client ends its side {what}"),
                "7.1.4",
                [Step::Send(bytes.to_vec()), Step::Fin, Step::End],
            ),
            case(
                format!("the client resets {what}"),
                "7.1.4",
                [Step::Send(bytes.to_vec()), Step::Reset],
            ),
        ]
    };
    let mut cases = vec![
        case(
            "the client ends its side after the handshake",
            "7.1.4",
            [Step::Fin, Step::End],
        ),
        case(
            "the client resets after the handshake",
            "7.1.4",
            [Step::Reset],
        ),
        case(
            "the client ends its side behind a message, which is answered",
            "7.1.4",
            [send(&[ask(1)]), Step::Fin, answer(1), Step::End],
        ),
        case(
            "the client ends its side behind its Close",
            "7.1.4",
            [
                send(&[close(1000, b"")]),
                Step::Fin,
                Step::Close(&[1000]),
                Step::End,
            ],
        ),
        case(
            "the client resets behind its Close",
            "7.1.4",
            [send(&[close(1000, b"")]), Step::Reset],
        ),
        case(
            "the client resets behind 200 messages",
            "7.1.4",
            [send(&(0..200).map(ask).collect::<Vec<_>>()), Step::Reset],
        ),
        fails("nothing but a Close", "7.1.2", &[close(1000, b"")], &[1000]),
    ];
    cases.extend(half("in a header", &frame[..1]));
    cases.extend(half("in a mask", &frame[..4]));
    cases.extend(half("in a payload", &frame[..10]));
    cases.extend(half("between fragments", &unfinished));
    cases
}
