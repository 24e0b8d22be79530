//! Pure: when one connection's client acknowledges.

use crate::seq::Seq;
use crate::server::Limits;

/// A message number was left out: frames were lost or mixed up, so the connection cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedSeq;

/// Counts what was taken since the last acknowledgement.
#[derive(Clone, Debug)]
pub struct Acks {
    half_messages: u32,
    half_bytes: u32,
    taken: Seq,
    acked: Seq,
    bytes: u32,
}

impl Acks {
    /// For a connection just welcomed, whose welcome is acknowledged by the caller.
    pub fn new(limits: Limits) -> Self {
        Self {
            half_messages: (limits.window_messages / 2).max(1),
            half_bytes: (limits.window_bytes / 2).max(1),
            taken: Seq::START,
            acked: Seq::START,
            bytes: 0,
        }
    }

    /// A `message` frame of this many bytes was taken; the number to acknowledge now, if it is time.
    ///
    /// # Errors
    /// [`SkippedSeq`] when it is not the next number.
    pub fn taken(&mut self, seq: Seq, bytes: u32) -> Result<Option<Seq>, SkippedSeq> {
        if seq != self.taken.next() {
            return Err(SkippedSeq);
        }
        self.taken = seq;
        self.bytes = self.bytes.saturating_add(bytes);
        let due = seq.since(self.acked) >= self.half_messages || self.bytes >= self.half_bytes;
        Ok(if due { self.with_beat() } else { None })
    }

    /// What to acknowledge along with a beat.
    pub fn with_beat(&mut self) -> Option<Seq> {
        if self.taken == self.acked {
            return None;
        }
        self.acked = self.taken;
        self.bytes = 0;
        Some(self.acked)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::window::{Window, WindowLimits};
    use proptest::prelude::*;

    fn acks(messages: u32, bytes: u32) -> Acks {
        Acks::new(Limits {
            window_messages: messages,
            window_bytes: bytes,
            message_bytes: 1,
        })
    }

    #[test]
    fn half_a_window_is_acknowledged_and_the_rest_with_the_beat() {
        let mut acks = acks(4, 1000);
        assert_eq!(acks.taken(Seq::new(1), 10), Ok(None));
        assert_eq!(acks.taken(Seq::new(2), 10), Ok(Some(Seq::new(2))));
        assert_eq!(acks.taken(Seq::new(3), 10), Ok(None));
        assert_eq!(acks.with_beat(), Some(Seq::new(3)));
        assert_eq!(acks.with_beat(), None);
        assert_eq!(acks.taken(Seq::new(4), 500), Ok(Some(Seq::new(4))));
    }

    #[test]
    fn a_skipped_number_is_noticed() {
        let mut acks = acks(4, 1000);
        assert_eq!(acks.taken(Seq::new(2), 10), Err(SkippedSeq));
    }

    proptest! {
        /// A client and a server of this crate never wait for each other, whatever the window and the sizes, as long
        /// as no message takes more than a quarter of the window.
        #[test]
        fn the_window_never_stays_closed(
            messages in 1_u32..400,
            sizes in proptest::collection::vec(1_u32..4096, 1..600),
            factor in 4_u32..64,
        ) {
            let bytes = 4096 * factor;
            let mut window = Window::new(WindowLimits { messages, bytes });
            let mut acks = acks(messages, bytes);
            window.ack(Seq::START).unwrap();
            for size in sizes {
                prop_assert!(window.is_open());
                let seq = window.send(size);
                if let Some(ack) = acks.taken(seq, size).unwrap() {
                    window.ack(ack).unwrap();
                }
            }
        }
    }
}
