//! Pure: how long each step of a start took.

use std::fmt;
use std::time::Duration;

/// Steps in their order, with the time each took.
#[derive(Clone, Debug, Default)]
pub struct Timings(Vec<(&'static str, Duration)>);

impl Timings {
    /// Notes a step's time.
    pub fn note(&mut self, step: &'static str, took: Duration) {
        self.0.push((step, took));
    }

    /// The time of one step.
    pub fn of(&self, step: &str) -> Option<Duration> {
        self.0
            .iter()
            .find(|(s, _)| *s == step)
            .map(|(_, took)| *took)
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (step, took)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{step} {:.1} s", took.as_secs_f32())?;
        }
        Ok(())
    }
}
