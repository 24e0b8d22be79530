//! Effects: where events and raw frames go.

use std::future::Future;

use sluice_protocol::ServerMessage;
use sluice_protocol::session::{Event, LinkId};
use tokio::sync::mpsc;

/// The application's end of the session.
pub trait Deliver: Send + 'static {
    /// Takes one event. While it waits, nothing is read and nothing acknowledged. False ends the session.
    fn deliver(&mut self, event: Event) -> impl Future<Output = bool> + Send;
}

impl Deliver for mpsc::Sender<Event> {
    async fn deliver(&mut self, event: Event) -> bool {
        self.send(event).await.is_ok()
    }
}

/// Sees every frame as it came, with the connection it came on, before anything is judged or dropped.
pub trait Tap: Send + 'static {
    /// One frame; `bytes` is its length.
    fn frame(&mut self, link: LinkId, frame: &ServerMessage, bytes: usize);
}

/// Looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn frame(&mut self, _: LinkId, _: &ServerMessage, _: usize) {}
}
