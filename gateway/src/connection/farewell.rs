//! Effects (socket): how a connection ends. What was accepted is flushed, then Close, then our FIN; then the socket is read until
//! the peer's FIN, so that no reset destroys what is still on its way. Nothing here waits: each step has its deadline on the wheel.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sluice_protocol::server::ErrorMessage;
use sluice_protocol::{CloseCode, ErrorCode, ServerMessage};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::CapacityError;

use super::batch::Batch;
use super::frame::CLOSE;
use super::phase::Event;
use super::{Connection, DisconnectReason};
use crate::core::Core;
use crate::registry::Linger;
use crate::{events, limits};

/// How far a connection is on its way out.
#[derive(Debug)]
pub(super) enum Stage {
    /// Not at all.
    Live,
    /// The last frames are going out.
    Flushing {
        /// A socket that takes nothing is closed without its Close frame; there is no other way to reach it.
        until: Instant,
    },
    /// Our FIN is out; the peer's is waited for.
    Lingering {
        /// Cut then.
        until: Instant,
        /// Its place among those that wait.
        _place: Linger,
    },
    /// The socket may be closed.
    Over,
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

    /// What a failed socket means.
    pub(super) fn of_io(error: &std::io::Error) -> Self {
        Self::gone(DisconnectReason::of_io(error))
    }

    /// What broken frames mean.
    pub(super) fn of_error(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::gone(DisconnectReason::Peer),
            Error::Io(error) => Self::of_io(&error),
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

    /// Adds the last words.
    fn write(self, batch: &mut Batch) {
        let Some(code) = self.close else { return };
        if let Some(error) = self.error {
            batch.say(&ServerMessage::Error(error));
        }
        let reason = code.reason().as_bytes();
        batch.frame(CLOSE, &[&code.code().to_be_bytes(), reason].concat());
    }
}

impl Connection {
    /// Begins the end: the last words are written or wait, and no channel is followed any more.
    pub(super) fn part(&mut self, farewell: Farewell, cx: &mut Context<'_>) {
        let now = self.shard.now();
        self.phase = self.phase.after(Event::Close, now);
        self.leave_all();
        (self.reading, self.checking, self.decoder) = (None, None, None);
        (self.ready, self.behind) = <_>::default();
        self.note_lagging();
        let core = Arc::clone(self.shard.core());
        core.metrics.disconnect(farewell.reason);
        self.end_waits(now);
        self.parted = Some(farewell.reason);
        let delivered = self.window.last_sent().get();
        let name = core.registry.name(self.id);
        events::disconnected(&name, self.user.as_str(), farewell.reason, delivered);
        let cut = farewell.reason.is_cut();
        farewell.write(self.batch());
        // A client that does not read gets what it is worth waiting for.
        let writes = !cut && self.flush(cx).is_ok();
        self.stage = if writes || (!cut && self.outbox.is_some()) {
            let until = now + limits::FAREWELL_FLUSH;
            Stage::Flushing { until }
        } else {
            Stage::Over
        };
    }

    /// Goes on leaving, from one stage to the next.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.shard.now();
            // The waker may have changed; nothing else is of interest any more.
            drop(self.shard.attend(self.key, cx.waker()));
            self.discard(cx);
            match self.stage {
                Stage::Live | Stage::Over => {
                    self.depart();
                    return Poll::Ready(());
                }
                Stage::Flushing { until } => {
                    let failed = self.drain_outbox(cx).is_err();
                    let empty = self.outbox.as_ref().is_none_or(|outbox| outbox.is_empty());
                    if failed {
                        self.stage = Stage::Over;
                    } else if empty || now >= until {
                        self.shut(cx, now);
                    } else {
                        self.shard.wake_at(self.key, until);
                        return Poll::Pending;
                    }
                }
                Stage::Lingering { until, .. } => {
                    if self.ended {
                        return Poll::Ready(());
                    }
                    if now >= until {
                        cut(&self.stream);
                        return Poll::Ready(());
                    }
                    self.shard.wake_at(self.key, until);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Our FIN. The place is free from now on; the socket may linger.
    fn shut(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.outbox = None;
        self.depart();
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        let linger = if self.ended || matches!(shut, Poll::Ready(Err(_))) {
            None
        } else {
            self.shard.core().registry.linger()
        };
        self.stage = linger.map_or(Stage::Over, |place| Stage::Lingering {
            until: now + limits::REAP_TIMEOUT,
            _place: place,
        });
    }

    /// Gives back what the client takes up; once.
    fn depart(&mut self) {
        let Some(guest) = self.guest.take() else {
            return;
        };
        if self.asked_to_go {
            let core = self.shard.core();
            core.drain.note_moved();
            core.metrics.drain_moved.inc();
        }
        self.shard.depart(self.key);
        if let Some(reason) = self.parted {
            guest.left(reason);
        }
    }

    /// Reads and forgets what still comes: unread input at close would turn our FIN into a reset.
    fn discard(&mut self, cx: &mut Context<'_>) {
        if self.ended || matches!(self.stage, Stage::Over) {
            return;
        }
        let mut scratch = self.shard.lend_scratch();
        let mut reads = 0;
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => self.stage = Stage::Over,
                Poll::Ready(Ok(())) => self.ended = buffer.filled().is_empty(),
            }
            if self.ended || matches!(self.stage, Stage::Over) {
                break;
            }
            reads += 1;
            if reads == limits::READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.shard.return_scratch(scratch);
    }
}

/// Shuts the write side and reads until the peer's FIN, for a bounded time and number of sockets.
pub(crate) async fn reap(core: &Core, mut stream: TcpStream) {
    let Some(_place) = core.registry.linger() else {
        return;
    };
    let until_fin = async {
        stream.shutdown().await?;
        poll_fn(|cx| poll_to_fin(&mut stream, cx)).await
    };
    let waited = tokio::time::timeout(limits::REAP_TIMEOUT, until_fin).await;
    if waited.is_err() {
        cut(&stream);
    }
}

/// Reads and forgets up to the peer's FIN. The buffer is on the stack: in the future it would be carried along by every handshake.
fn poll_to_fin(stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut scratch = [0; 2048];
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// A peer that does not end its side in time is reset, so that the kernel keeps nothing for it either.
fn cut(stream: &TcpStream) {
    // It fails on a socket that is gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
