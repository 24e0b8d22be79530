//! Pure: a measured number with its unit, its spread and what it must reach, and the arithmetic of samples.

use super::svg::Series;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Fails above it.
    AtMost(f64),
    /// Fails below it.
    AtLeast(f64),
}

/// How a figure stands to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// There is a bound, but nothing could be measured; that is no pass.
    Unmeasured,
    /// Without a bound.
    Reported,
}

impl Verdict {
    /// As tables and JSON show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Unmeasured => "unmeasured",
            Self::Reported => "reported",
        }
    }
}

/// One number of one benchmark.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name within its benchmark, a stable word for machines.
    pub name: String,
    /// The value; `None` when this gateway does not let it be measured.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// Least and greatest of the samples behind the value.
    pub spread: Option<(f64, f64)>,
    /// What it must reach.
    pub bound: Option<Bound>,
    /// What a reader should know about it.
    pub note: String,
}

impl Figure {
    /// A single measurement.
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::maybe(name, unit, Some(value))
    }

    /// A measurement that may be missing.
    pub fn maybe(name: impl Into<String>, unit: &'static str, value: Option<f64>) -> Self {
        Self {
            name: name.into(),
            value: value.filter(|v| v.is_finite()),
            unit,
            spread: None,
            bound: None,
            note: String::new(),
        }
    }

    /// The median of samples with their range.
    pub fn of(name: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        let mut figure = Self::maybe(name, unit, median(samples));
        figure.spread = range(samples);
        figure
    }

    /// Adds a bound.
    #[must_use]
    pub fn must(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How it stands to its bound.
    pub fn verdict(&self) -> Verdict {
        let holds = match (self.value, self.bound) {
            (_, None) => return Verdict::Reported,
            (None, Some(_)) => return Verdict::Unmeasured,
            (Some(value), Some(Bound::AtMost(most))) => value <= most,
            (Some(value), Some(Bound::AtLeast(least))) => value >= least,
        };
        if holds { Verdict::Pass } else { Verdict::Fail }
    }
}

/// A file that a benchmark drew.
#[derive(Clone, Debug)]
pub struct Plot {
    /// File name without folder.
    pub file: &'static str,
    /// Its text.
    pub svg: String,
}

/// What one benchmark found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Its numbers, in reading order.
    pub figures: Vec<Figure>,
    /// Its pictures.
    pub plots: Vec<Plot>,
    /// Samples over time, for machines; their names are stable words.
    pub series: Vec<Series>,
    /// What was left out, and why; one line each.
    pub skipped: Vec<String>,
}

/// The middle sample; between two of them their mean.
pub fn median(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The smallest sample that at least `share` (0 to 1) of all samples do not exceed.
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(samples);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).or(sorted.last()).copied()
}

fn range(samples: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(samples);
    Some((*sorted.first()?, *sorted.last()?))
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|s| s.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 1.0]), Some(1.0));
    }

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
        assert_eq!(quantile(&hundred, 1.0), Some(100.0));
        assert_eq!(quantile(&[7.0], 0.5), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let bound = Bound::AtMost(2.0);
        let verdict = |value| Figure::maybe("x", "", value).must(bound).verdict();
        assert_eq!(verdict(Some(2.0)), Verdict::Pass);
        assert_eq!(verdict(Some(2.1)), Verdict::Fail);
        assert_eq!(verdict(None), Verdict::Unmeasured);
        assert_eq!(verdict(Some(f64::NAN)), Verdict::Unmeasured);
        assert_eq!(Figure::new("x", "", 9.0).verdict(), Verdict::Reported);
        let least = Figure::new("x", "", 0.79).must(Bound::AtLeast(0.8));
        assert_eq!(least.verdict(), Verdict::Fail);
    }
}
