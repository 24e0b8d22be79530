//! Effects (processes, sockets): who is measured: the gateway or its floor, behind one face, so that both get the very same load.

use std::io::{BufRead as _, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use super::context::{Context, connect_request, upgrade_request};
use super::floor::allocator::{self, Allocated};
use super::floor::{self, Kind};
use super::gateway::{Gateway, Setup};
use super::process::Server;
use super::swarm::client::Dialect;
use super::swarm::{Manner, Swarm};
use super::{limits, machine};

/// A server that tells every client the same.
pub trait Subject {
    /// Its process.
    fn server(&self) -> &Server;
    /// Where clients connect.
    fn clients(&self) -> SocketAddr;
    /// What it speaks.
    fn dialect(&self) -> Dialect;
    /// The n-th client's request.
    fn request(&self, n: usize) -> Vec<u8>;
    /// Begins to send `bytes` of data to everybody.
    ///
    /// # Errors
    /// When it is gone.
    fn broadcast(&mut self, bytes: usize) -> Result<()>;
    /// Waits until it has confirmed the last broadcast, if it does that.
    ///
    /// # Errors
    /// When it refused it.
    fn confirmed(&mut self) -> Result<()>;
}

/// A JSON string of `length` bytes.
pub fn data(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length.saturating_sub(2)))
}

/// The gateway with clients that log in with tokens.
#[derive(Debug)]
pub struct Ours {
    /// The gateway.
    pub gateway: Gateway,
    tokens: Vec<String>,
}

impl Ours {
    /// Starts a gateway for `count` users.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(bench: &Context, setup: Setup, count: usize) -> Result<Self> {
        Ok(Self {
            gateway: Gateway::start(bench, setup)?,
            tokens: bench.tokens(count)?,
        })
    }
}

impl Subject for Ours {
    fn server(&self) -> &Server {
        &self.gateway.server
    }

    fn clients(&self) -> SocketAddr {
        self.gateway.clients
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sluice
    }

    fn request(&self, n: usize) -> Vec<u8> {
        let token = self.tokens.get(n).map_or("", String::as_str);
        connect_request(&format!("token={token}"))
    }

    fn broadcast(&mut self, bytes: usize) -> Result<()> {
        self.gateway.publish(&data(bytes))
    }

    fn confirmed(&mut self) -> Result<()> {
        self.gateway.published()
    }
}

/// A floor.
#[derive(Debug)]
pub struct Floor {
    server: Server,
    clients: SocketAddr,
    chief: TcpStream,
}

impl Floor {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(bench: &Context, kind: Kind) -> Result<Self> {
        Self::start_with(bench, kind, &[])
    }

    /// One whose allocations are counted, which slows it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn counted(bench: &Context, kind: Kind) -> Result<Self> {
        Self::start_with(bench, kind, &[allocator::COUNTED])
    }

    /// What a floor of handshakes has allocated since its start.
    ///
    /// # Errors
    /// When it is gone.
    pub fn allocated(&mut self) -> Result<Allocated> {
        self.chief.write_all(b"?")?;
        let mut line = String::new();
        BufReader::new(&self.chief).read_line(&mut line)?;
        let (bytes, times) = line.trim().split_once(' ').context("bytes and times")?;
        Ok(Allocated {
            bytes: bytes.parse()?,
            times: times.parse()?,
        })
    }

    fn start_with(bench: &Context, kind: Kind, environment: &[(&str, &str)]) -> Result<Self> {
        let (clients, orders) = (bench.port()?, bench.port()?);
        let mut command = floor::command(&bench.me, kind, clients, orders);
        command.envs(environment.iter().copied());
        let mut server = Server::start("floor", command, machine::SERVER_CORE, &bench.folder)?;
        let chief = listening(&mut server, orders)?;
        chief.set_nodelay(true)?;
        Ok(Self {
            server,
            clients,
            chief,
        })
    }
}

impl Subject for Floor {
    fn server(&self) -> &Server {
        &self.server
    }

    fn clients(&self) -> SocketAddr {
        self.clients
    }

    fn dialect(&self) -> Dialect {
        Dialect::Floor
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

/// Orders a broadcast, in one piece: those who take orders read lines.
///
/// # Errors
/// When nobody listens any more.
pub fn order(chief: &mut TcpStream, bytes: usize) -> Result<()> {
    Ok(chief.write_all(format!("{bytes}\n").as_bytes())?)
}

/// Connects to a server as soon as it listens.
///
/// # Errors
/// When it ends, or does not listen in time.
pub fn listening(server: &mut Server, address: SocketAddr) -> Result<TcpStream> {
    let begun = Instant::now();
    loop {
        server.alive()?;
        if let Ok(stream) = TcpStream::connect(address) {
            return Ok(stream);
        }
        ensure!(
            begun.elapsed() < limits::START_WITHIN,
            "nobody listens on {address}"
        );
        std::thread::sleep(limits::LOOK);
    }
}

/// All clients of a subject, connected.
///
/// # Errors
/// When they do not all get in.
pub fn connected(subject: &dyn Subject, count: usize, manner: Manner) -> Result<Swarm> {
    let mut swarm = Swarm::new(subject.clients(), manner)?;
    swarm.connect(count, &|n| subject.request(n))?;
    Ok(swarm)
}

/// Sends one broadcast and waits until `clients` have it; the time from its start to the last of them, seconds.
///
/// # Errors
/// When it does not reach them in time.
pub fn reach_all(
    subject: &mut dyn Subject,
    swarm: &mut Swarm,
    bytes: usize,
    clients: usize,
) -> Result<f64> {
    let index = swarm.tally.arrivals.len();
    let begun = Instant::now();
    subject.broadcast(bytes)?;
    let whole = |arrived: Option<usize>| arrived.unwrap_or(0) >= clients;
    let reached = swarm.until(limits::BROADCAST_WITHIN, |tally| {
        whole(tally.arrivals.get(index).map(|a| a.clients))
    })?;
    if !reached {
        bail!(
            "a broadcast reached {} of {clients} clients within {} s; {} connections ended; the server said: {}",
            swarm.tally.arrivals.get(index).map_or(0, |a| a.clients),
            limits::BROADCAST_WITHIN.as_secs(),
            swarm.tally.ended,
            subject.server().tail()
        );
    }
    subject.confirmed()?;
    let last = swarm.tally.arrivals[index].last;
    Ok(last.duration_since(begun).as_secs_f64())
}
