//! Effects (sockets): the floor of handshakes: accept, hyper's HTTP/1 with the gateway's limits, the 101, and the upgraded stream
//! kept as it is. Nothing is checked.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Largest request head, bytes, as on the gateway.
const HEAD_BYTES: usize = 16 * 1024;

/// Most header lines, as on the gateway.
const HEADERS: usize = 64;

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
        tokio::spawn(serve_one(stream));
    }
}

async fn serve_one(stream: TcpStream) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request)) });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that is gone ends its own connection only.
    let _ = connection.await;
}

fn answer(mut request: Request<Incoming>) -> Response<Empty<Bytes>> {
    let mut answer = Response::new(Empty::new());
    let accept = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
        .and_then(|accept| HeaderValue::from_str(&accept).ok());
    let Some(accept) = accept else {
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        return answer;
    };
    tokio::spawn(keep(hyper::upgrade::on(&mut request)));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// Holds the upgraded stream until the client is gone.
async fn keep(upgraded: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgraded.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return;
    };
    let mut stream = parts.io.into_inner();
    let mut byte = [0; 1];
    while matches!(stream.read(&mut byte).await, Ok(1..)) {}
}
