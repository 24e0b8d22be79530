//! Effects (clock, wake-ups): what a shard does besides its connections: hands out news, keeps time, drops old frames.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::MissedTickBehavior;

use super::Shard;
use super::channels::Channel;
use crate::auth::now_millis;
use crate::limits;
use crate::metrics::level;

/// Reads the inbox and tells followers of news, for ever. A crowd is told a slice at a time, and those who were told write
/// before the next slice is.
pub async fn dispatch(shard: Rc<Shard>) {
    loop {
        shard.inbox.rung().await;
        shard.read_letters();
        shard.catch_up();
        while shard.tell() {
            yield_now().await;
            shard.read_letters();
            shard.catch_up();
        }
    }
}

/// Wakes whose time has come, for ever.
pub async fn keep_time(shard: Rc<Shard>) {
    loop {
        let next = shard.wheel.borrow_mut().next_due();
        let until = async {
            match next {
                Some(tick) => tokio::time::sleep_until(shard.moment_of(tick).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = until => {}
            () = shard.timer.notified() => continue,
        }
        while shard.expire() {
            yield_now().await;
        }
    }
}

/// Drops old frames and old reads, for ever.
pub async fn sweep(shard: Rc<Shard>) {
    loop {
        let keep = tokio::select! {
            () = tokio::time::sleep(limits::RING_SWEEP) => limits::RING_AGE,
            () = shard.crowded.notified() => {
                // Every message of a crowd rings. Looking at all channels each time would take the shard's whole time.
                tokio::time::sleep(limits::RING_AGE_CROWDED / 10).await;
                limits::RING_AGE_CROWDED
            }
        };
        shard.core.history.sweep();
        let oldest = now_millis().saturating_sub(keep.as_millis() as u64);
        let mut warm = shard.channels.borrow_mut().take_warm();
        while shard.expire_frames(&mut warm, oldest) {
            yield_now().await;
        }
    }
}

/// Says that the shard runs and how many wait for a moment, for ever.
pub async fn beat(shard: Rc<Shard>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        every.tick().await;
        let at = shard.core.started.elapsed().as_millis() as u64;
        shard.inbox.beat(at);
        // One number for all shards: each adds what has changed on it.
        let armed = level(shard.wheel.borrow().armed());
        shard.core.metrics.timers.inc_by(armed - told);
        told = armed;
    }
}

impl Shard {
    /// Tells a slice of followers; true when there are more.
    fn tell(&self) -> bool {
        let mut entries = self.entries.borrow_mut();
        self.channels
            .borrow_mut()
            .tell(limits::TOLD_PER_TURN, |key, slot| {
                if let Some(entry) = entries.get_mut(key)
                    && entry.news.insert(slot)
                {
                    entry.wake();
                }
            })
    }

    /// Drops old frames of a slice of channels; true when there are more.
    fn expire_frames(&self, warm: &mut Vec<Rc<Channel>>, oldest: u64) -> bool {
        let mut channels = self.channels.borrow_mut();
        let rest = warm.len().saturating_sub(limits::TOLD_PER_TURN);
        let expiring = warm.drain(rest..);
        let grown: isize = expiring
            .map(|channel| channels.expire(channel, oldest))
            .sum();
        self.core.metrics.ring_bytes.inc_by(grown as i64);
        rest > 0
    }

    /// Wakes a slice of those whose time has come; true when there are more.
    fn expire(&self) -> bool {
        let now = self.tick();
        let mut wheel = self.wheel.borrow_mut();
        let mut entries = self.entries.borrow_mut();
        for _ in 0..limits::TOLD_PER_TURN {
            let Some(index) = wheel.expire(now) else {
                return false;
            };
            if let Some(entry) = entries.at_mut(index) {
                entry.wake();
            }
        }
        true
    }
}
