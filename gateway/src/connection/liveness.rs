//! Pure: is the peer still there? Probes after silence; the time limit starts when the probe has left the socket.

use std::time::{Duration, Instant};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before this moment.
    Wait(Instant),
    /// Send a Ping frame.
    Probe,
    /// The probe was not answered.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// Written, but still in our buffer.
    Queued,
    Sent(Instant),
}

/// One peer's signs of life.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    heard: Instant,
    probe: Probe,
}

/// The same for all peers.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// A peer is probed after this.
    pub silence: Duration,
    /// It is given up this long after the probe left.
    pub patience: Duration,
}

impl Liveness {
    /// Just heard.
    pub fn new(now: Instant) -> Self {
        Self {
            heard: now,
            probe: Probe::None,
        }
    }

    /// Any frame came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.probe = Probe::None;
    }

    /// Since when a probe has been waiting for its answer.
    pub fn waiting_since(&self) -> Option<Instant> {
        match self.probe {
            Probe::Sent(at) => Some(at),
            Probe::None | Probe::Queued => None,
        }
    }

    /// The write buffer is empty.
    pub fn flushed(&mut self, now: Instant) {
        if self.probe == Probe::Queued {
            self.probe = Probe::Sent(now);
        }
    }

    /// What to do now.
    pub fn check(&mut self, rule: Rule, now: Instant) -> Verdict {
        let Rule { silence, patience } = rule;
        match self.probe {
            Probe::None if now >= self.heard + silence => {
                self.probe = Probe::Queued;
                Verdict::Probe
            }
            Probe::None => Verdict::Wait(self.heard + silence),
            // Stuck behind a blocked socket: the rule for slow readers decides.
            Probe::Queued => Verdict::Wait(now + silence),
            Probe::Sent(at) if now >= at + patience => Verdict::Dead,
            Probe::Sent(at) => Verdict::Wait(at + patience),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(30);
    const PATIENCE: Duration = Duration::from_secs(6);
    const RULE: Rule = Rule {
        silence: SILENCE,
        patience: PATIENCE,
    };

    #[test]
    fn silence_is_probed_and_then_ended() {
        let start = Instant::now();
        let mut peer = Liveness::new(start);
        assert_eq!(peer.check(RULE, start), Verdict::Wait(start + SILENCE));
        assert_eq!(peer.check(RULE, start + SILENCE), Verdict::Probe);
        let left = start + SILENCE + Duration::from_secs(2);
        peer.flushed(left);
        assert_eq!(peer.check(RULE, left), Verdict::Wait(left + PATIENCE));
        assert_eq!(peer.check(RULE, left + PATIENCE), Verdict::Dead);
    }

    #[test]
    fn a_probe_that_never_left_ends_nothing() {
        let start = Instant::now();
        let mut peer = Liveness::new(start);
        assert_eq!(peer.check(RULE, start + SILENCE), Verdict::Probe);
        let much_later = start + SILENCE * 10;
        assert_eq!(
            peer.check(RULE, much_later),
            Verdict::Wait(much_later + SILENCE)
        );
    }

    #[test]
    fn any_frame_is_life() {
        let start = Instant::now();
        let mut peer = Liveness::new(start);
        assert_eq!(peer.check(RULE, start + SILENCE), Verdict::Probe);
        peer.flushed(start + SILENCE);
        let heard = start + SILENCE + PATIENCE;
        peer.heard(heard);
        assert_eq!(peer.check(RULE, heard), Verdict::Wait(heard + SILENCE));
    }
}
