//! Effects (sockets): opens ports and takes clients' connections in, on each shard. It stays open until the process ends: while the gateway
//! closes, newcomers are told so by the handshake rather than reset by the kernel.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::shard::Shard;
use crate::{events, handshake, limits};

/// Opens a port.
pub fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listen(socket(address)?, address)
}

/// Opens a port for clients. It can be opened several times; the kernel then spreads newcomers over all of them.
pub fn open_for_clients(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    prepare(&socket)?;
    listen(socket, address)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted process must not wait for the old one's closed connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
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
        let accepted = Instant::now();
        if let Ok(permit) = Arc::clone(&core.handshakes).try_acquire_owned() {
            let shard = Rc::clone(&shard);
            spawn_local(handshake::serve(shard, stream, accepted, permit));
        } else {
            spawn_local(handshake::turn_away(Arc::clone(core), stream));
        }
    }
}

/// What the kernel may hold for a client, and when it gives up on one. Linux hands a listener's settings on to every socket that it
/// accepts, which saves eight calls for each.
fn prepare(socket: &Socket) -> io::Result<()> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use socket2::SockRef;

    #[test]
    fn accepted_sockets_have_the_listeners_settings() {
        let listener = open_for_clients("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = SockRef::from(&stream);
        let (idle, interval, probes) = limits::KEEPALIVE;
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), probes);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(limits::TCP_USER_TIMEOUT)
        );
        assert_eq!(
            socket.tcp_notsent_lowat().unwrap(),
            limits::NOT_SENT_LOW_WATER_BYTES
        );
        // The kernel doubles it for its own books.
        assert_eq!(
            socket.send_buffer_size().unwrap(),
            2 * limits::SEND_BUFFER_BYTES
        );
    }
}
