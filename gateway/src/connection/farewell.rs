//! Effects (socket): how a connection ends, and why. What was accepted is flushed, then Close, then our FIN; then the socket is
//! read until the peer's FIN, so that no reset destroys what is still on its way.

use std::io::ErrorKind;
use std::sync::Arc;

use sluice_protocol::server::ErrorMessage;
use sluice_protocol::{CloseCode, ErrorCode, ServerMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Connection;
use super::phase::{Event, Phase};
use super::socket::Socket;
use crate::core::Core;
use crate::{events, limits};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The client closed it.
    Peer,
    /// Connection reset or broken pipe.
    Reset,
    /// The kernel gave up on the peer.
    TimedOut,
    /// Any other socket error.
    Io,
    /// A probe was not answered.
    Heartbeat,
    /// The socket took nothing for too long, or the client makes answers and does not read them.
    Slow,
    /// Credentials expired or were refused.
    Auth,
    /// A message that the protocol does not know.
    BadRequest,
    /// Broken framing.
    Protocol,
    /// Too large a message.
    TooBig,
    /// Moved away or closed by a drain or at shutdown.
    Drain,
    /// Another connection took over the session.
    Replaced,
    /// More frames than its rate allows.
    Limited,
}

impl DisconnectReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Peer,
        Self::Reset,
        Self::TimedOut,
        Self::Io,
        Self::Heartbeat,
        Self::Slow,
        Self::Auth,
        Self::BadRequest,
        Self::Protocol,
        Self::TooBig,
        Self::Drain,
        Self::Replaced,
        Self::Limited,
    ];

    /// The label in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Reset => "reset",
            Self::TimedOut => "timed_out",
            Self::Io => "io",
            Self::Heartbeat => "heartbeat",
            Self::Slow => "slow",
            Self::Auth => "auth",
            Self::BadRequest => "bad_request",
            Self::Protocol => "protocol",
            Self::TooBig => "too_big",
            Self::Drain => "drain",
            Self::Replaced => "replaced",
            Self::Limited => "limited",
        }
    }
}

/// The last words.
#[derive(Debug)]
pub struct Farewell {
    close: Option<CloseCode>,
    error: Option<ErrorMessage>,
    reason: DisconnectReason,
}

impl Farewell {
    /// With a Close frame.
    pub fn close(code: CloseCode, reason: DisconnectReason) -> Self {
        Self {
            close: Some(code),
            error: None,
            reason,
        }
    }

    /// Without: the peer is gone.
    pub fn gone(reason: DisconnectReason) -> Self {
        Self {
            close: None,
            error: None,
            reason,
        }
    }

    /// An `error` before the Close frame.
    #[must_use]
    pub fn saying(mut self, error: ErrorMessage) -> Self {
        self.error = Some(error);
        self
    }

    pub(super) fn reason(&self) -> DisconnectReason {
        self.reason
    }

    pub(super) fn slow() -> Self {
        Self::close(CloseCode::Slow, DisconnectReason::Slow)
    }

    pub(super) fn expired() -> Self {
        Self::close(CloseCode::Credentials, DisconnectReason::Auth).saying(ErrorMessage {
            code: ErrorCode::Expired,
            message: "the credentials have expired: log in again".into(),
            retry_after_ms: None,
            reference: None,
        })
    }

    /// What a failed socket or broken frames mean.
    pub(super) fn of_error(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::gone(DisconnectReason::Peer),
            Error::Io(error) => Self::gone(match error.kind() {
                ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted => DisconnectReason::Reset,
                ErrorKind::TimedOut => DisconnectReason::TimedOut,
                ErrorKind::UnexpectedEof => DisconnectReason::Peer,
                _ => DisconnectReason::Io,
            }),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::gone(DisconnectReason::Peer)
            }
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                Self::close(CloseCode::TooBig, DisconnectReason::TooBig).saying(ErrorMessage {
                    code: ErrorCode::TooBig,
                    message: format!(
                        "the message has at least {size} bytes, at most {max_size} are read"
                    ),
                    retry_after_ms: None,
                    reference: None,
                })
            }
            Error::Utf8(_) => Self::close(CloseCode::NotUtf8, DisconnectReason::Protocol),
            _ => Self::close(CloseCode::Protocol, DisconnectReason::Protocol),
        }
    }
}

impl Connection {
    /// Ends the connection. Its place is free as soon as the last words are out; the socket may linger a little longer.
    pub(super) async fn finish(mut self, farewell: Farewell) {
        self.phase = Phase::after(self.phase, Event::Close, std::time::Instant::now());
        self.leave_all();
        self.lagging = None;
        self.core.metrics.disconnect(farewell.reason);
        self.end_waits(std::time::Instant::now());
        let name = self.registration.name();
        events::disconnected(
            &name,
            self.identity.user.as_str(),
            farewell.reason,
            self.last_sent().get(),
        );
        let Self {
            core,
            mut socket,
            registration,
            asked_to_go,
            ..
        } = self;
        say(&mut socket, farewell).await;
        if asked_to_go {
            core.drain.note_moved();
            core.metrics.drain_moved.inc();
        }
        drop(registration);
        reap(&core, socket.into_stream()).await;
    }
}

/// Upgraded only to be told why not: browsers cannot see the answer to a refused upgrade.
pub async fn refuse(core: &Arc<Core>, mut socket: Socket, error: ErrorMessage, code: CloseCode) {
    let farewell = Farewell::close(code, DisconnectReason::Auth).saying(error);
    say(&mut socket, farewell).await;
    reap(core, socket.into_stream()).await;
}

async fn say(socket: &mut Socket, farewell: Farewell) {
    let Some(code) = farewell.close else { return };
    if let Some(error) = farewell.error {
        let text = ServerMessage::Error(error).encode();
        if socket.send(Message::text(text)).is_err() {
            return;
        }
    }
    let frame = CloseFrame {
        code: code.code().into(),
        reason: code.reason().into(),
    };
    if socket.send(Message::Close(Some(frame))).is_err() {
        return;
    }
    let flushed = std::future::poll_fn(|cx| socket.poll_flush(cx));
    // A socket that takes nothing is closed without its Close frame; there is no other way to reach it.
    let _ = tokio::time::timeout(limits::FAREWELL_FLUSH, flushed).await;
}

/// Shuts the write side and reads until the peer's FIN, for a bounded time and number of sockets.
pub(crate) async fn reap(core: &Arc<Core>, mut stream: TcpStream) {
    let Ok(_permit) = Arc::clone(&core.reaper).try_acquire_owned() else {
        core.metrics.reaper_full.inc();
        return;
    };
    let until_fin = async {
        stream.shutdown().await?;
        let mut scratch = [0; 2048];
        while stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Either outcome ends with the descriptor closed.
    let _ = tokio::time::timeout(limits::REAP_TIMEOUT, until_fin).await;
}
