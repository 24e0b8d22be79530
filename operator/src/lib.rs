//! The operator of `NotifyGateway` fleets.
//!
//! ```text
//! watch ─► queue ─► fleet::controller:  observe ─► plan ─► apply ─► status
//!                                       effect     pure    effect   patch only when changed
//! ```
//!
//! * [`fleet`]: what a fleet is seen to be, what is to be done about it, and the doing.
//! * [`drills`]: schedules and experiments.
//! * [`lease`]: who leads; only the leader's [`world`] exists, and it ends with its term.
//! * [`admin`], [`prometheus`], [`watch`]: what is asked, and of whom.
//! * [`events`]: what is reported; [`server`]: where it can be read.
//! * [`cli`]: `kubectl sluice`, which reads and writes Kubernetes objects only.
//! * [`limits`]: every bound, with its unit and reason.
//!
//! The pure part decides everything: which pod is created where, marked, drained at which rate and
//! deleted, and why. The effects read and write, and choose nothing.

pub mod admin;
pub mod cli;
pub mod controllers;
pub mod drills;
pub mod drive;
pub mod events;
pub mod fleet;
pub mod lease;
pub mod limits;
pub mod patches;
pub mod prometheus;
pub mod server;
pub mod watch;
pub mod world;
