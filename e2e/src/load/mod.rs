//! Effects: the load generator and the auditor.
//!
//! Many clients, each with its own user, follow their own channel and a few topics; publishers send to all of them at a
//! given rate. The auditor knows every accepted publish and every subscriber, reads raw frames beside what the
//! client hands to its application, and says what was lost, repeated, out of order, told as gap or refused.
//!
//! ```text
//! publish ─► (fleet) ─► client ─► tap: raw frames ──► track (wire) ┐
//!    │                     └────► deliver: events ──► track (app)  ├─► judge ─► tally ─► report
//!    └─► log: accepted publishes per channel ──────────────────────┘
//! ```
//!
//! `log`, `track`, `histogram` and `welcomes` are pure; the rest carries them.

mod args;
mod audit;
mod clients;
mod config;
mod handle;
mod histogram;
pub mod limits;
mod log;
mod publish;
mod report;
mod tally;
pub(crate) mod token;
mod track;
mod welcomes;

pub use args::{LoadArgs, run};
pub use config::LoadConfig;
pub use handle::Load;
pub use report::{AuditReport, Snapshot, StepReport};
pub use token::mint;
