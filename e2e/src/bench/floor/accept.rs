//! Effects (sockets): what a user would write first: tungstenite's accept with its defaults, kept open.

use std::net::SocketAddr;

use anyhow::Result;
use futures::StreamExt as _;
use tokio::net::TcpListener;

/// Serves until orders end.
pub(super) fn serve(clients: SocketAddr, orders: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(clients).await?;
        let orders = tokio::spawn(super::orders::follow(orders));
        tokio::select! {
            outcome = accept(listener) => outcome,
            outcome = orders => outcome?,
        }
    })
}

async fn accept(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that is gone ends its own connection only.
            if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                while let Some(Ok(_)) = socket.next().await {}
            }
        });
    }
}
