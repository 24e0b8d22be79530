//! Effects: the Rust client of Sluice.
//!
//! It keeps one session alive: connects with everything in the request, answers heartbeats, acknowledges, moves when
//! asked without a break, reconnects with backoff, and hands every notification to the application once and in
//! order, or says that there is a gap. The decisions are `sluice_protocol::session`'s; this crate carries them out.
//!
//! ```text
//! config ─► driver (one task) ◄─► dial ─► socket
//!             │   ▲ session machine (pure)
//!             ▼   └ control: subscribe, unsubscribe, stop
//!          deliver: events to the application · tap: raw frames to an auditor
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sluice_client::{Client, Config, Credentials, Event, fixed};
//!
//! let mut config = Config::new(fixed(["ws://127.0.0.1:8080"]), Credentials::dev_user("ann")?);
//! config.follow("news")?;
//! let (client, mut events) = Client::start(config);
//! while let Some(event) = events.recv().await {
//!     if let Event::Message { channel, data, .. } = event {
//!         tracing::info!(%channel, data = data.get());
//!     }
//! }
//! client.stop().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod deliver;
mod dial;
mod driver;
pub mod limits;

pub use config::{Config, Credentials, fixed};
pub use deliver::{Deliver, NoTap, Tap};
pub use driver::Client;
pub use sluice_protocol::session::{Ended, Event, LinkId, Resume};
