//! Effects: the floors: the least that a server must do, as small programs of their own, run by this very binary.

mod accept;
pub mod allocator;
mod fanout;
mod orders;
mod upgrade;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// Which floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A bare loop of `writev` over all sockets.
    Fanout,
    /// Accept and a bare hyper upgrade.
    Upgrade,
    /// tungstenite's accept with its defaults.
    Tungstenite,
}

/// Options of a floor.
#[derive(Args, Clone, Copy, Debug)]
pub struct FloorArgs {
    /// Which one
    #[arg(value_enum)]
    kind: Kind,
    /// Where clients connect
    #[arg(long)]
    clients: SocketAddr,
    /// Where orders come from
    #[arg(long)]
    orders: SocketAddr,
}

/// Runs a floor until the process is killed or its orders end.
///
/// # Errors
/// When a port is taken or the kernel refuses something.
pub fn main(args: FloorArgs) -> Result<()> {
    // Whoever kills the benchmark leaves no server behind.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    match args.kind {
        Kind::Fanout => fanout::serve(args.clients, args.orders),
        Kind::Upgrade => upgrade::serve(args.clients, args.orders),
        Kind::Tungstenite => accept::serve(args.clients, args.orders),
    }
}

/// The command that runs a floor.
pub fn command(me: &Path, kind: Kind, clients: SocketAddr, orders: SocketAddr) -> Command {
    let mut command = Command::new(me);
    let word = match kind {
        Kind::Fanout => "fanout",
        Kind::Upgrade => "upgrade",
        Kind::Tungstenite => "tungstenite",
    };
    command
        .args(["bench-floor", word, "--clients"])
        .arg(clients.to_string())
        .arg("--orders")
        .arg(orders.to_string());
    command
}
