//! Effects (files, ports): what all benchmarks of a run share: sizes, programs, a folder, keys.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

use super::limits;
use super::scale::Scale;
use crate::load::token;

/// Ports are looked for from here on: below the kernel's own range, which the load uses.
const FIRST_PORT: u16 = 21_000;

/// Ports are looked for up to here.
const LAST_PORT: u16 = 31_000;

/// What all benchmarks share.
#[derive(Debug)]
pub struct Context {
    /// How large they are.
    pub scale: Scale,
    /// The gateway's program.
    pub gateway: PathBuf,
    /// This program, which is the floors, too.
    pub me: PathBuf,
    /// nats-server, when there is one.
    pub nats: Option<PathBuf>,
    /// The gateway's own benchmark of its registry, when that is to run.
    pub registry: Option<PathBuf>,
    /// For logs and keys; gone at the end.
    pub folder: PathBuf,
    /// File with the secret of login tokens.
    pub secret_file: PathBuf,
    secret: Vec<u8>,
    next_port: AtomicU16,
}

/// What was built for a run.
#[derive(Debug)]
pub struct Programs {
    /// The gateway.
    pub gateway: PathBuf,
    /// nats-server, when there is one.
    pub nats: Option<PathBuf>,
    /// The gateway's own benchmark of its registry, when that is to run.
    pub registry: Option<PathBuf>,
}

impl Context {
    /// Writes the secret of this run.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(scale: Scale, programs: Programs, folder: PathBuf) -> Result<Self> {
        let secret: String = format!("{:032x}", rand::random::<u128>());
        let secret_file = folder.join("secret");
        std::fs::write(&secret_file, &secret)?;
        Ok(Self {
            scale,
            gateway: programs.gateway,
            me: std::env::current_exe().context("finding this program")?,
            nats: programs.nats,
            registry: programs.registry,
            folder,
            secret_file,
            secret: secret.into_bytes(),
            next_port: AtomicU16::new(FIRST_PORT),
        })
    }

    /// A loopback address that nobody listens on.
    ///
    /// # Errors
    /// When all ports are taken.
    pub fn port(&self) -> Result<SocketAddr> {
        loop {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            anyhow::ensure!(port < LAST_PORT, "no free port below {LAST_PORT}");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
    }

    /// Login tokens of `count` users.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub fn tokens(&self, count: usize) -> Result<Vec<String>> {
        (0..count)
            .map(|n| {
                token::mint(
                    &self.secret,
                    &format!("user-{n}"),
                    limits::TOKEN_LIFE,
                    None,
                    None,
                )
            })
            .collect()
    }
}

/// A connect request to Sluice with these credentials (`token=…` or `resume=…`), following the common channel and the user's own.
pub fn connect_request(credentials: &str) -> Vec<u8> {
    upgrade_request(&format!("/v1/connect?channels=news&{credentials}"))
}

/// Any WebSocket upgrade.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}
