//! Effects (sockets): opens ports and takes clients' connections in, on each shard. It stays open until the process ends: while the gateway
//! closes, newcomers are told so by the handshake rather than reset by the kernel.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::shard::Shard;
use crate::{events, handshake, limits};

/// Opens a port. A `shared` one can be opened several times; the kernel then spreads newcomers over all of them.
pub fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted process must not wait for the old one's closed connections.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Takes a shard's clients in, for ever; ends with its task.
pub async fn accept(shard: Rc<Shard>, listener: TcpListener) {
    let core = shard.core();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that left at once is its own business; out of descriptors or memory is ours.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    events::accept_failed(&error);
                    tokio::time::sleep(limits::ACCEPT_BACKOFF).await;
                }
                continue;
            }
        };
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "client socket not prepared");
            continue;
        }
        let accepted = Instant::now();
        if let Ok(permit) = Arc::clone(&core.handshakes).try_acquire_owned() {
            let shard = Rc::clone(&shard);
            spawn_local(handshake::serve(shard, stream, accepted, permit));
        } else {
            spawn_local(handshake::turn_away(Arc::clone(core), stream));
        }
    }
}

/// What the kernel may hold for a client, and when it gives up on one.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let (idle, interval, probes) = limits::KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(interval)
        .with_retries(probes);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(limits::SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(limits::TCP_USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(limits::NOT_SENT_LOW_WATER_BYTES)?;
    }
    Ok(())
}
