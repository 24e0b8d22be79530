//! Pure: the target of the wire protocol's readers. The first byte picks the reader, the rest is what it reads.
#![allow(clippy::panic)]

use sluice_protocol::{ClientMessage, ConnectQuery, ServerMessage, limits};

/// Panics when something that was read does not survive writing and reading.
pub fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    // Every reader takes text: frames that are not UTF-8 are refused before.
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match kind % 3 {
        0 => client(text),
        1 => server(text),
        _ => query(text),
    }
}

fn client(text: &str) {
    match ClientMessage::parse(text) {
        Ok(message) => assert_eq!(ClientMessage::parse(&message.encode()), Ok(message)),
        Err(rejected) => assert!(
            matches!(rejected.close.code(), 4000 | 4002),
            "{rejected} closes with {}",
            rejected.close.code()
        ),
    }
}

fn server(text: &str) {
    if let Ok(message) = ServerMessage::parse(text) {
        let again = ServerMessage::parse(&message.encode());
        assert!(
            again.as_ref().is_ok_and(|again| *again == message),
            "{message:?} became {again:?}"
        );
    }
}

fn query(text: &str) {
    if let Ok(query) = ConnectQuery::parse(text) {
        let written = query.format();
        // Escapes may make it longer than it was.
        if written.len() <= limits::QUERY_BYTES {
            assert_eq!(ConnectQuery::parse(&written), Ok(query));
        }
    }
}
