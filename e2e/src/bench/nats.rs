//! Effects (process): a nats-server of the benchmark's own, with JetStream and a WebSocket port.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::context::Context;
use super::process::Server;
use super::subject::listening;

/// A running server.
#[derive(Debug)]
pub struct Nats {
    /// Its process.
    pub server: Server,
    /// Where NATS clients connect.
    pub address: SocketAddr,
    /// Where WebSockets connect.
    pub websocket: SocketAddr,
}

impl Nats {
    /// Starts one beside the load: as a broker it is not what is measured.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(bench: &Context, program: &Path) -> Result<Self> {
        Self::on(bench, program, super::machine::LOAD_CORE)
    }

    /// Starts one on a core.
    ///
    /// # Errors
    /// When it does not start.
    pub fn on(bench: &Context, program: &Path, core: usize) -> Result<Self> {
        let (address, websocket) = (bench.port()?, bench.port()?);
        let folder = bench.folder.join(format!("nats-{}", address.port()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("nats.conf");
        std::fs::write(
            &config,
            format!(
                "listen: \"{address}\"\nmax_connections: 100000\njetstream {{ store_dir: \"{}\" }}\n\
                 websocket {{ listen: \"{websocket}\", no_tls: true }}\n",
                folder.join("store").display()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        let mut server = Server::start("nats-server", command, core, &folder)?;
        drop(listening(&mut server, address)?);
        drop(listening(&mut server, websocket)?);
        Ok(Self {
            server,
            address,
            websocket,
        })
    }
}
