//! Effects (locks, wake-ups): how a channel tells a connection that there is something to read. Holds no message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::connection::control::Control;

/// What others may leave for a connection's task: slots with news, and orders. Bounded by the connection's channels.
#[derive(Debug, Default)]
pub struct Mailbox {
    slots: Mutex<Vec<u16>>,
    orders: Mutex<Vec<Control>>,
    notify: Notify,
}

impl Mailbox {
    /// Gives an order. Repeated ones of a kind replace each other.
    pub fn order(&self, order: Control) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|known| std::mem::discriminant(known) != std::mem::discriminant(&order));
        orders.push(order);
        drop(orders);
        self.notify.notify_one();
    }

    /// Takes the slots with news.
    pub fn take_slots(&self) -> Vec<u16> {
        std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the orders.
    pub fn take_orders(&self) -> Vec<Control> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when something was left.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }
}

/// One subscription's bell.
#[derive(Debug)]
pub struct Tap {
    connection: u64,
    slot: u16,
    rung: AtomicBool,
    mailbox: Arc<Mailbox>,
}

impl Tap {
    /// For a slot of a connection.
    pub fn new(connection: u64, slot: u16, mailbox: Arc<Mailbox>) -> Self {
        Self {
            connection,
            slot,
            rung: AtomicBool::new(false),
            mailbox,
        }
    }

    /// Which connection.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Says that there is news; costs one flag when it was said already.
    pub fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.mailbox
                .slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.slot);
            self.mailbox.notify.notify_one();
        }
    }

    /// The connection is about to look: later news rings again.
    pub fn answered(&self) {
        self.rung.store(false, Ordering::Release);
    }
}
