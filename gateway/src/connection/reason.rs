//! Pure: why a connection ended, out of one list, for logs and metrics.

use std::io::{Error, ErrorKind};

use nix::errno::Errno;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The client sent a Close frame.
    Peer,
    /// The client ended its stream without a Close frame.
    Eof,
    /// Connection reset or broken pipe.
    Reset,
    /// The kernel gave up on the peer.
    TimedOut,
    /// No way to the peer any more: host or network down or unreachable.
    Unreachable,
    /// The kernel had no memory for the socket.
    NoMemory,
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
    pub const ALL: [Self; 16] = [
        Self::Peer,
        Self::Eof,
        Self::Reset,
        Self::TimedOut,
        Self::Unreachable,
        Self::NoMemory,
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
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::NoMemory => "no_memory",
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

    /// The class of a socket error.
    pub fn of_io(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                Self::Unreachable
            }
            ErrorKind::OutOfMemory => Self::NoMemory,
            ErrorKind::UnexpectedEof => Self::Eof,
            _ => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS) => Self::NoMemory,
                Some(Errno::EHOSTDOWN) => Self::Unreachable,
                _ => Self::Io,
            },
        }
    }

    /// True when the socket is of no use any more: nothing can be said and nothing has to be waited for.
    pub const fn is_cut(self) -> bool {
        matches!(
            self,
            Self::Reset | Self::TimedOut | Self::Unreachable | Self::NoMemory | Self::Io
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_errno_has_its_class() {
        let cases = [
            (Errno::ECONNRESET, DisconnectReason::Reset),
            (Errno::EPIPE, DisconnectReason::Reset),
            (Errno::ECONNABORTED, DisconnectReason::Reset),
            (Errno::ETIMEDOUT, DisconnectReason::TimedOut),
            (Errno::EHOSTUNREACH, DisconnectReason::Unreachable),
            (Errno::ENETUNREACH, DisconnectReason::Unreachable),
            (Errno::ENETDOWN, DisconnectReason::Unreachable),
            (Errno::EHOSTDOWN, DisconnectReason::Unreachable),
            (Errno::ENOMEM, DisconnectReason::NoMemory),
            (Errno::ENOBUFS, DisconnectReason::NoMemory),
            (Errno::EBADF, DisconnectReason::Io),
        ];
        for (errno, reason) in cases {
            let error = Error::from_raw_os_error(errno as i32);
            assert_eq!(DisconnectReason::of_io(&error), reason, "{errno}");
            assert!(reason.is_cut());
        }
    }

    #[test]
    fn words_are_different() {
        let words: HashSet<_> = DisconnectReason::ALL.map(DisconnectReason::word).into();
        assert_eq!(words.len(), DisconnectReason::ALL.len());
    }
}
