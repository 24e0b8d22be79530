//! Fuzz targets of the gateway. Each is a function of bytes that panics when a rule is broken:
//!
//! ```text
//! handshake  bytes ─► a gateway's client port ─► no answer but a right one
//! frames     bytes ─► an upgraded connection  ─► what `model` says RFC 6455 allows, and nothing else
//! messages   bytes ─► the wire protocol's readers ─► what was read survives writing and reading
//! ```
//!
//! Seeds are the cases of `gateway/tests/rfc6455`, a committed corpus of inputs that reached new code, and `cases/`: one file
//! per input that once broke a rule. `cargo test` runs all of them; `cargo verify --only fuzz` searches for more.

pub mod exchange;
pub mod frames;
pub mod handshake;
pub mod messages;
pub mod model;
pub mod seeds;
pub mod shape;
pub mod start;
pub mod suite;

/// A target by its name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    match name {
        "handshake" => Some(handshake::run),
        "frames" => Some(frames::run),
        "messages" => Some(messages::run),
        _ => None,
    }
}

/// Names of all targets.
pub const TARGETS: [&str; 3] = ["handshake", "frames", "messages"];
