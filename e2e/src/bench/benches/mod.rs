//! Effects: one file per benchmark; each takes the run's context and returns what it found.

pub mod churn;
pub mod decay;
pub mod deflate;
pub mod fanout;
pub mod handshake;
pub mod idle;
pub mod memory;
pub mod peers;
pub mod registry;
pub mod slow;
pub mod soak;
pub mod stall;
pub mod writer;
pub mod zerocopy;
