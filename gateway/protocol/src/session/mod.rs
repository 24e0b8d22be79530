//! Pure: the client's side of a session, which outlives its connections.
//!
//! ```text
//! frames, ends, time, randomness ─► machine ─► commands (open, send, close, emit)
//!                                   │ link × 2: the live connection and the one being opened
//!                                   │    acks, heart
//!                                   ├ offsets: what the application has, per channel
//!                                   └ backoff
//! ```
//!
//! A moment is the time since some origin that the caller chose once, so nothing here reads a clock.

mod acks;
mod backoff;
mod event;
mod frames;
mod heart;
mod life;
mod link;
mod machine;
mod offsets;
mod resume;
#[cfg(test)]
mod simulation;

pub use acks::{Acks, SkippedSeq};
pub use backoff::Backoff;
pub use event::{Command, Ended, Event, LinkId, Moment, Open};
pub use heart::{Beat, Heart};
pub use machine::{Session, Step};
pub use offsets::{Joined, OffsetTable, Taken};
pub use resume::Resume;
