//! The gateway server: keeps the WebSocket connections of one pod and delivers notifications to them.
//!
//! ```text
//!           ┌───────────────── shard: one thread, one runtime, one listener ─────────────────┐    ┌────── control runtime ───────┐
//! socket ─► │ listener ─► handshake (HTTP, limits, credentials, room) ─► connection ◄─ rings │ ◄─ │ hub ◄─── broker ◄─── publish │
//!           │                                                            │  ▲   ▲            │    │ history    breaker    drain  │
//! socket ◄─ │ batch, outbox ◄─── inbound, feed, farewell ◄───────────────┘  │   └─ wheel     │    │ tuning     admin   shutdown  │
//!           └─────────────────────────────────────────────────────── inbox ─┴────────────────┘ ◄─ └──────────────────────────────┘
//! admin /v1/drain ─► drain (plan and pacing are pure) ─► migrate in slots, newcomers get 503
//! admin /v1/limits ─► tuning ─► thresholds of breaker and health, without a restart
//! every second: readings (memory, connections, tasks) ─► breaker (decide is pure) ─► newcomers get 503
//! stalls, late answers ─► health (score and trip are pure) ─► closed as slow; its address refused for a while
//! SIGUSR2, /debug/heap ─► forensics: who holds memory, who asks for it
//! SIGTERM ─► shutdown: not ready, accept for the endpoint lag, the same drain, exit
//! ```
//!
//! A connection lives and dies on the thread that accepted it. Shards share read-only frames, counts, the inbox that each of them has,
//! and, in stripes with a lock each, what clients may do (`handshake`); the hub's table is touched when a shard's first follower of a
//! channel comes or its last one leaves.
//!
//! Nothing is queued per connection. A shard keeps a bounded ring of encoded frames per channel; a connection holds one position per
//! channel and reads on from there when its window and its socket allow. What the ring no longer covers comes from the broker's
//! history. A reader checks on every frame that the one before it was its own last: see `hub::ring`. Only answers, and the rest of a
//! message that the socket has begun to take, wait in an outbox; it is bounded and exists only meanwhile.

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
pub mod shard;
pub mod shutdown;
pub mod tuning;

pub use gateway::{Gateway, StartError};
