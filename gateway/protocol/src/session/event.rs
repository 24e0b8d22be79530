//! Pure: what goes into and comes out of the session machine besides frames.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelName, UserId};
use crate::client::ClientMessage;
use crate::close::{CloseCode, Retry};
use crate::error::ErrorCode;
use crate::ids::{Epoch, Offset, Payload, Position};
use crate::query::ConnectQuery;

/// Time since the caller's origin.
pub type Moment = Duration;

/// One connection of a session, numbered from 1 in the order of opening.
pub type LinkId = u32;

/// What the driver must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a connection.
    Open(Open),
    /// Write a frame.
    Send {
        /// On which connection.
        link: LinkId,
        /// What.
        message: ClientMessage,
    },
    /// Close a connection and forget it; nothing more from it is wanted.
    Close {
        /// Which.
        link: LinkId,
        /// With which code.
        code: CloseCode,
    },
    /// Tell the application.
    Emit(Event),
}

/// How to open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub link: LinkId,
    /// Channels and, unless a login is needed, the resume token. Without one the driver adds its credentials.
    pub query: ConnectQuery,
    /// Base URL given by the server; `None` for the driver's own choice.
    pub url: Option<String>,
}

/// How a connection ended, as the driver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The upgrade was refused.
    Refused {
        /// HTTP status.
        status: u16,
        /// Wait given by the server.
        retry_after: Option<Duration>,
    },
    /// A Close frame came.
    Closed(CloseCode),
    /// The network failed; the text is for logs.
    Failed(String),
    /// The machine itself gave it up: no welcome in time.
    NoWelcome,
    /// The machine itself gave it up: not every channel was followed in time.
    NotSubscribed,
    /// The machine itself gave it up: silence.
    Silent,
    /// The machine itself gave it up: a message number was left out.
    Skipped,
}

impl Ended {
    /// What to do next.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused { status, .. } => match status {
                401 => Retry::NewCredentials,
                400 | 403 | 404 | 405 | 426 => Retry::Never,
                _ => Retry::Backoff,
            },
            Self::Closed(code) => code.retry(),
            _ => Retry::Backoff,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, .. } => write!(f, "refused with HTTP {status}"),
            Self::Closed(code) => write!(f, "closed with {} {}", code.code(), code.reason()),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::NoWelcome => f.write_str("no welcome in time"),
            Self::NotSubscribed => f.write_str("channels not followed in time"),
            Self::Silent => f.write_str("no sign of life"),
            Self::Skipped => f.write_str("a message number was left out"),
        }
    }
}

/// What the application is told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted.
    Welcome {
        /// Which.
        link: LinkId,
        /// The server's name for it.
        connection: String,
        /// Who the server takes the client for.
        user: UserId,
        /// Kept for the next start, see [`super::Resume::apply`].
        resume_token: Arc<str>,
        /// Accepted by resume token rather than by a full login.
        resumed: bool,
        /// Another connection is still live: this one was opened because the server asked to migrate.
        moved: bool,
    },
    /// A channel is followed from this position on.
    Subscribed {
        /// Which.
        channel: ChannelName,
        /// Every message after it is delivered or reported as gap.
        position: Position,
    },
    /// A channel is no longer followed.
    Unsubscribed {
        /// Which.
        channel: ChannelName,
        /// `requested`, or why the server ended it.
        code: ErrorCode,
    },
    /// A notification, once and in order per channel.
    Message {
        /// The channel.
        channel: ChannelName,
        /// Which life of the channel.
        epoch: Epoch,
        /// Place in it.
        offset: Offset,
        /// When the broker stored it, milliseconds since the Unix epoch.
        time: u64,
        /// The content.
        data: Payload,
    },
    /// Everything after `from` up to `to` may be missing and will not come.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// Last position delivered.
        from: Position,
        /// Where the channel goes on.
        to: Position,
    },
    /// The server asked to connect elsewhere; delivery goes on.
    Migrating {
        /// Why.
        reason: String,
        /// Until the new connection is opened.
        wait: Duration,
    },
    /// The new connection has taken over without a break.
    Migrated {
        /// It.
        link: LinkId,
    },
    /// The live connection ended.
    Disconnected {
        /// How.
        reason: Ended,
    },
    /// A new connection will be opened.
    Reconnecting {
        /// After this wait.
        wait: Duration,
        /// Tries since the last connection that held.
        tries: u32,
    },
    /// The server reported an error.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The session has ended and will not reconnect.
    Stopped {
        /// Why.
        reason: Ended,
    },
}
