//! Pure: every limit of the client, with its unit and its reason.

use std::time::Duration;

/// Read buffer of one connection, bytes. Frames are small; thousands of clients share one process.
pub const READ_BUFFER_BYTES: usize = 1024;

/// Largest frame taken from a server, bytes. Servers cap published data far below; this only bounds memory.
pub const FRAME_BYTES: usize = 1024 * 1024;

/// Events that may wait for the application. When they do, the socket is not read and nothing is acknowledged, so
/// the server holds the rest back.
pub const EVENTS: usize = 64;

/// Orders from the application that may wait for the driver.
pub const CONTROLS: usize = 4;

/// Limit of one write. Client messages are tiny: a socket that does not take one in this time is dead.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a closed connection is read, so that the last frames cross and no reset is sent.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Frames handled before other tasks of the same thread get their turn.
pub const FRAMES_PER_TURN: u32 = 64;
