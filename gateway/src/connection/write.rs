//! Effects (socket): the only place that writes to a live connection's socket. A batch goes out with one call; what the socket did
//! not take waits in the outbox, and nothing else is begun before that is out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite as _;

use super::batch::{Batch, Due, SLICES};
use super::outbox::Outbox;
use super::slots::Slots;
use super::{Connection, Farewell};
use crate::limits;

impl Connection {
    /// True when one more message fits the window and the socket is not stuck.
    pub(super) fn can_send(&self) -> bool {
        let limits = &self.shard.core().config.limits;
        let (messages, bytes) = self.batch.as_ref().map_or((0, 0), |batch| {
            (batch.messages() as u32, batch.message_bytes())
        });
        self.outbox.is_none()
            && self.window.outstanding_messages() + messages < limits.window_messages
            && self.window.outstanding_bytes().saturating_add(bytes) < limits.window_bytes
    }

    /// Writes what is due. Messages that the socket does not begin stay where they are; everything else waits in the outbox.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Farewell> {
        let Some(mut batch) = self.batch.take() else {
            return Ok(());
        };
        if batch.is_empty() {
            self.shard.return_batch(batch);
            return Ok(());
        }
        let (mut taken, mut whole) = (0, false);
        if self.outbox.is_none() {
            let all = batch.len();
            if let Poll::Ready(result) = self.write_once(&batch, all, cx) {
                taken = result.map_err(|error| Farewell::of_io(&error))?;
            }
            whole = taken == all;
        }
        let now = self.shard.now();
        let waiting = self.outbox.take();
        let mut rest = waiting.map_or_else(|| Outbox::new(now), |outbox| *outbox);
        let (mut left, mut began, mut published) = (Slots::default(), 0, 0);
        batch.each_message(|due| {
            left.insert(due.slot);
        });
        batch.settle(
            taken,
            |due| {
                began += 1;
                published = due.frame.time;
                self.count(due);
            },
            &mut rest,
        );
        self.shard.return_batch(batch);
        if began > 0 {
            self.shard.core().metrics.delivered.inc_by(began);
            self.shard.observe(published);
        }
        if whole {
            self.flushed(now);
            return Ok(());
        }
        let full = rest.held() > self.outbox_bytes();
        self.outbox = Some(Box::new(rest));
        while let Some(slot) = left.next_from(0) {
            left.remove(slot);
            self.make_ready(slot);
        }
        if full {
            // It makes us answer and does not read.
            return Err(Farewell::slow());
        }
        // Also asks to be woken when the socket takes more.
        self.drain_outbox(cx)
    }

    /// One call for the whole batch. The kernel takes longer to read a list of slices than a few hundred bytes take to be copied.
    fn write_once(
        &mut self,
        batch: &Batch,
        all: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if all <= limits::COPIED_WRITE_BYTES {
            let mut scratch = self.shard.lend_scratch();
            let copied = batch.copy(&mut scratch);
            let written = Pin::new(&mut self.stream).poll_write(cx, &scratch[..copied]);
            self.shard.return_scratch(scratch);
            return written;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.slices(&mut slices);
        Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn drain_outbox(&mut self, cx: &mut Context<'_>) -> Result<(), Farewell> {
        while let Some(outbox) = &mut self.outbox {
            let mut slices = [IoSlice::new(&[]); limits::OUTBOX_SLICES];
            let count = outbox.slices(&mut slices);
            let written = if count == 0 {
                // Messages wait in their rings for this socket.
                self.stream.poll_write_ready(cx).map_ok(|()| 0)
            } else {
                Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])
            };
            let Poll::Ready(result) = written else {
                return Ok(());
            };
            let taken = result.map_err(|error| Farewell::of_io(&error))?;
            let now = self.shard.now();
            outbox.advance(taken, now);
            if outbox.is_empty() {
                self.outbox = None;
                self.flushed(now);
            }
        }
        Ok(())
    }

    /// A message is on its way: it has its number, and its channel has moved on.
    fn count(&mut self, due: &Due) {
        self.window.send(due.text);
        if let Some(subscription) = self.subscription(due.slot) {
            let place = &mut subscription.place;
            place.at = due.frame.offset;
            place.checked = place.checked.max(due.frame.offset);
        }
    }

    fn flushed(&mut self, now: Instant) {
        self.liveness.flushed(now);
        self.window.socket_took(self.window.last_sent());
    }

    /// Most bytes that may be held for a socket: one largest frame, and answers of a client that does not read.
    fn outbox_bytes(&self) -> usize {
        self.shard.core().config.message_bytes as usize
            + limits::FRAME_OVERHEAD_BYTES
            + limits::OUTBOX_SLACK_BYTES
    }
}
