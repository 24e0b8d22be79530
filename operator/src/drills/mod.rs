//! Chaos on purpose, in the order it happens.
//!
//! ```text
//! schedule ───── when a drill is due (pure)
//! drill ──────── ChaosDrill → ChaosExperiment, as a CronJob makes Jobs (effects)
//! look ───────── a fleet as a drill sees it (pure)
//! experiment ─── one run as a state machine (pure)
//! record ─────── what it writes down (pure)
//! checks ─────── the steady state in PromQL (effects, judged by pure functions)
//! fault ──────── what is done to pods (effects)
//! run ────────── the controller that drives an experiment (effects)
//! ```

pub mod checks;
pub mod drill;
pub mod experiment;
#[cfg(test)]
mod experiment_tests;
pub mod fault;
pub mod look;
pub mod record;
pub mod run;
pub mod schedule;

/// Label of an experiment: the drill that made it.
pub const LABEL_DRILL: &str = "sluice.dev/drill";
