//! Effects (sockets, a runtime): one gateway for the whole process, and one connection to it per input.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser as _;
use sluice_gateway::Gateway;
use sluice_gateway::cli::Cli;
use sluice_gateway::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::suite::opening::request;

/// An input that is not done after this has found a connection that never ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// Without an answer for so long the gateway waits for more of the request. It answers within microseconds.
const STILL: Duration = Duration::from_millis(1);

/// A gateway with one shard, and the runtime of its other ports.
struct Lab {
    runtime: Runtime,
    address: SocketAddr,
    _gateway: Gateway,
}

thread_local! {
    static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

/// Sends a request's bytes and returns everything that comes back until the end.
pub fn handshake(bytes: &[u8]) -> Vec<u8> {
    with_lab(|lab| {
        lab.runtime.block_on(whole(async {
            let mut stream = connect(lab.address).await;
            let mut received = Vec::new();
            write(&mut stream, bytes).await;
            // Ending our side before the answer would end the request: first an answer, or stillness.
            loop {
                match tokio::time::timeout(STILL, stream.read_buf(&mut received)).await {
                    Ok(Ok(1..)) if received.starts_with(b"HTTP/1.1 101 ") => break,
                    Ok(Ok(1..)) => {}
                    Ok(_) => return received,
                    Err(_) => break,
                }
            }
            let _ = stream.shutdown().await;
            read_to_end(&mut stream, &mut received).await;
            received
        }))
    })
}

/// Sends bytes on a connection that was upgraded, ends our side, and returns what comes back behind the answer's head.
pub fn frames(bytes: &[u8]) -> Vec<u8> {
    with_lab(|lab| {
        lab.runtime.block_on(whole(async {
            let mut stream = connect(lab.address).await;
            let mut received = Vec::new();
            write(
                &mut stream,
                &request("GET /v1/connect?user=ann HTTP/1.1", &[]),
            )
            .await;
            let head = loop {
                assert!(
                    stream.read_buf(&mut received).await.unwrap() > 0,
                    "no answer"
                );
                let found = received.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = found {
                    break end + 4;
                }
            };
            assert!(received.starts_with(b"HTTP/1.1 101 "), "not upgraded");
            received.drain(..head);
            // The same bytes, sometimes in two pieces; which, the bytes decide.
            let sum: usize = bytes.iter().map(|byte| usize::from(*byte)).sum();
            let cut = if sum.is_multiple_of(4) {
                bytes.len() / 2
            } else {
                0
            };
            write(&mut stream, &bytes[..cut]).await;
            tokio::task::yield_now().await;
            write(&mut stream, &bytes[cut..]).await;
            let _ = stream.shutdown().await;
            read_to_end(&mut stream, &mut received).await;
            received
        }))
    })
}

fn with_lab<T>(work: impl FnOnce(&Lab) -> T) -> T {
    LAB.with_borrow_mut(|lab| work(lab.get_or_insert_with(start)))
}

fn start() -> Lab {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let free = "127.0.0.1:0";
    let arguments = [
        "sluice-gateway",
        "--dev",
        "--shards",
        "1",
        "--client-addr",
        free,
        "--publish-addr",
        free,
        "--admin-addr",
        free,
    ];
    let config = Config::from_cli(&Cli::parse_from(arguments).serve).unwrap();
    let gateway = runtime.block_on(async {
        let broker = sluice_gateway::gateway::broker(&config);
        let gateway = Gateway::start(config, broker).unwrap();
        while !gateway.core().is_ready() {
            tokio::task::yield_now().await;
        }
        gateway
    });
    Lab {
        runtime,
        address: gateway.addresses().client,
        _gateway: gateway,
    }
}

async fn whole<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("the gateway ends every connection")
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A gateway that refuses may stop reading.
async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
}

async fn read_to_end(stream: &mut TcpStream, received: &mut Vec<u8>) {
    let _ = stream.read_to_end(received).await;
}
