//! Pure: what RFC 6455 and the wire protocol allow a gateway to say to a stream of bytes from a client that then ends its side.
//! Written from the RFC and not from any implementation, so that the two can be compared.

use std::collections::BTreeSet;

use sluice_protocol::ClientMessage;

use crate::suite::wire::{BINARY, CLOSE, CONTINUATION, NO_CODE, PING, TEXT, may_be_sent};

const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const NOT_UTF8: u16 = 1007;
const CREDENTIALS: u16 = 1008;
const TOO_BIG: u16 = 1009;
const BAD_REQUEST: u16 = 4000;

/// What a gateway may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Payloads of the pings it reads; it answers all of them, or the newest ones (section 5.5.3).
    pub pings: Vec<Vec<u8>>,
    /// Numbers of the questions it answers, in order.
    pub answers: Vec<u64>,
    /// How many of them it answers in any case: from then on it may have failed the connection already.
    pub sure: Option<usize>,
    /// Codes of its Close frame.
    pub codes: BTreeSet<u16>,
    /// It may end without a Close frame, because the client left in the middle or between frames.
    pub gone: bool,
    /// The client closed in order, or the gateway failed the connection; pongs may be left out.
    pub closed: bool,
}

/// A frame's first bytes, as far as they are there.
struct Header {
    fin: bool,
    reserved: u8,
    opcode: u8,
    masked: bool,
    /// `None` while its bytes are not all there.
    length: Option<u64>,
    minimal: bool,
    /// The frame's payload starts here; `None` while the header is not whole.
    mask: Option<([u8; 4], usize)>,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let short = second & 0x7f;
    let extra = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let number = rest.get(..extra).map(|bytes| {
        bytes
            .iter()
            .fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
    });
    let length = if extra == 0 {
        Some(u64::from(short))
    } else {
        number
    };
    let masked = second & 0x80 != 0;
    let start = 2 + extra + if masked { 4 } else { 0 };
    let mask = (bytes.len() >= start && length.is_some()).then(|| {
        let mut mask = [0; 4];
        if masked {
            mask.copy_from_slice(&bytes[start - 4..start]);
        }
        (mask, start)
    });
    Some(Header {
        fin: first & 0x80 != 0,
        reserved: first >> 4 & 7,
        opcode: first & 0xf,
        masked,
        length,
        minimal: match (extra, length) {
            (2, Some(length)) => length >= 126,
            (8, Some(length)) => length > 0xffff,
            _ => true,
        },
        mask,
    })
}

/// Reads a client's bytes as a gateway with this limit on messages, in bytes.
pub fn allowed(mut bytes: &[u8], limit: u64) -> Allowed {
    let mut reader = Reader {
        limit,
        message: None,
        early: BTreeSet::new(),
        out: Allowed::default(),
    };
    while let Some(length) = reader.frame(bytes) {
        bytes = &bytes[length..];
    }
    let Reader { early, mut out, .. } = reader;
    out.codes.extend(early);
    out
}

struct Reader {
    limit: u64,
    /// Opcode and payload of the message that is being gathered.
    message: Option<(u8, Vec<u8>)>,
    /// Codes with which the connection may have been failed already.
    early: BTreeSet<u16>,
    out: Allowed,
}

impl Reader {
    /// Reads one frame and returns its length; `None` when this is the end.
    fn frame(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(header) = header(bytes) else {
            return self.leave();
        };
        let mut broken = self.broken(&header);
        let Some(((mask, start), length)) = header.mask.zip(header.length) else {
            // A rule that the first bytes break may be noticed now or with the rest.
            self.out.codes.append(&mut broken);
            return self.leave();
        };
        let whole = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(start..start.checked_add(length)?));
        if !broken.is_empty() {
            // A frame beyond the limit is refused before its payload comes; other rules may wait for it.
            self.out.gone = whole.is_none() && length <= self.limit;
            return self.fail(broken);
        }
        if !header.minimal {
            self.may_fail(PROTOCOL);
        }
        let present = whole.unwrap_or(&bytes[start..]);
        let payload: Vec<u8> = present
            .iter()
            .zip(mask.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        if header.opcode < CLOSE {
            self.data(&header, payload, whole.is_some())?;
        } else if whole.is_none() {
            return self.leave();
        } else if header.opcode == CLOSE {
            return self.close(&payload);
        } else if header.opcode == PING {
            self.out.pings.push(payload);
        }
        Some(start + present.len())
    }

    /// Codes of the rules that a header breaks.
    fn broken(&self, header: &Header) -> BTreeSet<u16> {
        let mut codes = BTreeSet::new();
        let control = header.opcode >= CLOSE;
        let known = matches!(header.opcode, CONTINUATION | TEXT | BINARY | CLOSE..=0xA);
        let length = header.length.unwrap_or(0);
        let starts = matches!(header.opcode, TEXT | BINARY);
        if header.reserved != 0
            || !known
            || !header.masked
            || (control && (!header.fin || length > 125))
            || length >> 63 == 1
            || (header.opcode == CONTINUATION && self.message.is_none())
            || (starts && self.message.is_some())
        {
            codes.insert(PROTOCOL);
        }
        let gathered = self
            .message
            .as_ref()
            .map_or(0, |(_, payload)| payload.len() as u64);
        let before = if control { 0 } else { gathered };
        if length.saturating_add(before) > self.limit {
            codes.insert(TOO_BIG);
        }
        codes
    }

    /// A data frame, as much of it as came.
    fn data(&mut self, header: &Header, payload: Vec<u8>, whole: bool) -> Option<()> {
        let (kind, mut message) = self.message.take().unwrap_or((header.opcode, Vec::new()));
        message.extend(payload);
        if kind == BINARY {
            self.may_fail(UNSUPPORTED);
        } else if std::str::from_utf8(&message).is_err_and(|error| error.error_len().is_some()) {
            self.may_fail(NOT_UTF8);
        }
        if !whole {
            return self.leave();
        }
        if !header.fin {
            self.message = Some((kind, message));
            return Some(());
        }
        if kind == BINARY {
            return self.fail([UNSUPPORTED].into());
        }
        match String::from_utf8(message) {
            Ok(text) => self.text(&text),
            Err(_) => self.fail([NOT_UTF8].into()),
        }
    }

    fn text(&mut self, text: &str) -> Option<()> {
        match ClientMessage::parse(text) {
            Err(rejected) => return self.fail([rejected.close.code()].into()),
            Ok(ClientMessage::Ping { id, .. }) => self.out.answers.push(id),
            // Nothing was sent that could be acknowledged.
            Ok(ClientMessage::Ack { seq }) if seq.get() != 0 => self.may_fail(BAD_REQUEST),
            // No token in here is good.
            Ok(ClientMessage::Resume { .. } | ClientMessage::Refresh { .. }) => {
                self.may_fail(CREDENTIALS);
            }
            Ok(_) => {}
        }
        Some(())
    }

    fn close<T>(&mut self, body: &[u8]) -> Option<T> {
        let codes = match body {
            [] => [NO_CODE, 1000].into(),
            [_] => [PROTOCOL].into(),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                let mut codes = BTreeSet::new();
                if !may_be_sent(code) {
                    codes.insert(PROTOCOL);
                }
                if std::str::from_utf8(reason).is_err() {
                    codes.insert(NOT_UTF8);
                }
                if codes.is_empty() {
                    codes.insert(code);
                }
                if code == 1014 {
                    codes.insert(PROTOCOL);
                }
                codes
            }
        };
        self.fail(codes)
    }

    /// From here on the connection may have been failed with this code.
    fn may_fail(&mut self, code: u16) {
        self.early.insert(code);
        self.out.sure.get_or_insert(self.out.answers.len());
    }

    fn fail<T>(&mut self, codes: BTreeSet<u16>) -> Option<T> {
        self.out.codes.extend(codes);
        self.out.closed = true;
        None
    }

    /// The client's bytes end here.
    fn leave<T>(&mut self) -> Option<T> {
        self.out.gone = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::wire::{Frame, Length, binary, close, continuation, ping, question, text};

    fn of(frames: &[Frame]) -> Allowed {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        allowed(&bytes, 16_384)
    }

    #[test]
    fn questions_and_pings_are_answered() {
        let out = of(&[text(question(7, "")), ping("a"), text(question(8, ""))]);
        assert_eq!((out.answers, out.pings), (vec![7, 8], vec![b"a".to_vec()]));
        assert!(out.gone && out.codes.is_empty());
    }

    #[test]
    fn each_broken_rule_has_its_code() {
        let half = || text("\"").unfinished();
        let cases: [(&[Frame], u16); 8] = [
            (&[text("x").unmasked()], 1002),
            (&[Frame::new(0xB, "")], 1002),
            (&[continuation("x")], 1002),
            (&[half(), half()], 1002),
            (&[binary("x")], 1003),
            (&[text([0xff])], 1007),
            (&[text("").length(Length::Announced(20_000))], 1009),
            (&[close(1005, b"")], 1002),
        ];
        for (frames, code) in cases {
            let out = of(frames);
            assert!(
                out.codes.contains(&code) && !out.gone,
                "{frames:?}: {out:?}"
            );
        }
    }

    #[test]
    fn a_cut_frame_is_a_client_that_left() {
        let bytes = text(question(1, "")).bytes();
        for end in 0..bytes.len() {
            let out = allowed(&bytes[..end], 16_384);
            assert!(
                out.gone && out.answers.is_empty() && out.codes.is_empty(),
                "{end}"
            );
        }
    }
}
