//! Effects (sockets): how clients of a swarm stop reading and how they leave, politely and otherwise.

use std::net::Shutdown;

use anyhow::Result;

use super::{Slot, Swarm, dial, frames};

impl Swarm {
    /// Makes a client read nothing, or read again.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub fn stall(&mut self, index: usize, stalled: bool) -> Result<()> {
        let Some(slot) = self.slots[index].as_mut() else {
            return Ok(());
        };
        slot.stalled = stalled;
        let writing = slot.writing;
        let Some(slot) = &self.slots[index] else {
            return Ok(());
        };
        self.watch(&slot.stream, index, !stalled, writing)
    }

    /// Ends one connection with a reset; false when it had ended already.
    pub fn reset(&mut self, index: usize) -> bool {
        let slot = self.remove(index);
        if let Some(slot) = &slot {
            dial::rude(&slot.stream);
        }
        slot.is_some()
    }

    /// Ends one connection as the kernel does for a program that exits; false when it had ended already.
    pub fn drop_one(&mut self, index: usize) -> bool {
        self.remove(index).is_some()
    }

    /// Sends a Close frame; the connection ends when the server does.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub fn say_goodbye(&mut self, index: usize) -> Result<()> {
        if let Some(slot) = self.slots[index].as_mut() {
            frames::client_frame(&mut slot.client.output, frames::CLOSE, &[0x03, 0xe8]);
        }
        self.flush(index)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub fn send_raw(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        if let Some(slot) = self.slots[index].as_mut() {
            slot.client.output.extend_from_slice(bytes);
        }
        self.flush(index)
    }

    /// Shuts the sending side.
    pub fn half_close(&mut self, index: usize) {
        if let Some(slot) = &self.slots[index] {
            // Refused when the server was faster.
            let _ = slot.stream.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn ended(&mut self, index: usize) {
        if self.remove(index).is_some() {
            self.tally.ended += 1;
            self.got_ended.push(index);
        }
    }

    fn remove(&mut self, index: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(index)?.take()?;
        // A stalled descriptor is known to the queue, too.
        let _ = self.epoll.delete(&slot.stream);
        if slot.counted {
            self.tally.ready -= 1;
        }
        self.free.push(index);
        Some(slot)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for slot in self.slots.iter().flatten() {
            dial::rude(&slot.stream);
        }
    }
}
