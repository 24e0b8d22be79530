//! Pure: frame headers as a server writes them (RFC 6455, section 5.2: never masked, never fragmented here).

use sluice_protocol::{Seq, message_prefix};

/// Opcodes that a server writes, with the bit that says that the frame is whole.
pub const TEXT: u8 = 0x81;
/// See [`TEXT`].
pub const CLOSE: u8 = 0x88;
/// See [`TEXT`].
pub const PING: u8 = 0x89;

/// Longest header of an unmasked frame, bytes.
const HEADER_BYTES: usize = 10;

/// Longest start of a `message` frame, bytes: header and the prefix with its number.
const HEAD_BYTES: usize = HEADER_BYTES + 38;

/// A few bytes without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; HEAD_BYTES],
    len: u8,
}

impl Head {
    /// The header of a frame with so many bytes behind it.
    pub fn new(opcode: u8, payload: usize) -> Self {
        let mut head = Self {
            bytes: [0; HEAD_BYTES],
            len: 0,
        };
        match payload {
            0..126 => head.push(&[opcode, payload as u8]),
            126..0x1_0000 => {
                head.push(&[opcode, 126]);
                head.push(&(payload as u16).to_be_bytes());
            }
            _ => {
                head.push(&[opcode, 127]);
                head.push(&(payload as u64).to_be_bytes());
            }
        }
        head
    }

    /// Header and prefix of a `message` frame; the suffix that all subscribers share follows. Also says how many bytes of
    /// text the frame has.
    pub fn message(seq: Seq, suffix: usize) -> (Self, usize) {
        let prefix = message_prefix(seq);
        let text = prefix.as_bytes().len() + suffix;
        let mut head = Self::new(TEXT, text);
        head.push(prefix.as_bytes());
        (head, text)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, more: &[u8]) {
        let end = usize::from(self.len) + more.len();
        if let Some(free) = self.bytes.get_mut(usize::from(self.len)..end) {
            free.copy_from_slice(more);
            self.len = end as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio_tungstenite::tungstenite::Bytes;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    #[test]
    fn headers_are_those_of_the_library() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000] {
            let payload = Bytes::from(vec![b'x'; length]);
            let frame = Frame::message(payload.clone(), OpCode::Data(Data::Text), true);
            let mut expected = Vec::new();
            frame.format(&mut expected).unwrap();
            let ours = [Head::new(TEXT, length).as_bytes(), &payload].concat();
            assert_eq!(ours, expected, "{length}");
        }
    }

    #[test]
    fn the_longest_head_fits() {
        let (head, text) = Head::message(Seq::new(u32::MAX), 1_000_000);
        assert!(head.as_bytes().ends_with(b"\"seq\":4294967295"));
        assert_eq!(text, head.as_bytes().len() - HEADER_BYTES + 1_000_000);
        let (head, _) = Head::message(Seq::START, 10);
        assert!(head.as_bytes().starts_with(&[TEXT, 35]), "{head:?}");
    }
}
