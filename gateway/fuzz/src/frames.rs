//! Effects (sockets): the target of frames on an upgraded connection: what the gateway says is what the model allows.
#![allow(clippy::panic)]

use sluice_protocol::ServerMessage;

use crate::exchange;
use crate::model::{self, Allowed};
use crate::suite::wire::{self, Said};

/// The gateway's default limit on a client's message, bytes.
const LIMIT: u64 = sluice_protocol::limits::MESSAGE_BYTES as u64;

/// What the gateway said after its welcome.
#[derive(Debug, Default)]
struct Heard {
    pongs: Vec<Vec<u8>>,
    answers: Vec<u64>,
    close: Option<u16>,
}

/// Panics when the gateway breaks a rule of framing, or says what the bytes do not allow.
pub fn run(bytes: &[u8]) {
    let said = exchange::frames(bytes);
    let heard = hear(&said);
    let allowed = model::allowed(bytes, LIMIT);
    if let Err(rule) = compare(&heard, &allowed) {
        panic!("{rule}\nheard   {heard:?}\nallowed {allowed:?}");
    }
}

fn hear(mut bytes: &[u8]) -> Heard {
    let mut heard = Heard::default();
    loop {
        let (said, length) = match wire::read(bytes) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(rule) => panic!("{rule}"),
        };
        bytes = &bytes[length..];
        assert!(heard.close.is_none(), "5.5.1: {said:?} after the Close");
        match said {
            Said::Text(text) => match ServerMessage::parse(&text) {
                Ok(ServerMessage::Pong(pong)) => heard.answers.push(pong.id),
                Ok(_) => {}
                Err(error) => panic!("{error}: {text}"),
            },
            Said::Pong(payload) => heard.pongs.push(payload),
            Said::Close(code, _) => heard.close = Some(code),
            Said::Ping(_) => {}
        }
    }
    assert!(bytes.is_empty(), "a cut frame");
    heard
}

fn compare(heard: &Heard, allowed: &Allowed) -> Result<(), &'static str> {
    match heard.close {
        Some(code) if !allowed.codes.contains(&code) => return Err("another close code"),
        None if !allowed.gone => return Err("no Close"),
        _ => {}
    }
    let least = allowed.sure.unwrap_or(allowed.answers.len());
    if heard.answers.len() < least || !allowed.answers.starts_with(&heard.answers) {
        return Err("other answers");
    }
    let mut pings = allowed.pings.iter();
    if !heard
        .pongs
        .iter()
        .all(|pong| pings.any(|ping| ping == pong))
    {
        return Err("5.5.3: other pongs");
    }
    let must = !allowed.closed && allowed.sure.is_none() && allowed.codes.is_empty();
    if must && heard.pongs.last() != allowed.pings.last() {
        return Err("5.5.2: the last ping is not answered");
    }
    Ok(())
}
