//! Pure: the wire protocol of Sluice, `sluice.v1.json`, and the state machines on both of its ends.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time and randomness are arguments. What a
//! reader needs is `PROTOCOL.md` beside this crate; what the code does with it is, in the order of a connection's life:
//!
//! ```text
//! query ─► close/error ─► server ◄─ frame        words both ends use: ids, seq, channel, limits
//! (handshake)  (refusals)  client                session/: the client's side · window: the server's side
//! ```

pub mod channel;
pub mod client;
pub mod close;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod query;
pub mod seq;
pub mod server;
pub mod session;
pub mod window;

pub use channel::{ChannelName, UserId};
pub use client::{ClientMessage, Rejected};
pub use close::{CloseCode, Retry};
pub use error::ErrorCode;
pub use frame::{MessagePrefix, message_prefix, message_suffix};
pub use ids::{Epoch, Offset, Payload, Position, Ref};
pub use query::{ConnectQuery, QueryError, Subscription};
pub use seq::Seq;
pub use server::ServerMessage;
pub use window::{AckBeyondSent, Window, WindowLimits};

/// Name of the WebSocket subprotocol; what a client without one gets, too.
pub const SUBPROTOCOL: &str = "sluice.v1.json";

/// Start of the subprotocol that carries a token, for browsers, which cannot set headers: `bearer.<token>`.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";

/// Path of the WebSocket endpoint.
pub const CONNECT_PATH: &str = "/v1/connect";
