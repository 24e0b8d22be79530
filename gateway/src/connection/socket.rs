//! Effects (socket): one client's WebSocket. Writes gather in a small buffer; whether the kernel takes them is measured here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::limits;

/// What the socket had to say.
#[derive(Debug)]
pub enum Io {
    /// A frame came.
    Frame(Message),
    /// Everything written was taken by the kernel.
    Flushed,
    /// The peer is gone, or spoke nonsense.
    Failed(Error),
    /// The close handshake is done.
    Ended,
}

/// One client's WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Metered>,
    unflushed: bool,
}

impl Socket {
    /// Takes over after the handshake; `read` is what came with it.
    pub async fn new(stream: TcpStream, read: Vec<u8>, message_bytes: u32) -> Self {
        let largest = message_bytes as usize;
        let config = WebSocketConfig::default()
            .read_buffer_size(limits::READ_BUFFER_BYTES)
            .write_buffer_size(limits::WRITE_BUFFER_BYTES)
            .max_write_buffer_size(
                limits::WRITE_BUFFER_BYTES
                    + largest
                    + limits::FRAME_OVERHEAD_BYTES
                    + limits::WRITE_BUFFER_SLACK_BYTES,
            )
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let metered = Metered {
            stream,
            stuck_since: None,
        };
        let stream =
            WebSocketStream::from_partially_read(metered, read, Role::Server, Some(config)).await;
        Self {
            stream,
            unflushed: false,
        }
    }

    /// Puts a frame into the write buffer.
    pub fn send(&mut self, message: Message) -> Result<(), Error> {
        self.unflushed = true;
        Pin::new(&mut self.stream).start_send(message)
    }

    /// Since when the kernel has taken nothing although something is to be written.
    pub fn stuck_since(&self) -> Option<Instant> {
        self.stream.get_ref().stuck_since
    }

    /// Writes what is due, then reads.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Io> {
        if self.unflushed
            && let Poll::Ready(result) = self.poll_flush(cx)
        {
            return Poll::Ready(result.map_or_else(Io::Failed, |()| Io::Flushed));
        }
        match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => Poll::Ready(Io::Frame(message)),
            Some(Err(error)) => Poll::Ready(Io::Failed(error)),
            None => Poll::Ready(Io::Ended),
        }
    }

    /// Writes what is due.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.unflushed = false;
        Poll::Ready(result)
    }

    /// The bare socket; what is still in the write buffer is lost.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner().stream
    }
}

/// A socket that knows since when it is stuck.
#[derive(Debug)]
struct Metered {
    stream: TcpStream,
    stuck_since: Option<Instant>,
}

impl Metered {
    fn note(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => {
                self.stuck_since.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => self.stuck_since = None,
        }
        result
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
