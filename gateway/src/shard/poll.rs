//! Effects (clock): how long a shard's thread is with one piece of work before it looks at its other work.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;

use super::Shard;
use crate::auth::now_millis;

/// One uninterrupted turn; measured when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    begun: Instant,
    seconds: &'a Histogram,
}

/// A moment, as both clocks have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    instant: Instant,
    /// Milliseconds since the Unix epoch.
    unix_ms: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            unix_ms: now_millis(),
        }
    }
}

impl Shard {
    /// A turn that begins now.
    pub fn turn(&self) -> Turn<'_> {
        let now = Moment::now();
        self.moment.set(now);
        Turn {
            begun: now.instant,
            seconds: &self.core.metrics.poll_seconds,
        }
    }

    /// When the present turn began. A turn takes well below a millisecond; reading the clock at every use takes longer than what is
    /// done with it.
    pub fn now(&self) -> Instant {
        self.moment.get().instant
    }

    /// The same as milliseconds since the Unix epoch.
    pub fn unix_millis(&self) -> u64 {
        self.moment.get().unix_ms
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
