//! Effects (sockets): who gives orders to a floor of handshakes: each byte asks what was allocated so far, and the end of the
//! connection is the floor's own end.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::allocator;

/// Answers until the one who gives orders is gone.
pub(super) async fn follow(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let (mut chief, _) = listener.accept().await?;
    let mut byte = [0; 1];
    while chief.read(&mut byte).await? > 0 {
        let allocated = allocator::allocated()?;
        let line = format!("{} {}\n", allocated.bytes, allocated.times);
        chief.write_all(line.as_bytes()).await?;
    }
    Ok(())
}
