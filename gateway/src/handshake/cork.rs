//! Effects (socket): a client's socket during its handshake. What is answered is held back, so that the answer to an upgrade goes out
//! in one piece with the welcome: a send of its own would cost as much again as reading the request. That a client has reset its
//! connection meanwhile is found out by the connection's first turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Room for an answer that upgrades, a welcome and two `subscribed`.
const USUAL_BYTES: usize = 1024;

/// Reads from the socket, and keeps what is written: one answer, whose size is bounded by what the desk says.
#[derive(Debug)]
pub(super) struct Corked {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Corked {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            held: Vec::new(),
        }
    }

    /// The socket, and what it is to be sent first.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.held)
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.held.capacity() == 0 {
            self.held.reserve_exact(USUAL_BYTES.max(bytes.len()));
        }
        self.held.extend_from_slice(bytes);
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().hold(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Whoever takes the parts writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
