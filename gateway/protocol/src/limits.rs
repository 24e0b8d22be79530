//! Pure: every limit of the protocol, with its unit and its reason.

use std::time::Duration;

/// Longest channel name, bytes of UTF-8. Encoded (base32 grows by 8/5) it stays below NATS' comfortable subject length.
pub const CHANNEL_NAME_BYTES: usize = 200;

/// Longest user id, bytes of UTF-8: the name of the user's own channel is `user:<id>` and must be a channel name.
pub const USER_ID_BYTES: usize = CHANNEL_NAME_BYTES - "user:".len();

/// Longest epoch, bytes. Long enough for a UUID with a prefix, short enough to repeat in every frame.
pub const EPOCH_BYTES: usize = 64;

/// Offsets stay below this: the largest range that a JavaScript number holds exactly.
pub const OFFSET_END: u64 = 1 << 53;

/// Longest `ref`, bytes; it is echoed, so it must not become a way to amplify.
pub const REF_BYTES: usize = 64;

/// Longest query string of a connect request, bytes. Proxies commonly cap the request head at 8 KiB; this leaves
/// 2 KiB of it for headers. A client with more channels sends the rest as `subscribe` after the welcome.
pub const QUERY_BYTES: usize = 6 * 1024;

/// Most channels of one connection, the user's own one included.
pub const CHANNELS_PER_CONNECTION: usize = 128;

/// Largest message in either direction by default, bytes of the frame's payload.
pub const MESSAGE_BYTES: u32 = 16 * 1024;

/// Unacknowledged messages on one connection by default.
pub const WINDOW_MESSAGES: u32 = 256;

/// Unacknowledged bytes on one connection by default.
pub const WINDOW_BYTES: u32 = 256 * 1024;

/// Segments in which the server's window counts bytes; an acknowledgement inside a segment frees it only when it is
/// whole, so the count is high by at most one segment, an eighth of the window.
pub const WINDOW_SEGMENTS: usize = 8;

/// Silence after which a client beats, by default. Any frame from the server ends silence.
pub const HEARTBEAT_CLIENT: Duration = Duration::from_secs(15);

/// How long a client waits for any sign of life after its beat, by default.
pub const HEARTBEAT_CLIENT_TIMEOUT: Duration = Duration::from_secs(8);

/// Silence after which a server probes, by default.
pub const HEARTBEAT_SERVER: Duration = Duration::from_secs(30);

/// How long a server waits for any sign of life after its probe, by default.
pub const HEARTBEAT_SERVER_TIMEOUT: Duration = Duration::from_secs(6);

/// A client beats at least once in this many intervals although it hears messages all the time: acknowledgements
/// below half a window and the cursors of idle channels travel with beats.
pub const HEARTBEAT_BUSY_FACTOR: u32 = 4;

/// Jitter shortens a client's heartbeat interval by at most this share, in percent.
pub const HEARTBEAT_JITTER_PERCENT: u32 = 20;

/// Upper bound of the first reconnect wait; it doubles with each try, so that the first six are fast (at most 3.2 s).
pub const BACKOFF_BASE: Duration = Duration::from_millis(100);

/// Upper bound of every reconnect wait.
pub const BACKOFF_CEILING: Duration = Duration::from_secs(30);

/// A connection that lived this long has proven itself: the next reconnect starts from the base again.
pub const BACKOFF_PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Limit of one try, from opening the socket to the `welcome`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After the welcome, limit for `subscribed` of all channels before a migration counts as failed.
pub const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait that a client takes from a server, so that one wrong answer cannot silence it for a day.
pub const SERVER_WAIT_MAX: Duration = Duration::from_mins(5);
