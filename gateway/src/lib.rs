//! The gateway server: keeps the WebSocket connections of one pod and delivers notifications to them.
//!
//! ```text
//! socket ─► listener ─► handshake (HTTP, auth, room) ─► connection ◄── hub ◄── broker ◄── publish
//!                            │                           │  ▲
//!                        registry (places, sessions)     │  └─ history (what the hub no longer has)
//!                                                        └─ inbound, feed, farewell
//! admin /v1/drain ─► drain (plan and pacing are pure) ─► migrate in slots, newcomers get 503
//! every second: readings (memory, connections, tasks) ─► breaker (pure) ─► newcomers get 503
//! SIGUSR2, /debug/heap ─► forensics: who holds memory, who asks for it
//! SIGTERM ─► shutdown: not ready, accept for the endpoint lag, the same drain, exit
//! ```
//!
//! Nothing is queued per connection. The hub keeps a bounded ring of encoded frames per channel; a connection holds one position
//! per channel and reads on from there when its window and its socket allow. What the ring no longer covers comes from the
//! broker's history. A reader checks on every frame that the one before it was its own last: see `hub::ring`.

pub mod admin;
pub mod auth;
pub mod breaker;
pub mod broker;
pub mod cli;
pub mod config;
pub mod connection;
pub mod core;
pub mod drain;
pub mod error;
pub mod events;
pub mod forensics;
pub mod gateway;
pub mod handshake;
pub mod health;
pub mod history;
mod http_guard;
pub mod hub;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod publish;
pub mod registry;
pub mod shutdown;
pub mod tuning;

pub use gateway::{Gateway, StartError};
