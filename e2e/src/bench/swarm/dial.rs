//! Effects (sockets): non-blocking connects from many loopback addresses, so that ports never run short.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use crate::bench::limits;

/// Receive buffer of clients that shall stall soon, bytes.
const SMALL_BUFFER: usize = 16 * 1024;

/// Opens connections to one address.
#[derive(Debug)]
pub struct Dialer {
    target: SocketAddr,
    dialled: usize,
}

impl Dialer {
    /// To `target`, on loopback.
    pub fn new(target: SocketAddr) -> Self {
        Self { target, dialled: 0 }
    }

    /// Begins a connection; on loopback it is complete, or refused, at once.
    ///
    /// # Errors
    /// When the server refuses or descriptors run out.
    pub fn dial(&mut self, small_buffer: bool) -> Result<TcpStream> {
        let source = source(self.dialled);
        self.dialled += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        if small_buffer {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        socket
            .bind(&SocketAddr::from((source, 0)).into())
            .with_context(|| format!("a port of {source}"))?;
        match socket.connect(&self.target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error).context("connecting"),
        }
        Ok(socket.into())
    }
}

/// The source address of the n-th connection: 127.1.x.1.
fn source(dialled: usize) -> Ipv4Addr {
    let turn = dialled / limits::DIALS_PER_SOURCE % limits::SOURCES;
    Ipv4Addr::new(127, 1, turn as u8, 1)
}

/// Makes closing send a reset, so that the port is free again at once.
pub fn rude(stream: &TcpStream) {
    // A socket that is dead already needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns() {
        assert_eq!(source(0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(source(limits::DIALS_PER_SOURCE - 1), source(0));
        assert_eq!(
            source(limits::DIALS_PER_SOURCE),
            Ipv4Addr::new(127, 1, 1, 1)
        );
        assert_eq!(
            source(limits::DIALS_PER_SOURCE * limits::SOURCES),
            source(0)
        );
    }
}
