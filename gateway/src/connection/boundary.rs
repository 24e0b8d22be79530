//! Pure: where frames and messages of a client end, so that nothing is kept for a client of which nothing is outstanding.
//! It counts only; what is wrong with a frame is the decoder's business.

/// Follows a stream of masked or unmasked frames (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundary {
    /// The first bytes of a header that is not whole yet.
    head: [u8; 14],
    have: u8,
    /// Payload bytes still to come.
    payload: u64,
    /// Between the first and the last frame of a message.
    fragmented: bool,
}

impl Boundary {
    /// Bytes came.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skip = bytes
                    .len()
                    .min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(usize::from(self.have)) {
                *place = *first;
                self.have += 1;
            }
            bytes = rest;
            self.look();
        }
    }

    /// True when neither a frame nor a message has begun and not ended.
    pub fn at_rest(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.fragmented
    }

    fn look(&mut self) {
        let [first, second, ..] = self.head;
        if self.have < 2 {
            return;
        }
        let long = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if usize::from(self.have) < 2 + long + mask {
            return;
        }
        let number = self.head.iter().skip(2).take(long);
        self.payload = match long {
            0 => u64::from(second & 0x7f),
            _ => number.fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.have = 0;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        // Control frames may come between a message's frames and are none of them.
        if opcode < 8 {
            self.fragmented = !last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(last: bool, opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
        let mask = if masked { 0x80 } else { 0 };
        match payload {
            0..126 => bytes.push(mask | payload as u8),
            126..0x1_0000 => {
                bytes.push(mask | 0x7e);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 0x7f);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.resize(bytes.len() + payload, 0xff);
        bytes
    }

    proptest! {
        #[test]
        fn it_rests_exactly_between_messages(
            messages in proptest::collection::vec(
                (proptest::collection::vec(prop_oneof![0_usize..300, Just(70_000)], 1..4), any::<bool>(), any::<bool>()), 1..6),
            cuts in proptest::collection::vec(1_usize..90_000, 0..40),
        ) {
            let mut bytes = Vec::new();
            let mut rests = vec![0];
            for (frames, masked, ping) in messages {
                for (at, payload) in frames.iter().enumerate() {
                    let opcode = u8::from(at == 0);
                    bytes.extend(frame(at + 1 == frames.len(), opcode, masked, *payload));
                    if at + 1 == frames.len() {
                        rests.push(bytes.len());
                    } else if ping {
                        bytes.extend(frame(true, 9, masked, 5));
                    }
                }
            }
            let mut boundary = Boundary::default();
            let mut at = 0;
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                boundary.feed(&bytes[at..end]);
                at = end;
                prop_assert_eq!(boundary.at_rest(), rests.contains(&at), "after {} bytes", at);
            }
            boundary.feed(&bytes[at..]);
            prop_assert!(boundary.at_rest());
        }
    }
}
