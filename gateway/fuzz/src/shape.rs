//! Pure: changes a client's bytes by frames: what comes out still has heads, masks and lengths that fit, unless the change is
//! to break one. Random bytes alone rarely get past the first header.

use crate::suite::wire::{self, Frame, Length};

/// Numbers from a seed; small, and the same everywhere (xorshift of 64 bits).
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed) << 1 | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// One change to the frames in `bytes`. `change` changes a payload by some bytes.
pub fn mutate(bytes: &[u8], dice: &mut Dice, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (mut frames, rest) = split(bytes);
    if frames.is_empty() {
        frames.push(stock(dice));
    }
    let at = dice.below(frames.len());
    let other = dice.below(frames.len());
    let frame = &mut frames[at];
    match dice.below(12) {
        0 => frame.fin = !frame.fin,
        1 => frame.opcode = dice.below(16) as u8,
        2 => frame.reserved = dice.below(8) as u8,
        3 => frame.mask = frame.mask.xor(Some([0x55; 4])),
        4 => {
            let long = 1 << dice.below(64);
            frame.length = [Length::Bits16, Length::Bits64, Length::Announced(long)][dice.below(3)];
        }
        5 => {
            let cut = dice.below(frame.payload.len() + 1);
            let mut tail = wire::continuation(frame.payload.split_off(cut));
            tail.fin = frame.fin;
            frame.fin = false;
            frames.insert(at + 1, tail);
        }
        6 => {
            frames.remove(at);
        }
        7 => frames.swap(at, other),
        8 => {
            let twin = frames[at].clone();
            frames.insert(other, twin);
        }
        9 | 10 => frames.insert(at, stock(dice)),
        _ => change(&mut frame.payload),
    }
    let mut out: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    out.extend(rest);
    out
}

/// A frame that a case might begin with.
fn stock(dice: &mut Dice) -> Frame {
    let number = dice.below(70_000) as u16;
    match dice.below(9) {
        0 => wire::ping(number.to_be_bytes()),
        1 => wire::pong("x"),
        2 => wire::close(number, b"bye"),
        3 => wire::close(1000 + number % 16, b""),
        4 => wire::binary([0xff; 3]),
        5 => wire::text("{\"type\":\"subscribe\",\"channel\":\"a\"}"),
        6 => wire::text(wire::question(u64::from(number), "é")).unfinished(),
        7 => wire::continuation("}"),
        _ => wire::text(wire::question(u64::from(number), "")),
    }
}

/// Whole frames from the start of `bytes`, and what follows them.
fn split(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, length)) = first(bytes) {
        frames.push(frame);
        bytes = &bytes[length..];
    }
    (frames, bytes)
}

fn first(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (head, second) = (*bytes.first()?, *bytes.get(1)?);
    let (extra, form) = match second & 0x7f {
        126 => (2, Length::Bits16),
        127 => (8, Length::Bits64),
        _ => (0, Length::Shortest),
    };
    let number = bytes.get(2..2 + extra)?;
    let long = number
        .iter()
        .fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
    let length = if extra == 0 {
        usize::from(second & 0x7f)
    } else {
        long
    };
    let mut start = 2 + extra;
    let mut mask = None;
    if second & 0x80 != 0 {
        mask = Some(*bytes.get(start..)?.first_chunk::<4>()?);
        start += 4;
    }
    let payload = bytes.get(start..start.checked_add(length)?)?;
    let key = mask.unwrap_or_default();
    let frame = Frame {
        fin: head & 0x80 != 0,
        reserved: head >> 4 & 7,
        opcode: head & 0xf,
        mask,
        length: form,
        payload: payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect(),
    };
    Some((frame, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_splitting() {
        for seed in crate::seeds::of("frames") {
            let (frames, rest) = split(&seed);
            let mut again: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
            again.extend(rest);
            assert_eq!(again, seed);
        }
    }

    #[test]
    fn every_change_is_made_and_none_fails() {
        let seeds = crate::seeds::of("frames");
        for (number, seed) in (0..).zip(&seeds) {
            for more in 0..40 {
                let mut dice = Dice::new(number * 40 + more);
                mutate(seed, &mut dice, |payload| payload.push(1));
            }
        }
    }
}
