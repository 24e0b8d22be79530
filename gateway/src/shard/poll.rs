//! Effects (clock): how long a shard's thread is with one piece of work before it looks at its other work.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;

use super::Shard;

/// One uninterrupted turn; measured when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    begun: Instant,
    seconds: &'a Histogram,
}

impl Shard {
    /// A turn that begins now.
    pub fn turn(&self) -> Turn<'_> {
        Turn {
            begun: Instant::now(),
            seconds: &self.core.metrics.poll_seconds,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Work that is measured at each poll. For the few tasks of a shard itself; a connection begins its turns on its own.
pub async fn measured(shard: std::rc::Rc<Shard>, work: impl Future<Output = ()>) {
    let mut work = std::pin::pin!(work);
    let poll = |cx: &mut Context<'_>| -> Poll<()> {
        let _turn = shard.turn();
        Pin::as_mut(&mut work).poll(cx)
    };
    std::future::poll_fn(poll).await;
}
