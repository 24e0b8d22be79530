//! Pure: after which positions can nothing have grown too old? Answers without asking the stream, for everything that this
//! process has seen growing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits;

/// Looks that are kept: at one per comparison interval this covers hours; older ones are thinned out.
const LOOKS: usize = 512;

/// What was seen of the stream's end over time.
#[derive(Clone, Debug)]
pub(super) struct Age {
    safe: Duration,
    looks: VecDeque<(Instant, u64)>,
    /// Until then the whole stream is too young to have lost anything to age.
    whole_until: Option<Instant>,
}

impl Age {
    /// For a stream that keeps messages for `max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            safe: safe(max_age),
            looks: VecDeque::new(),
            whole_until: None,
        }
    }

    /// At this moment the stream ended at `last`, had existed for some time, and keeps messages for `max_age`.
    pub(super) fn look(&mut self, last: u64, existed: Duration, max_age: Duration, now: Instant) {
        self.safe = safe(max_age);
        self.whole_until = self.safe.checked_sub(existed).map(|left| now + left);
        self.looks.push_back((now, last));
        if self.looks.len() > LOOKS {
            let mut keep = false;
            self.looks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// True when nothing after this position can have grown too old.
    pub(super) fn holds(&mut self, after: u64, now: Instant) -> bool {
        if self.whole_until.is_some_and(|until| now < until) {
            return true;
        }
        let old = |at: Instant| now.saturating_duration_since(at) > self.safe;
        while self.looks.front().is_some_and(|(at, _)| old(*at)) {
            self.looks.pop_front();
        }
        self.looks.front().is_some_and(|(_, last)| after >= *last)
    }

    /// Positions are counted anew.
    pub(super) fn forget(&mut self) {
        self.looks.clear();
        self.whole_until = None;
    }
}

fn safe(max_age: Duration) -> Duration {
    max_age.saturating_sub(limits::HISTORY_AGE_MARGIN.min(max_age / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_young_stream_has_lost_nothing() {
        let start = Instant::now();
        let mut age = Age::new(HOUR);
        assert!(!age.holds(0, start), "never looked");
        age.look(500, Duration::from_mins(1), HOUR, start);
        assert!(age.holds(0, start));
        assert!(!age.holds(0, start + HOUR));
    }

    #[test]
    fn what_was_seen_growing_is_known_by_its_age() {
        let start = Instant::now();
        let mut age = Age::new(HOUR);
        age.look(500, HOUR * 9, HOUR, start);
        age.look(800, HOUR * 9, HOUR, start + HOUR / 2);
        assert!(age.holds(500, start + HOUR / 2));
        assert!(!age.holds(499, start + HOUR / 2));
        assert!(!age.holds(500, start + HOUR));
        assert!(age.holds(800, start + HOUR));
    }

    #[test]
    fn many_looks_need_bounded_room() {
        let start = Instant::now();
        let mut age = Age::new(HOUR * 24);
        for n in 0..10_000_u64 {
            age.look(n, HOUR * 99, HOUR * 24, start + Duration::from_secs(n));
        }
        assert!(age.looks.len() <= LOOKS);
        assert!(age.holds(9999, start + Duration::from_secs(10_000)));
    }
}
