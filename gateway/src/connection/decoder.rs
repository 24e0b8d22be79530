//! Pure: from bytes that came to messages, by tungstenite over memory. A connection has a decoder only while a frame or message
//! of its client has begun and not ended; otherwise its shard's decoder serves it.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::boundary::Boundary;
use crate::limits;

/// Reads one client's frames.
#[derive(Debug)]
pub struct Decoder {
    context: WebSocketContext,
    boundary: Boundary,
    /// Bytes that wait until what came before them was dealt with.
    rest: Vec<u8>,
    /// Answers that the protocol itself demands: pongs, and the reply to a Close.
    replies: Vec<u8>,
    /// Everything that came was looked at.
    dry: bool,
}

impl Decoder {
    /// For messages of at most so many bytes.
    pub fn new(largest: u32) -> Self {
        let largest = largest as usize;
        let config = WebSocketConfig::default()
            .read_buffer_size(limits::READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(limits::OUTBOX_SLACK_BYTES)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            boundary: Boundary::default(),
            rest: Vec::new(),
            replies: Vec::new(),
            dry: true,
        }
    }

    /// The next message out of these bytes and what was kept before; `None` when more has to come first. Frames are checked
    /// against the limit before memory is taken for them.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        let kept = std::mem::take(&mut self.rest);
        let mut old: &[u8] = &kept;
        if !old.is_empty() {
            let message = self.read(&mut old)?;
            self.rest = old.to_vec();
            if message.is_some() {
                return Ok(message);
            }
        }
        self.read(input)
    }

    /// Keeps bytes for later, behind what is kept already.
    pub fn keep(&mut self, input: &[u8]) {
        self.rest.extend_from_slice(input);
    }

    /// True when something that came was not looked at yet.
    pub fn has_more(&self) -> bool {
        !self.dry || !self.rest.is_empty()
    }

    /// True when it may serve another client: nothing has begun that has not ended.
    pub fn at_rest(&self) -> bool {
        !self.has_more() && self.replies.is_empty() && self.boundary.at_rest()
    }

    /// Whole frames to send to the client.
    pub fn take_replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.replies)
    }

    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        self.dry = false;
        let mut memory = Memory {
            input,
            boundary: &mut self.boundary,
            replies: &mut self.replies,
        };
        match self.context.read(&mut memory) {
            Ok(message) => Ok(Some(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.dry = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What tungstenite takes for a socket.
struct Memory<'a, 'b> {
    input: &'a mut &'b [u8],
    boundary: &'a mut Boundary,
    replies: &'a mut Vec<u8>,
}

impl Read for Memory<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.input.len().min(into.len());
        let (now, later) = self.input.split_at(count);
        into[..count].copy_from_slice(now);
        self.boundary.feed(now);
        *self.input = later;
        Ok(count)
    }
}

impl Write for Memory<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::error::CapacityError;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    fn masked(frame: Frame) -> Vec<u8> {
        let (mut header, payload) = (frame.header().clone(), frame.into_payload());
        header.mask = Some([7, 11, 13, 17]);
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload)
            .format(&mut bytes)
            .unwrap();
        bytes
    }

    fn text(text: &str) -> Vec<u8> {
        masked(Frame::message(
            text.to_owned(),
            OpCode::Data(Data::Text),
            true,
        ))
    }

    #[test]
    fn pings_are_answered_and_leave_nothing_behind() {
        let mut decoder = Decoder::new(100);
        let ping = masked(Frame::ping("hi"));
        let mut input = &ping[..];
        assert!(matches!(
            decoder.next(&mut input),
            Ok(Some(Message::Ping(_)))
        ));
        assert!(matches!(decoder.next(&mut input), Ok(None)));
        let mut pong = Vec::new();
        Frame::pong("hi").format(&mut pong).unwrap();
        assert_eq!(decoder.take_replies(), pong);
        assert!(decoder.at_rest());
    }

    #[test]
    fn too_large_a_frame_is_refused_by_its_header() {
        let mut decoder = Decoder::new(100);
        let big = text(&"x".repeat(101));
        let error = decoder.next(&mut &big[..8]).unwrap_err();
        let Error::Capacity(CapacityError::MessageTooLong { size, max_size }) = error else {
            panic!("{error}")
        };
        assert_eq!((size, max_size), (101, 100));
    }

    #[test]
    fn a_close_is_answered_and_ends_it() {
        let mut decoder = Decoder::new(100);
        let close = masked(Frame::close(None));
        let mut input = &close[..];
        assert!(matches!(
            decoder.next(&mut input),
            Ok(Some(Message::Close(None)))
        ));
        assert!(matches!(
            decoder.next(&mut input),
            Err(Error::ConnectionClosed)
        ));
        let reply = decoder.take_replies();
        assert_eq!(reply[0] & 0x0f, u8::from(OpCode::Control(Control::Close)));
        assert!(!decoder.at_rest());
    }

    proptest! {
        /// However the bytes are cut, kept and looked at: the same messages, and at rest in the end.
        #[test]
        fn cuts_change_nothing(
            texts in proptest::collection::vec("\\PC{0,60}", 1..12),
            cuts in proptest::collection::vec((1_usize..80, any::<bool>()), 60),
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|t| text(t)).collect();
            let mut decoder = Decoder::new(1000);
            let (mut got, mut at) = (Vec::new(), 0);
            for (cut, pause) in cuts {
                let end = (at + cut).min(bytes.len());
                let mut input = &bytes[at..end];
                at = end;
                while let Some(message) = decoder.next(&mut input).unwrap() {
                    got.push(message.into_text().unwrap().to_string());
                    if pause {
                        decoder.keep(input);
                        break;
                    }
                }
            }
            let mut input = &bytes[at..];
            while let Some(message) = decoder.next(&mut input).unwrap() {
                got.push(message.into_text().unwrap().to_string());
            }
            prop_assert_eq!(got, texts);
            prop_assert!(decoder.at_rest());
        }
    }
}
