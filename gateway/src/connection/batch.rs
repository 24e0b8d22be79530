//! Pure: everything that one connection has to say in one turn, written with one call. A message that the socket did not
//! begin stays in its channel's ring: it is neither counted as sent nor kept.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use sluice_protocol::{Seq, ServerMessage};

use super::frame::{Head, TEXT};
use super::outbox::Outbox;
use crate::hub::ring::Frame;
use crate::limits;

/// Slices of a whole batch: two for each message, and replies before, between and behind.
pub const SLICES: usize = 3 * limits::MESSAGES_PER_WRITE + 1;

/// Room for the text of most answers, bytes.
const USUAL_TEXT_BYTES: usize = 512;

/// A batch that is copied fits the buffer that it is copied to.
const _: () = assert!(limits::COPIED_WRITE_BYTES <= limits::SCRATCH_BYTES);

/// What is due.
#[derive(Debug, Default)]
pub struct Batch {
    pieces: Vec<Piece>,
    messages: usize,
    message_bytes: u32,
    reply_bytes: usize,
    /// Text that is being written.
    text: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    /// Whole frames that only this connection gets.
    Replies(Vec<u8>),
    Message(Due),
}

/// A message that is due.
#[derive(Debug)]
pub struct Due {
    /// Of which channel.
    pub slot: u8,
    /// The message.
    pub frame: Arc<Frame>,
    /// Bytes of its text, as the window counts them.
    pub text: u32,
    head: Head,
}

impl Due {
    fn len(&self) -> usize {
        self.head.as_bytes().len() + self.frame.suffix.len()
    }
}

impl Batch {
    /// What is said before anything else, and the room that it came with.
    pub fn begin(&mut self, bytes: Vec<u8>) {
        self.reply_bytes += bytes.len();
        self.pieces.push(Piece::Replies(bytes));
    }

    /// Adds a message that only this connection gets.
    pub fn say(&mut self, message: &ServerMessage) {
        let mut text = std::mem::take(&mut self.text);
        text.reserve(USUAL_TEXT_BYTES);
        message.encode_to(&mut text);
        self.frame(TEXT, &text);
        if text.capacity() <= limits::SPARE_TEXT_BYTES {
            text.clear();
            self.text = text;
        }
    }

    /// Adds a frame.
    pub fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let head = Head::new(opcode, payload.len());
        let replies = self.replies();
        replies.extend_from_slice(head.as_bytes());
        replies.extend_from_slice(payload);
        self.reply_bytes += head.as_bytes().len() + payload.len();
    }

    /// Adds whole frames.
    pub fn raw(&mut self, frames: &[u8]) {
        if !frames.is_empty() {
            self.replies().extend_from_slice(frames);
            self.reply_bytes += frames.len();
        }
    }

    /// Adds a message of a channel, with the number after the ones that are in here.
    pub fn message(&mut self, slot: u8, frame: Arc<Frame>, last_sent: Seq) {
        let seq = Seq::new(last_sent.get().wrapping_add(self.messages as u32 + 1));
        let (head, text) = Head::message(seq, frame.suffix.len());
        let text = text as u32;
        self.messages += 1;
        self.message_bytes = self.message_bytes.saturating_add(text);
        self.pieces.push(Piece::Message(Due {
            slot,
            frame,
            text,
            head,
        }));
    }

    /// Messages in here.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes of their texts.
    pub fn message_bytes(&self) -> u32 {
        self.message_bytes
    }

    /// Bytes of frames that are no messages.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// True when nothing is due.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes of all of it.
    pub fn len(&self) -> usize {
        let lengths = self.pieces.iter().map(|piece| match piece {
            Piece::Replies(bytes) => bytes.len(),
            Piece::Message(due) => due.len(),
        });
        lengths.sum()
    }

    /// All of it in one piece; says how many bytes these are, as far as there is room.
    pub fn copy(&self, into: &mut [u8]) -> usize {
        let mut end = 0;
        let mut add = |bytes: &[u8]| {
            if let Some(room) = into.get_mut(end..end + bytes.len()) {
                room.copy_from_slice(bytes);
                end += bytes.len();
            }
        };
        self.each_slice(&mut add);
        end
    }

    /// All of it; says how many slices were filled.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        self.each_slice(&mut |bytes| {
            if let Some(slice) = into.get_mut(count) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        });
        count
    }

    fn each_slice<'a>(&'a self, each: &mut impl FnMut(&'a [u8])) {
        for piece in &self.pieces {
            match piece {
                Piece::Replies(bytes) => each(bytes),
                Piece::Message(due) => {
                    each(due.head.as_bytes());
                    each(&due.frame.suffix);
                }
            }
        }
    }

    /// Looks at every message.
    pub fn each_message(&self, mut look: impl FnMut(&Due)) {
        for piece in &self.pieces {
            if let Piece::Message(due) = piece {
                look(due);
            }
        }
    }

    /// The socket took so many bytes: tells which messages it began, and puts the rest of what has to follow into the
    /// outbox. Afterwards nothing is due.
    pub fn settle(&mut self, mut taken: usize, mut began: impl FnMut(&Due), rest: &mut Outbox) {
        for piece in self.pieces.drain(..) {
            match piece {
                Piece::Replies(bytes) if taken >= bytes.len() => taken -= bytes.len(),
                Piece::Replies(bytes) => {
                    rest.push(Bytes::from(bytes).slice(taken..));
                    taken = 0;
                }
                Piece::Message(due) if taken >= due.len() => {
                    taken -= due.len();
                    began(&due);
                }
                Piece::Message(due) if taken > 0 => {
                    let head = due.head.as_bytes();
                    let in_head = taken.min(head.len());
                    rest.push(Bytes::copy_from_slice(&head[in_head..]));
                    rest.push(due.frame.suffix.slice(taken - in_head..));
                    taken = 0;
                    began(&due);
                }
                Piece::Message(_) => {}
            }
        }
        self.clear();
    }

    /// Nothing is due any more.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.messages = 0;
        self.message_bytes = 0;
        self.reply_bytes = 0;
    }

    fn replies(&mut self) -> &mut Vec<u8> {
        if !matches!(self.pieces.last(), Some(Piece::Replies(_))) {
            self.pieces.push(Piece::Replies(Vec::new()));
        }
        match self.pieces.last_mut() {
            Some(Piece::Replies(bytes)) => bytes,
            _ => unreachable!("it was just put there"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    fn frame(offset: u64, length: usize) -> Arc<Frame> {
        Arc::new(Frame {
            offset,
            previous: 0,
            time: 0,
            suffix: Bytes::from(vec![b'0' + (offset % 10) as u8; length]),
        })
    }

    fn bytes(batch: &Batch) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.slices(&mut slices);
        slices[..count].iter().flat_map(|s| s.to_vec()).collect()
    }

    /// A batch out of pieces: `None` is a reply, a length is a message.
    fn batch(pieces: &[Option<usize>]) -> Batch {
        let mut batch = Batch::default();
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Some(length) => {
                    batch.message(at as u8, frame(at as u64, *length), Seq::new(u32::MAX));
                }
                None => batch.frame(TEXT, b"reply"),
            }
        }
        batch
    }

    proptest! {
        /// Wherever the socket stops: what it took and what is kept are whole frames together, every reply is among them, and
        /// of the messages those that were begun, numbered without a hole.
        #[test]
        fn frames_stay_whole_wherever_the_socket_stops(
            pieces in proptest::collection::vec(proptest::option::of(0_usize..200), 1..=limits::MESSAGES_PER_WRITE),
            share in 0.0_f64..=1.0,
        ) {
            let mut due = batch(&pieces);
            let all = bytes(&due);
            let mut copied = vec![0; due.len()];
            prop_assert_eq!(due.copy(&mut copied), all.len());
            prop_assert_eq!(&copied, &all);
            let taken = (all.len() as f64 * share) as usize;
            let mut outbox = Outbox::new(Instant::now());
            let mut began = Vec::new();
            due.settle(taken, |due| began.push(usize::from(due.slot)), &mut outbox);
            let mut out = all[..taken].to_vec();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); 1];
                outbox.slices(&mut slices);
                let first = slices[0].to_vec();
                outbox.advance(first.len(), Instant::now());
                out.extend(first);
            }
            let messages: Vec<usize> = (0..pieces.len()).filter(|at| pieces[*at].is_some()).collect();
            prop_assert_eq!(&began[..], &messages[..began.len()]);
            let last = began.last().copied();
            let kept = pieces.iter().enumerate().filter(|(at, piece)| piece.is_none() || last.is_some_and(|last| *at <= last));
            let mut expected = Batch::default();
            for (at, piece) in kept {
                match piece {
                    Some(length) => expected.message(at as u8, frame(at as u64, *length), Seq::new(u32::MAX)),
                    None => expected.frame(TEXT, b"reply"),
                }
            }
            prop_assert_eq!(out, bytes(&expected));
            prop_assert!(due.is_empty() && due.messages() == 0 && due.message_bytes() == 0);
        }
    }

    #[test]
    fn what_the_window_counts_is_the_text() {
        let mut due = Batch::default();
        due.message(0, frame(1, 10), Seq::START);
        assert_eq!(
            due.message_bytes(),
            r#"{"type":"message","seq":1"#.len() as u32 + 10
        );
        assert_eq!((due.messages(), due.reply_bytes()), (1, 0));
    }
}
