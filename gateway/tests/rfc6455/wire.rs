//! Pure: frames of RFC 6455 (section 5.2) as bytes. A client's frames are written as wrongly as a case wants; a server's
//! frames are read strictly: a broken rule is an error with the rule's section.

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The close code that stands for a Close frame without one (section 7.1.5); it is never on the wire.
pub const NO_CODE: u16 = 1005;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a client's frame says its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In as few bytes as it takes.
    Shortest,
    /// In 16 bits, needed or not.
    Bits16,
    /// In 64 bits, needed or not.
    Bits64,
    /// In 64 bits, this number, whatever the payload has.
    Announced(u64),
}

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// RSV1, RSV2, RSV3 as the bits 4, 2, 1.
    pub reserved: u8,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub length: Length,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            reserved: 0,
            opcode,
            mask: Some(MASK),
            length: Length::Shortest,
            payload: payload.into(),
        }
    }

    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.mask = None;
        self
    }

    #[must_use]
    pub fn masked_with(mut self, mask: [u8; 4]) -> Self {
        self.mask = Some(mask);
        self
    }

    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }

    #[must_use]
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len() + 14);
        out.push(u8::from(self.fin) << 7 | (self.reserved & 7) << 4 | self.opcode & 0xf);
        let masked = u8::from(self.mask.is_some()) << 7;
        let true_length = self.payload.len() as u64;
        match self.length {
            Length::Shortest if true_length < 126 => out.push(masked | true_length as u8),
            Length::Bits16 | Length::Shortest if true_length <= 0xffff => {
                out.push(masked | 0x7e);
                out.extend((true_length as u16).to_be_bytes());
            }
            Length::Announced(length) => {
                out.push(masked | 0x7f);
                out.extend(length.to_be_bytes());
            }
            _ => {
                out.push(masked | 0x7f);
                out.extend(true_length.to_be_bytes());
            }
        }
        out.extend(self.mask.iter().flatten());
        let mask = self.mask.unwrap_or_default();
        out.extend(
            self.payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(b, m)| b ^ m),
        );
        out
    }
}

pub fn text(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(TEXT, payload)
}

pub fn binary(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(BINARY, payload)
}

pub fn continuation(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(CONTINUATION, payload)
}

pub fn ping(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(PING, payload)
}

pub fn pong(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(PONG, payload)
}

pub fn close(code: u16, reason: &[u8]) -> Frame {
    Frame::new(CLOSE, [&code.to_be_bytes()[..], reason].concat())
}

/// A message that the gateway answers with `{"type":"pong","id":…}`: shows that text arrived whole and unchanged.
pub fn question(id: u64, reference: &str) -> Vec<u8> {
    if reference.is_empty() {
        format!("{{\"type\":\"ping\",\"id\":{id}}}").into_bytes()
    } else {
        format!("{{\"type\":\"ping\",\"id\":{id},\"ref\":\"{reference}\"}}").into_bytes()
    }
}

/// The same, blown up to so many bytes with JSON's white space.
pub fn question_of(id: u64, bytes: usize) -> Vec<u8> {
    let mut text = question(id, "");
    text.resize(bytes.max(text.len()), b' ');
    text
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// [`NO_CODE`] when it has none.
    Close(u16, String),
}

/// Reads one frame of a server from the start of `bytes`: the frame and its length on the wire, `None` while it is not whole.
pub fn read(bytes: &[u8]) -> Result<Option<(Said, usize)>, String> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (opcode, short) = (first & 0xf, usize::from(second & 0x7f));
    if first & 0x70 != 0 {
        return Err("5.2: a reserved bit is set and no extension was agreed".into());
    }
    if second & 0x80 != 0 {
        return Err("5.1: a server must not mask".into());
    }
    if first & 0x80 == 0 {
        return Err("5.4: this server has no reason to fragment".into());
    }
    let (length, rest) = match (short, rest) {
        (0..126, _) => (short, rest),
        (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
        (126, _) => return Ok(None),
        (_, _) if rest.len() < 8 => return Ok(None),
        (_, _) => {
            let (number, rest) = rest.split_at(8);
            let number = number
                .iter()
                .fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
            (usize::try_from(number).map_err(|e| e.to_string())?, rest)
        }
    };
    if (short == 126 && length < 126) || (short == 127 && length <= 0xffff) {
        return Err("5.2: the length is not in its shortest form".into());
    }
    if opcode >= CLOSE && length > 125 {
        return Err("5.5: a control frame of more than 125 bytes".into());
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let utf8 = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| "8.1: text that is not UTF-8".to_owned())
    };
    let said = match opcode {
        TEXT => Said::Text(utf8(payload)?),
        PING => Said::Ping(payload.to_vec()),
        PONG => Said::Pong(payload.to_vec()),
        CLOSE => match payload {
            [] => Said::Close(NO_CODE, String::new()),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !may_be_sent(code) {
                    return Err(format!("7.4: the code {code} must not be on the wire"));
                }
                Said::Close(code, utf8(reason)?)
            }
            [_] => return Err("5.5.1: a Close body of one byte".into()),
        },
        _ => return Err(format!("5.2: opcode {opcode:#x} from this server")),
    };
    Ok(Some((said, bytes.len() - rest.len() + length)))
}

/// Codes that may be in a Close frame (section 7.4 and the IANA register).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
