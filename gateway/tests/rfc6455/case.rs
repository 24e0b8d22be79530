//! Pure: what a case is: a name, the section of RFC 6455 it comes from, and what is sent and must come back.

use super::wire::{Frame, question, text};

/// One case on a connection that was welcomed.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// Section of RFC 6455.
    pub section: &'static str,
    pub steps: Vec<Step>,
}

/// One thing that is done, or must happen next. A case whose last step neither ends nor breaks the connection ends with a
/// question that must be answered, and with the close handshake.
#[derive(Clone, Debug)]
pub enum Step {
    /// One write.
    Send(Vec<u8>),
    /// One write per byte.
    Slowly(Vec<u8>),
    /// No more bytes from us; we go on reading.
    Fin,
    /// The connection is reset.
    Reset,
    /// A Pong with this payload.
    Pong(Vec<u8>),
    /// Pongs for some of these, in order, the last one's among them (section 5.5.3 lets a server skip the others).
    Pongs(Vec<Vec<u8>>),
    /// The answer to the question of this number and reference.
    Answer(u64, String),
    /// A Close frame with one of these codes. An `error` message before it is allowed.
    Close(&'static [u16]),
    /// The answer, or a Close frame with one of these codes: the RFC leaves it open.
    AnswerOrClose(u64, &'static [u16]),
    /// The server ends the connection, with a FIN and without another frame.
    End,
}

pub fn case(name: impl Into<String>, section: &'static str, steps: impl Into<Vec<Step>>) -> Case {
    Case {
        name: name.into(),
        section,
        steps: steps.into(),
    }
}

/// All frames in one write.
pub fn send(frames: &[Frame]) -> Step {
    Step::Send(frames.iter().flat_map(Frame::bytes).collect())
}

pub fn ask(id: u64) -> Frame {
    text(question(id, ""))
}

pub fn answer(id: u64) -> Step {
    Step::Answer(id, String::new())
}

/// The frames fail the connection with one of the codes.
pub fn fails(
    name: impl Into<String>,
    section: &'static str,
    frames: &[Frame],
    codes: &'static [u16],
) -> Case {
    case(name, section, [send(frames), Step::Close(codes), Step::End])
}

/// A broken rule of framing.
pub const PROTOCOL: &[u16] = &[1002];
/// Binary data where text is spoken.
pub const UNSUPPORTED: &[u16] = &[1003];
/// Text that is not UTF-8.
pub const NOT_UTF8: &[u16] = &[1007];
/// More bytes than are read.
pub const TOO_BIG: &[u16] = &[1009];
