//! One fleet, in the order its data flows.
//!
//! ```text
//! observed ── what was seen (pure data; `observe` fills it in)
//! plan ────── what is to be done (pure), with its rooms:
//!   revision     which settings make a gateway a different gateway
//!   tuning       which settings reach gateways without a rollout
//!   placement    which zone a pod goes to
//!   scaling      how many pods there should be
//!   pacing       how fast each drain may go
//!   render       the Kubernetes objects themselves
//! status ──── what is written back of it (pure)
//! actuator ── how one action becomes one write (`apply` does it on a cluster, `carry` all of a plan)
//! controller  the pipeline of all this, for every fleet
//! views, looks  what observing makes of what it got (pure); `memory` is what it keeps
//! ```

pub mod actuator;
pub mod apply;
#[cfg(test)]
mod apply_tests;
pub mod carry;
pub mod controller;
pub mod looks;
pub mod memory;
pub mod observe;
pub mod observed;
pub mod pacing;
pub mod placement;
pub mod plan;
pub mod render;
pub mod revision;
pub mod scaling;
pub mod status;
pub mod tuning;
pub mod views;
