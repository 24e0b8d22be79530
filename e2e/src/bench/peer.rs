//! Effects (processes, builds): what a user would pick instead: NATS' own WebSocket, gorilla/websocket, `ws` on Node. Built or
//! installed from pinned versions into the tools' cache, and measured with the same load as the gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest, Sha256};

use super::context::{Context, upgrade_request};
use super::machine;
use super::nats::Nats;
use super::process::Server;
use super::subject::{Subject, data, listening, order};
use super::swarm::client::Dialect;
use crate::cluster::tools::{cache_folder, units::hex};

/// Characters of the hash in a cache folder's name.
const KEY_LENGTH: usize = 12;

/// Longest wait for NATS to greet its publisher.
const GREETING: Duration = Duration::from_secs(5);

/// A server that takes orders as the floor does: one length per line.
#[derive(Debug)]
pub struct Plain {
    server: Server,
    clients: SocketAddr,
    chief: TcpStream,
}

impl Plain {
    /// gorilla/websocket.
    ///
    /// # Errors
    /// When Go is missing, or the build fails.
    pub fn gorilla(bench: &Context) -> Result<Self> {
        let program = build_gorilla()?;
        let mut command = Command::new(program);
        let (clients, orders) = (bench.port()?, bench.port()?);
        command
            .arg(format!("-clients={clients}"))
            .arg(format!("-orders={orders}"));
        Self::start(bench, "gorilla", command, clients, orders)
    }

    /// `ws` on Node.
    ///
    /// # Errors
    /// When Node or npm is missing, or the package cannot be installed.
    pub fn ws(bench: &Context) -> Result<Self> {
        let script = install_ws()?;
        let (clients, orders) = (bench.port()?, bench.port()?);
        let mut command = Command::new("node");
        command
            .arg(script)
            .arg(clients.to_string())
            .arg(orders.to_string());
        Self::start(bench, "ws", command, clients, orders)
    }

    fn start(
        bench: &Context,
        name: &'static str,
        command: Command,
        clients: SocketAddr,
        orders: SocketAddr,
    ) -> Result<Self> {
        let mut server = Server::start(name, command, machine::SERVER_CORE, &bench.folder)?;
        let chief = listening(&mut server, orders)?;
        chief.set_nodelay(true)?;
        drop(listening(&mut server, clients)?);
        Ok(Self {
            server,
            clients,
            chief,
        })
    }
}

impl Subject for Plain {
    fn server(&self) -> &Server {
        &self.server
    }

    fn clients(&self) -> SocketAddr {
        self.clients
    }

    fn dialect(&self) -> Dialect {
        Dialect::Plain
    }

    fn request(&self, _: usize) -> Vec<u8> {
        upgrade_request("/")
    }

    fn broadcast(&mut self, bytes: usize) -> Result<()> {
        order(&mut self.chief, bytes)
    }

    fn confirmed(&mut self) -> Result<()> {
        Ok(())
    }
}

/// nats-server's WebSocket port, with a publisher on its plain port.
#[derive(Debug)]
pub struct NatsPeer {
    nats: Nats,
    publisher: TcpStream,
}

impl NatsPeer {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no nats-server or it does not start.
    pub fn start(bench: &Context) -> Result<Self> {
        let program = bench.nats.as_ref().context("there is no nats-server")?;
        let nats = Nats::on(bench, program, machine::SERVER_CORE)?;
        let mut publisher = TcpStream::connect(nats.address)?;
        publisher.set_nodelay(true)?;
        publisher.set_read_timeout(Some(GREETING))?;
        let mut greeting = [0; 4096];
        ensure!(publisher.read(&mut greeting)? > 0, "NATS does not greet");
        publisher.write_all(b"CONNECT {\"verbose\":false}\r\n")?;
        Ok(Self { nats, publisher })
    }
}

impl Subject for NatsPeer {
    fn server(&self) -> &Server {
        &self.nats.server
    }

    fn clients(&self) -> SocketAddr {
        self.nats.websocket
    }

    fn dialect(&self) -> Dialect {
        Dialect::Nats
    }

    fn request(&self, _: usize) -> Vec<u8> {
        upgrade_request("/")
    }

    fn broadcast(&mut self, bytes: usize) -> Result<()> {
        let order = format!("PUB news {bytes}\r\n{}\r\n", data(bytes));
        Ok(self.publisher.write_all(order.as_bytes())?)
    }

    fn confirmed(&mut self) -> Result<()> {
        Ok(())
    }
}

fn build_gorilla() -> Result<PathBuf> {
    let source = crate::repository_root()?.join("e2e/tools/peers/gorilla");
    let folder = folder("peer-gorilla", &source, &["main.go", "go.mod", "go.sum"])?;
    let program = folder.join("gorilla");
    if !program.exists() {
        let mut go = Command::new("go");
        go.arg("-C")
            .arg(source)
            .args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg(".");
        go.env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off");
        run(go)?;
    }
    Ok(program)
}

/// The lock file names the one package by its hash; nothing of it is kept in the tree.
fn install_ws() -> Result<PathBuf> {
    let files = ["server.js", "package.json", "package-lock.json"];
    let source = crate::repository_root()?.join("e2e/tools/peers/ws");
    let mut node = Command::new("node");
    node.arg("--version");
    run(node).context("ws needs Node in PATH")?;
    let folder = folder("peer-ws", &source, &files)?;
    if !folder.join("node_modules/ws/package.json").exists() {
        for file in files {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder);
        run(npm)?;
    }
    Ok(folder.join("server.js"))
}

/// A folder in the tools' cache that changes its name with the sources.
fn folder(name: &str, source: &Path, files: &[&str]) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for file in files {
        let path = source.join(file);
        hash.update(std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    let key = hex(&hash.finalize());
    let folder = cache_folder()?
        .join("tools")
        .join(format!("{name}-{}", &key[..KEY_LENGTH]));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn run(mut command: Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
