//! Effects (wake-ups): what a shard does with letters. Each session is kept by one shard, chosen by the session's own bytes, so that
//! two connections of a session find each other wherever they are.

use std::time::Duration;

use super::inbox::{Letter, Seat};
use super::slab::Key;
use super::{Entry, Shard};
use crate::auth::resume::SessionId;
use crate::connection::control::Control;
use crate::limits;

impl Shard {
    /// Sends a letter; one to this shard is read at once.
    pub(super) fn send(&self, shard: u16, letter: Letter) {
        if shard == self.index {
            self.read(letter);
        } else {
            self.core.registry.inbox(shard).post(letter);
        }
    }

    /// Reads everything that others have sent.
    pub fn read_letters(&self) {
        for letter in self.inbox.take_letters() {
            self.read(letter);
        }
    }

    fn read(&self, letter: Letter) {
        match letter {
            Letter::Order(key, order) => self.order(key, order),
            Letter::Arrived(session, seat) => self.arrived(session, seat),
            Letter::Left(session, seat) => self.left(session, seat),
            // Whoever asked may be gone; then nobody misses the answer. The same below.
            Letter::IsHere(session, answer) => {
                let here = self.sessions.borrow().contains_key(&session);
                let _ = answer.send(here);
            }
            Letter::NotAsked(answer) => {
                let mut entries = self.entries.borrow_mut();
                let staying = entries
                    .iter_mut()
                    .filter(|(_, entry)| entry.present && !entry.asked_to_go);
                let _ = answer.send(staying.map(|(key, _)| key).collect());
            }
            Letter::Ask(orders, answer) => {
                let asked = orders.into_iter().filter(|(key, _)| self.may_ask(*key));
                let _ = answer.send(asked.map(|(key, order)| self.order(key, order)).count());
            }
            Letter::LetStay => self.order_all(|entry| {
                let asked = std::mem::take(&mut entry.asked_to_go);
                asked.then_some(Control::Stay)
            }),
            Letter::CloseAll => self.order_all(|_| Some(Control::Drained)),
        }
    }

    /// The older connection goes on beside the new one for a while; one that was replaced before ends now. So however often a
    /// session comes back, it has no more than these two, and its right to pass the limits is worth one connection.
    fn arrived(&self, session: SessionId, seat: Seat) {
        let Some(old) = self.sessions.borrow_mut().insert(session, seat) else {
            return;
        };
        let oldest = self.overlapping.borrow_mut().insert(session, old);
        let leaving = [
            Some((old, limits::REPLACED_OVERLAP)),
            oldest.map(|seat| (seat, Duration::ZERO)),
        ];
        for (seat, overlap) in leaving.into_iter().flatten() {
            let order = Control::Replaced(overlap);
            self.send(seat.shard, Letter::Order(seat.key, order));
        }
    }

    fn left(&self, session: SessionId, seat: Seat) {
        for table in [&self.sessions, &self.overlapping] {
            let mut table = table.borrow_mut();
            if table.get(&session) == Some(&seat) {
                table.remove(&session);
                if table.len() < table.capacity() / 4 {
                    table.shrink_to_fit();
                }
            }
        }
    }

    /// Marks a connection as asked to go; false when it is gone or was asked before.
    fn may_ask(&self, key: Key) -> bool {
        let mut entries = self.entries.borrow_mut();
        entries
            .get_mut(key)
            .is_some_and(|entry| entry.present && !std::mem::replace(&mut entry.asked_to_go, true))
    }

    fn order(&self, key: Key, order: Control) {
        let mut entries = self.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(key).filter(|entry| entry.present) {
            entry.orders.push(order);
            entry.wake();
        }
    }

    fn order_all(&self, choose: impl Fn(&mut Entry) -> Option<Control>) {
        let mut entries = self.entries.borrow_mut();
        for (_, entry) in entries.iter_mut().filter(|(_, entry)| entry.present) {
            if let Some(order) = choose(entry) {
                entry.orders.push(order);
                entry.wake();
            }
        }
    }
}

impl Entry {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
