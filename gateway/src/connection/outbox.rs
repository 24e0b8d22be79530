//! Pure: what a socket did not take. It holds slices of shared frames and is gone once it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf as _, Bytes};

/// What a chunk takes up beside its bytes: its place, and an allocation of its own.
const CHUNK_BYTES: usize = 64;

/// Bytes that wait for a socket, in order.
#[derive(Debug)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// When the socket last took something.
    moved: Instant,
}

impl Outbox {
    /// Empty; the socket took something just now, or refused for the first time.
    pub fn new(now: Instant) -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            moved: now,
        }
    }

    /// Puts bytes behind the others.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it takes up: many small answers are mostly overhead.
    pub fn held(&self) -> usize {
        self.bytes + self.chunks.len() * CHUNK_BYTES
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Since when the socket has taken nothing.
    pub fn stuck_since(&self) -> Instant {
        self.moved
    }

    /// The first bytes that wait; says how many slices were filled.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let count = self.chunks.len().min(into.len());
        for (slice, chunk) in into.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        count
    }

    /// The socket took so many bytes.
    pub fn advance(&mut self, mut taken: usize, now: Instant) {
        self.moved = now;
        self.bytes -= taken.min(self.bytes);
        while let Some(first) = self.chunks.front_mut() {
            if taken < first.len() {
                first.advance(taken);
                return;
            }
            taken -= first.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_answers_are_not_free() {
        let mut outbox = Outbox::new(Instant::now());
        for _ in 0..100 {
            outbox.push(Bytes::from_static(b"pp"));
        }
        assert_eq!(outbox.len(), 200);
        assert!(outbox.held() >= 100 * (2 + size_of::<Bytes>()));
    }

    proptest! {
        #[test]
        fn everything_goes_out_once_and_in_order(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..30),
            takes in proptest::collection::vec(1_usize..40, 700),
        ) {
            let now = Instant::now();
            let mut outbox = Outbox::new(now);
            for chunk in &chunks {
                outbox.push(chunk.clone().into());
            }
            let all = chunks.concat();
            prop_assert_eq!(outbox.len(), all.len());
            let mut out = Vec::new();
            for take in takes {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = outbox.slices(&mut slices);
                let offered = slices.iter().take(count).flat_map(|slice| slice.iter().copied());
                let taken: Vec<u8> = offered.take(take).collect();
                outbox.advance(taken.len(), now);
                out.extend(taken);
                prop_assert_eq!(outbox.len(), all.len() - out.len());
            }
            prop_assert!(outbox.is_empty());
            prop_assert_eq!(out, all);
        }
    }
}
