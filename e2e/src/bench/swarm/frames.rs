//! Pure: the little of RFC 6455 that a load and a floor need: whole frames out of a buffer, and masked client frames.

/// Opcodes (RFC 6455, section 5.2).
pub const TEXT: u8 = 0x1;
/// See [`TEXT`].
pub const BINARY: u8 = 0x2;
/// See [`TEXT`].
pub const CLOSE: u8 = 0x8;
/// See [`TEXT`].
pub const PING: u8 = 0x9;
/// See [`TEXT`].
pub const PONG: u8 = 0xA;

/// Final frame, no extension.
const FIN: u8 = 0x80;

/// Set in the length byte of masked frames.
const MASKED: u8 = 0x80;

/// The mask of every frame: a server has to undo any mask, and this one is as good as a random one for that.
const MASK: [u8; 4] = [0x5a, 0x11, 0xc3, 0x7e];

/// A frame within a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: u8,
    /// Where its payload begins.
    pub start: usize,
    /// Where it ends; the next frame begins here.
    pub end: usize,
    /// The mask, in frames from clients.
    pub mask: Option<[u8; 4]>,
}

/// The first frame of a buffer, once all of it is there.
pub fn first(bytes: &[u8]) -> Option<Frame> {
    let (&opcode, &length) = (bytes.first()?, bytes.get(1)?);
    let (length, mut start) = match length & !MASKED {
        126 => (
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let mut mask = None;
    if bytes[1] & MASKED != 0 {
        mask = Some(bytes.get(start..start + 4)?.try_into().ok()?);
        start += 4;
    }
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (bytes.len() >= end).then_some(Frame {
        opcode: opcode & 0x0f,
        start,
        end,
        mask,
    })
}

/// The head of an unmasked frame and its length.
pub fn server_head(opcode: u8, length: usize) -> ([u8; 10], usize) {
    head(opcode, length, 0)
}

/// Appends a masked frame.
pub fn client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let (bytes, length) = head(opcode, payload.len(), MASKED);
    out.extend_from_slice(&bytes[..length]);
    out.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m);
    out.extend(masked);
}

/// The head of a masked frame that promises `length` bytes, for clients that then send fewer.
pub fn unfinished(length: usize, payload: &[u8]) -> Vec<u8> {
    let (bytes, size) = head(TEXT, length, MASKED);
    let mut out = bytes[..size].to_vec();
    out.extend_from_slice(&MASK);
    out.extend_from_slice(payload);
    out
}

fn head(opcode: u8, length: usize, masked: u8) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    bytes[0] = FIN | opcode;
    let size = match length {
        0..=125 => {
            bytes[1] = length as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    bytes[1] |= masked;
    (bytes, size)
}

/// Where the head of an HTTP answer ends.
pub fn http_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_masked_frame_is_read_back_at_every_length() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut bytes = Vec::new();
            client_frame(&mut bytes, TEXT, &payload);
            assert_eq!(first(&bytes[..bytes.len() - 1]), None);
            let frame = first(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.end), (TEXT, bytes.len()));
            let mask = frame.mask.unwrap();
            let read: Vec<u8> = bytes[frame.start..]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(b, m)| b ^ m)
                .collect();
            assert_eq!(read, payload);
        }
    }

    #[test]
    fn frames_follow_each_other() {
        let (head, size) = server_head(TEXT, 3);
        let mut bytes = head[..size].to_vec();
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&[0x89, 0]);
        let text = first(&bytes).unwrap();
        assert_eq!(&bytes[text.start..text.end], b"abc");
        let ping = first(&bytes[text.end..]).unwrap();
        assert_eq!((ping.opcode, ping.start, ping.end), (PING, 2, 2));
    }

    #[test]
    fn an_unfinished_frame_stays_unfinished() {
        assert_eq!(first(&unfinished(100, b"ten bytes!")), None);
    }
}
