//! Pure: the server's account of what one connection has been sent and has acknowledged.
//!
//! Until the first `ack` the connection is a plain client: what its socket took counts as acknowledged. From the first
//! one on only acknowledgements free the window. Bytes are counted in a fixed number of segments rather than per
//! message, so the account has no heap and its size does not depend on the window.

use crate::limits::{self, WINDOW_SEGMENTS};
use crate::seq::Seq;

/// How much may be outstanding on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Messages.
    pub messages: u32,
    /// Bytes of `message` frames.
    pub bytes: u32,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            messages: limits::WINDOW_MESSAGES,
            bytes: limits::WINDOW_BYTES,
        }
    }
}

/// A client acknowledged what it was never sent: a broken client, to be answered as `bad_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ack {ack} is beyond the last message sent, {sent}")]
pub struct AckBeyondSent {
    /// What came.
    pub ack: Seq,
    /// What was last sent.
    pub sent: Seq,
}

/// Messages up to `end` that were not yet acknowledged when the segment was filled.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    end: Seq,
    bytes: u32,
}

/// The account of one connection.
#[derive(Clone, Debug)]
pub struct Window {
    limits: WindowLimits,
    sent: Seq,
    acked: Seq,
    controlled: bool,
    /// Oldest first; `segments[..used]` are in use, the last one is being filled.
    segments: [Segment; WINDOW_SEGMENTS],
    used: u8,
}

impl Window {
    /// The account of a new connection.
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            sent: Seq::START,
            acked: Seq::START,
            controlled: false,
            segments: [Segment::default(); WINDOW_SEGMENTS],
            used: 0,
        }
    }

    /// True when one more message may be sent. The last message may exceed the byte limit: a window smaller than
    /// one message would otherwise never open.
    pub fn is_open(&self) -> bool {
        self.outstanding_messages() < self.limits.messages
            && self.outstanding_bytes() < self.limits.bytes
    }

    /// Counts a `message` frame of this many bytes as sent and gives it its number. Callers ask [`Self::is_open`] first.
    pub fn send(&mut self, bytes: u32) -> Seq {
        self.sent = self.sent.next();
        let share = WINDOW_SEGMENTS as u32;
        let (most_messages, most_bytes) = (self.limits.messages / share, self.limits.bytes / share);
        let start = match self.used {
            0 | 1 => self.acked,
            used => self.segments[used as usize - 2].end,
        };
        let last = &mut self.segments[(self.used as usize).saturating_sub(1)];
        let full = last.bytes >= most_bytes || last.end.since(start) >= most_messages.max(1);
        if self.used == 0 || (full && (self.used as usize) < WINDOW_SEGMENTS) {
            self.segments[self.used as usize] = Segment {
                end: self.sent,
                bytes,
            };
            self.used += 1;
        } else {
            last.end = self.sent;
            last.bytes = last.bytes.saturating_add(bytes);
        }
        self.sent
    }

    /// The client acknowledged everything up to this number. From now on the connection is window-controlled. Old
    /// numbers change nothing: acknowledgements are cumulative and may be late.
    ///
    /// # Errors
    /// [`AckBeyondSent`]; the account is unchanged.
    pub fn ack(&mut self, seq: Seq) -> Result<(), AckBeyondSent> {
        if seq.is_after(self.sent) {
            return Err(AckBeyondSent {
                ack: seq,
                sent: self.sent,
            });
        }
        self.controlled = true;
        self.free(seq);
        Ok(())
    }

    /// The socket took everything up to this number; that counts as acknowledged until the first `ack`.
    pub fn socket_took(&mut self, seq: Seq) {
        if !self.controlled && !seq.is_after(self.sent) {
            self.free(seq);
        }
    }

    /// The number of the last message sent.
    pub fn last_sent(&self) -> Seq {
        self.sent
    }

    /// True from the first `ack` on.
    pub fn is_controlled(&self) -> bool {
        self.controlled
    }

    /// Messages sent and not acknowledged.
    pub fn outstanding_messages(&self) -> u32 {
        self.sent.since(self.acked)
    }

    /// Bytes sent and not acknowledged, high by at most one segment.
    pub fn outstanding_bytes(&self) -> u32 {
        let used = self.segments.iter().take(self.used as usize);
        used.fold(0, |sum, s| sum.saturating_add(s.bytes))
    }

    fn free(&mut self, seq: Seq) {
        if !seq.is_after(self.acked) {
            return;
        }
        self.acked = seq;
        let whole = self
            .segments
            .iter()
            .take(self.used as usize)
            .take_while(|s| !s.end.is_after(seq))
            .count();
        self.segments.rotate_left(whole);
        self.used -= whole as u8;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SMALL: WindowLimits = WindowLimits {
        messages: 4,
        bytes: 1000,
    };

    #[test]
    fn a_plain_client_is_controlled_by_its_socket() {
        let mut window = Window::new(SMALL);
        for _ in 0..100 {
            let seq = window.send(100);
            window.socket_took(seq);
        }
        assert!(window.is_open());
        assert!(!window.is_controlled());
        assert_eq!(window.outstanding_bytes(), 0);
    }

    #[test]
    fn from_the_first_ack_on_only_acks_open_the_window() {
        let mut window = Window::new(SMALL);
        window.ack(Seq::START).unwrap();
        for _ in 0..4 {
            let seq = window.send(10);
            window.socket_took(seq);
        }
        assert!(!window.is_open());
        window.ack(Seq::new(2)).unwrap();
        assert_eq!(window.outstanding_messages(), 2);
        assert!(window.is_open());
    }

    #[test]
    fn bytes_close_the_window_too() {
        let mut window = Window::new(SMALL);
        window.ack(Seq::START).unwrap();
        window.send(999);
        assert!(window.is_open());
        window.send(5000);
        assert!(!window.is_open());
        window.ack(Seq::new(2)).unwrap();
        assert_eq!(window.outstanding_bytes(), 0);
    }

    #[test]
    fn an_ack_of_the_future_is_refused_and_an_old_one_ignored() {
        let mut window = Window::new(SMALL);
        window.send(10);
        window.send(10);
        let error = window.ack(Seq::new(3)).unwrap_err();
        assert_eq!((error.ack, error.sent), (Seq::new(3), Seq::new(2)));
        assert!(!window.is_controlled());
        window.ack(Seq::new(2)).unwrap();
        window.ack(Seq::new(1)).unwrap();
        assert_eq!(window.outstanding_messages(), 0);
    }

    #[test]
    fn the_account_is_small() {
        assert!(size_of::<Window>() <= 96, "{}", size_of::<Window>());
    }

    proptest! {
        /// Against the obvious account, a list of all messages, across the wrap of the numbers.
        #[test]
        fn it_agrees_with_a_list_of_messages(
            start in prop_oneof![Just(0_u32), Just(u32::MAX - 20), any::<u32>()],
            messages in 1_u32..300,
            bytes in 1_u32..100_000,
            steps in proptest::collection::vec((any::<bool>(), 1_u32..20_000, 0.0_f64..=1.0), 1..400),
        ) {
            let limits = WindowLimits { messages, bytes };
            let mut window = Window::new(limits);
            window.sent = Seq::new(start);
            window.acked = Seq::new(start);
            window.ack(Seq::new(start)).unwrap();
            let mut list: VecDeque<(Seq, u32)> = VecDeque::new();
            let mut largest = 0;
            for (send, size, share) in steps {
                if send && window.is_open() {
                    list.push_back((window.send(size), size));
                    largest = largest.max(size);
                } else if !list.is_empty() {
                    let take = (share * list.len() as f64) as usize;
                    if let Some((seq, _)) = list.drain(..take).next_back() {
                        window.ack(seq).unwrap();
                    }
                }
                let exact: u32 = list.iter().map(|(_, b)| b).sum();
                prop_assert_eq!(window.outstanding_messages() as usize, list.len());
                prop_assert!(window.outstanding_bytes() >= exact);
                prop_assert!(window.outstanding_bytes() < bytes + largest + 1);
                prop_assert!(!list.is_empty() || window.outstanding_bytes() == 0);
                // Never stuck: a client that has acknowledged all but half a window finds it open, give or take
                // one segment and one message.
                if list.len() < messages as usize && exact + bytes / 8 + 2 * largest < bytes {
                    prop_assert!(window.is_open());
                }
            }
        }
    }
}
