//! Effects (clock): is this process alive, and may clients be sent to it. Load, broker and drain change neither.
//!
//! Below it, the health of single connections: `score` (pure), which addresses to refuse (`trip`, pure; `visitors`), and
//! their numbers.

pub mod numbers;
pub mod score;
pub mod trip;
pub mod visitors;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits;

/// Liveness and readiness.
#[derive(Debug)]
pub struct Health {
    made: Instant,
    listening: AtomicBool,
    terminating: AtomicBool,
    /// Milliseconds after `made` at which the runtime last ran.
    beat: AtomicU64,
}

impl Health {
    /// Alive, not ready.
    pub fn new() -> Self {
        Self {
            made: Instant::now(),
            listening: AtomicBool::new(false),
            terminating: AtomicBool::new(false),
            beat: AtomicU64::new(0),
        }
    }

    /// All ports are open.
    pub fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// SIGTERM came.
    pub fn set_terminating(&self) {
        self.terminating.store(true, Ordering::Release);
    }

    /// SIGTERM came.
    pub fn is_terminating(&self) -> bool {
        self.terminating.load(Ordering::Acquire)
    }

    /// Ports are open and nobody asked to stop.
    pub fn may_serve(&self) -> bool {
        self.listening.load(Ordering::Acquire) && !self.is_terminating()
    }

    /// False when the runtime has not run for [`limits::LIVENESS_STUCK`].
    pub fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Acquire));
        self.made.elapsed().saturating_sub(beat) < limits::LIVENESS_STUCK
    }

    /// Beats for ever; ends with its task.
    pub async fn run(&self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            self.beat
                .store(self.made.elapsed().as_millis() as u64, Ordering::Release);
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}
