//! Pure: when clients were welcomed, and how many of them in any short time.

/// Why a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client's first.
    First,
    /// After the one before had ended.
    Reconnect,
    /// Beside a live one, because the server asked.
    Move,
}

/// Welcomes in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Welcomes {
    /// Milliseconds since the load began, ascending but for the races of threads.
    times: Vec<(u32, Kind)>,
}

impl Welcomes {
    /// Notes one.
    pub(super) fn add(&mut self, at_ms: u32, kind: Kind) {
        self.times.push((at_ms, kind));
    }

    /// Most welcomes, other than first ones, in any `window_ms` after `from_ms`.
    pub(super) fn peak(&self, from_ms: u32, window_ms: u32) -> u64 {
        let mut times: Vec<u32> = self.again(from_ms).map(|(at, _)| at).collect();
        times.sort_unstable();
        let mut peak = 0;
        let mut oldest = 0;
        for (newest, at) in times.iter().enumerate() {
            while times[oldest] + window_ms <= *at {
                oldest += 1;
            }
            peak = peak.max(newest + 1 - oldest);
        }
        peak as u64
    }

    /// Welcomes of any kind after `from_ms`.
    pub(super) fn since(&self, from_ms: u32) -> u64 {
        // Times are nearly ascending: look back from the end until well before.
        let recent = self
            .times
            .iter()
            .rev()
            .take_while(|(at, _)| at + 1000 > from_ms);
        recent.filter(|(at, _)| *at >= from_ms).count() as u64
    }

    /// Welcomes other than first ones after `from_ms`.
    pub(super) fn again(&self, from_ms: u32) -> impl Iterator<Item = (u32, Kind)> {
        let times = self.times.iter().copied();
        times.filter(move |(at, kind)| *at >= from_ms && *kind != Kind::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_slides() {
        let mut welcomes = Welcomes::default();
        for at in [0, 10, 20] {
            welcomes.add(at, Kind::First);
        }
        for at in [4900, 5100, 5200, 9800, 9899, 9900, 30_000] {
            welcomes.add(at, Kind::Move);
        }
        assert_eq!(welcomes.peak(0, 5000), 5);
        assert_eq!(welcomes.peak(0, 1000), 3);
        assert_eq!(welcomes.peak(10_000, 5000), 1);
        assert_eq!(welcomes.peak(40_000, 5000), 0);
        assert_eq!(welcomes.since(9899), 3);
        assert_eq!(welcomes.again(0).count(), 7);
    }
}
