//! Pure: the client's heartbeat on one connection.

use std::time::Duration;

use super::event::Moment;
use crate::limits;
use crate::server::Heartbeat;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing until [`Heart::due`].
    Quiet,
    /// Send `ping` with this id, and acknowledgements along with it.
    Ping(u64),
    /// The beat was not answered: the connection is dead.
    Dead,
}

/// Deadlines of one connection.
#[derive(Clone, Debug)]
pub struct Heart {
    interval: Duration,
    timeout: Duration,
    /// Next beat when nothing is heard until then.
    beat_at: Moment,
    /// Next beat although messages are heard.
    busy_at: Moment,
    /// A beat is unanswered; dead at this moment.
    dead_at: Option<Moment>,
    pings: u64,
    /// How much of the interval is left after jitter, drawn once per connection, so that clients that were welcomed
    /// together do not beat together.
    jittered: Duration,
}

impl Heart {
    /// For a connection welcomed now; `random` in 0..1 draws the jitter.
    pub fn new(timing: Heartbeat, now: Moment, random: f64) -> Self {
        let interval = Duration::from_millis(u64::from(timing.client_ms.max(1)));
        let shorten = f64::from(limits::HEARTBEAT_JITTER_PERCENT) / 100.0 * random.clamp(0.0, 1.0);
        let jittered = interval.mul_f64(1.0 - shorten);
        Self {
            interval,
            timeout: Duration::from_millis(u64::from(timing.client_timeout_ms.max(1))),
            beat_at: now + jittered,
            busy_at: now + jittered * limits::HEARTBEAT_BUSY_FACTOR,
            dead_at: None,
            pings: 0,
            jittered,
        }
    }

    /// Something was heard.
    pub fn heard(&mut self, now: Moment) {
        self.beat_at = now + self.jittered;
        self.dead_at = None;
    }

    /// When to call [`Self::poll`] next.
    pub fn due(&self) -> Moment {
        self.dead_at.unwrap_or(self.beat_at.min(self.busy_at))
    }

    /// What to do now.
    pub fn poll(&mut self, now: Moment) -> Beat {
        if now < self.due() {
            return Beat::Quiet;
        }
        if self.dead_at.is_some() {
            return Beat::Dead;
        }
        self.dead_at = Some(now + self.timeout);
        self.beat_at = now + self.jittered;
        self.busy_at = now + self.interval * limits::HEARTBEAT_BUSY_FACTOR;
        self.pings += 1;
        Beat::Ping(self.pings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Heartbeat = Heartbeat {
        client_ms: 15_000,
        client_timeout_ms: 8_000,
        server_ms: 30_000,
    };

    fn s(seconds: f64) -> Moment {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn silence_is_probed_and_then_given_up() {
        let mut heart = Heart::new(TIMING, s(0.0), 0.0);
        assert_eq!(heart.due(), s(15.0));
        assert_eq!(heart.poll(s(14.9)), Beat::Quiet);
        assert_eq!(heart.poll(s(15.0)), Beat::Ping(1));
        assert_eq!(heart.due(), s(23.0));
        assert_eq!(heart.poll(s(22.9)), Beat::Quiet);
        assert_eq!(heart.poll(s(23.0)), Beat::Dead);
    }

    #[test]
    fn anything_heard_is_life() {
        let mut heart = Heart::new(TIMING, s(0.0), 0.0);
        assert_eq!(heart.poll(s(15.0)), Beat::Ping(1));
        heart.heard(s(20.0));
        assert_eq!(heart.due(), s(35.0));
        assert_eq!(heart.poll(s(35.0)), Beat::Ping(2));
    }

    #[test]
    fn jitter_only_shortens() {
        assert_eq!(Heart::new(TIMING, s(0.0), 1.0).due(), s(12.0));
        assert_eq!(Heart::new(TIMING, s(0.0), 7.0).due(), s(12.0));
    }

    #[test]
    fn a_busy_connection_beats_once_in_four_intervals() {
        let mut heart = Heart::new(TIMING, s(0.0), 0.0);
        for second in 1..60 {
            heart.heard(s(f64::from(second)));
            assert_eq!(heart.poll(s(f64::from(second))), Beat::Quiet);
        }
        assert_eq!(heart.poll(s(60.0)), Beat::Ping(1));
        heart.heard(s(60.1));
        assert_eq!(heart.poll(s(61.0)), Beat::Quiet);
    }
}
