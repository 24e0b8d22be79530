//! Effects (HTTP, sockets): from an accepted socket to a connection, or to an answer that says why not.
//!
//! ```text
//! socket ─► hyper (time and size limits) ─► desk: request (pure) ─► admission ─► credentials ─► rights, room ─► connection
//!                                             └──────────── refusal (pure): HTTP answer, or frames for browsers
//! ```
//!
//! What costs least is asked first, and nothing is kept for a client before all of it is answered. A socket takes one request.
//! Whatever else the client sent with a refused one is read and thrown away before the socket is closed: closing over unread bytes
//! would reset the connection and with it destroy the answer.

pub mod address;
pub mod admission;
mod cork;
mod desk;
pub mod limiter;
pub mod metrics;
pub mod refusal;
pub mod request;
pub mod seats;
pub mod settings;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::connection::{Connection, Opening, reap};
use crate::core::Core;
use crate::limits;
use crate::shard::Shard;
use cork::Corked;
use desk::{Desk, Outcome};
use metrics::{HandshakeResult, Limit};

/// How requests are read, made once: with time to spare, and when most places for handshakes are taken.
static READERS: LazyLock<(Builder, Builder)> = LazyLock::new(|| {
    (
        reader(limits::HANDSHAKE_HEADER_TIMEOUT),
        reader(limits::HANDSHAKE_HEADER_TIMEOUT_CROWDED),
    )
});

fn reader(head: Duration) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // A client that has said all it will say still gets its answer.
        .half_close(true)
        .header_read_timeout(head)
        .max_buf_size(limits::HANDSHAKE_HEAD_BYTES)
        .max_headers(limits::HANDSHAKE_HEADERS);
    builder
}

/// Serves one accepted socket until it is answered or upgraded.
pub async fn serve(
    shard: Rc<Shard>,
    stream: TcpStream,
    accepted: Instant,
    permit: OwnedSemaphorePermit,
) {
    let core = Arc::clone(shard.core());
    let crowded = core.handshakes.available_permits() < limits::HANDSHAKES_CROWDED_BELOW;
    let reader = if crowded { &READERS.1 } else { &READERS.0 };
    let desk = Desk::new(Arc::clone(&core), &stream, accepted);
    let service = service_fn(|request| desk.answer(request));
    let mut http = reader.serve_connection(TokioIo::new(Corked::new(stream)), service);
    let answered = poll_fn(|cx| http.poll_without_shutdown(cx));
    let answered = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, answered).await;
    let parts = http.into_parts();
    // Only reading and answering are bounded by permits; what follows has its own bounds.
    drop(permit);
    let (stream, mut answer) = parts.io.into_inner().into_parts();
    let outcome = desk.outcome();
    let error = match answered {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.is_timeout() => Some(HandshakeResult::Timeout),
        Ok(Err(error)) if error.is_parse() => Some(HandshakeResult::Rejected),
        Ok(Err(_)) => Some(HandshakeResult::Error),
        Err(_) => Some(HandshakeResult::Timeout),
    };
    if let Some(result) = error {
        core.metrics.handshakes.result(result);
    }
    match (outcome, error) {
        (Outcome::Welcome(newcomer), None) => {
            desk::count(&core, HandshakeResult::Accepted, accepted);
            let desk::Newcomer {
                identity,
                wanted,
                guest,
            } = newcomer;
            let opening = Opening {
                answer,
                read: &parts.read_buf,
            };
            Connection::start(&shard, stream, opening, &identity, guest, wanted);
        }
        (Outcome::Frames(frames), None) => {
            answer.extend_from_slice(&frames);
            farewell(&core, stream, &answer).await;
        }
        // Also what hyper has answered because it could not read the request.
        (Outcome::Answered, _) if !answer.is_empty() => farewell(&core, stream, &answer).await,
        // A client that left without a request.
        (Outcome::Answered, None) => reap(&core, stream).await,
        _ => {}
    }
}

/// Says that no handshake can be taken on, and why.
pub async fn turn_away(core: Arc<Core>, stream: TcpStream) {
    core.metrics.handshakes.result(HandshakeResult::Overload);
    core.metrics.handshakes.limit(Limit::Permits);
    let answer = refusal::too_many_handshakes(admission::retry_after());
    farewell(&core, stream, answer.as_bytes()).await;
}

/// Writes the last bytes and waits until the peer has them.
async fn farewell(core: &Core, mut stream: TcpStream, bytes: &[u8]) {
    let written = tokio::time::timeout(limits::FAREWELL_FLUSH, stream.write_all(bytes)).await;
    if matches!(written, Ok(Ok(()))) {
        reap(core, stream).await;
    }
}
