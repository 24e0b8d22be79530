//! Effects (owner of tasks and threads): starts one gateway and stops it.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::broker::memory::MemoryBroker;
use crate::broker::nats::NatsBroker;
use crate::broker::{Broker, LiveSink};
use crate::config::{Config, ConfigError};
use crate::core::Core;
use crate::drain::Drain;
use crate::handshake::admission::Admission;
use crate::shard::thread;
use crate::{admin, events, limits, listener, publish, shutdown};

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting does not work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No thread for a shard.
    #[error("cannot start a shard: {0}")]
    Shard(std::io::Error),
}

/// A running gateway. Dropping it ends its tasks at once; [`Gateway::terminate`] ends it in order.
#[derive(Debug)]
pub struct Gateway {
    core: Arc<Core>,
    addresses: Bound,
    tasks: JoinSet<()>,
    servers: Vec<JoinHandle<()>>,
    stop_servers: CancellationToken,
    /// Complete when the shards' threads have ended.
    shards: Vec<oneshot::Receiver<()>>,
    stop_shards: CancellationToken,
}

/// Addresses that were bound; ports are known even when 0 was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// WebSocket clients.
    pub client: SocketAddr,
    /// Publishers.
    pub publish: SocketAddr,
    /// Operator, probes, Prometheus.
    pub admin: SocketAddr,
}

/// The broker that the settings name.
pub fn broker(config: &Config) -> Arc<dyn Broker> {
    match &config.broker.nats {
        Some(nats) => Arc::new(NatsBroker::new(
            nats.clone(),
            config.broker.history,
            config.identity.pod.clone(),
        )),
        None => Arc::new(MemoryBroker::new(config.broker.history)),
    }
}

impl Gateway {
    /// Opens the ports and starts; it becomes ready once the broker is reached. Must be called inside a tokio
    /// runtime, which becomes the control runtime: it serves publishers, the operator and the broker; clients are served by the
    /// shards' own threads.
    pub fn start(config: Config, broker: Arc<dyn Broker>) -> Result<Self, StartError> {
        let wanted = config.addresses;
        let shards = config.shards;
        let core = Core::new(config, broker)?;
        let publish = open(wanted.publish)?;
        let admin = open(wanted.admin)?;
        let clients = listeners(wanted.client, shards)?;
        let addresses = Bound {
            client: bound(&clients[0], wanted.client)?,
            publish: bound(&publish, wanted.publish)?,
            admin: bound(&admin, wanted.admin)?,
        };
        let mut tasks = JoinSet::new();
        core.broker
            .attach(Arc::clone(&core.hub) as Arc<dyn LiveSink>);
        let beating = Arc::clone(&core);
        tasks.spawn(async move { beating.health.run().await });
        tasks.spawn(Drain::run(Arc::clone(&core)));
        tasks.spawn(Admission::sweep(Arc::clone(&core)));
        tasks.spawn(Breaker::run(Arc::clone(&core)));
        tasks.spawn(announce_ready(Arc::clone(&core)));
        let (stop_servers, stop_shards) = (CancellationToken::new(), CancellationToken::new());
        let servers = vec![
            serve(publish, publish::router(Arc::clone(&core)), &stop_servers),
            serve(admin, admin::router(&core), &stop_servers),
        ];
        // Whatever fails from here on, those that run already end with this.
        let mut gateway = Self {
            core: Arc::clone(&core),
            addresses,
            tasks,
            servers,
            stop_servers,
            shards: Vec::new(),
            stop_shards,
        };
        for (listener, shard) in clients.into_iter().zip(0..) {
            let stop = gateway.stop_shards.clone();
            let ended = thread::start(Arc::clone(&core), shard, listener, stop)
                .map_err(StartError::Shard)?;
            gateway.shards.push(ended);
        }
        core.health.set_listening();
        events::listening(addresses.client, addresses.publish, addresses.admin);
        Ok(gateway)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Bound {
        self.addresses
    }

    /// What its parts share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What SIGTERM does; returns when no connection is left and requests are answered.
    pub async fn terminate(mut self) {
        shutdown::terminate(&self.core).await;
        self.stop_servers.cancel();
        let answered = futures::future::join_all(self.servers.drain(..));
        // Requests that hang longer are cut; their senders repeat them by id.
        let _ = tokio::time::timeout(limits::EXIT_WAIT, answered).await;
        self.stop_shards.cancel();
        let ended = futures::future::join_all(self.shards.drain(..));
        // A shard that is stuck is ended with the process.
        let _ = tokio::time::timeout(limits::EXIT_WAIT, ended).await;
        self.core.broker.close().await;
        self.tasks.shutdown().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop_shards.cancel();
        for server in &self.servers {
            server.abort();
        }
    }
}

fn open(address: SocketAddr) -> Result<TcpListener, StartError> {
    listener::open(address)
        .and_then(TcpListener::from_std)
        .map_err(|source| StartError::Listen { address, source })
}

/// One for each shard, all on the port that the first one got.
fn listeners(wanted: SocketAddr, shards: u16) -> Result<Vec<StdListener>, StartError> {
    let mut all: Vec<StdListener> = Vec::new();
    for _ in 0..shards {
        let address = match all.first() {
            Some(first) => bound(first, wanted)?,
            None => wanted,
        };
        let listener = listener::open_for_clients(address)
            .map_err(|source| StartError::Listen { address, source })?;
        all.push(listener);
    }
    Ok(all)
}

fn bound(listener: &impl AsFd, address: SocketAddr) -> Result<SocketAddr, StartError> {
    let local = SockRef::from(listener).local_addr();
    local
        .and_then(|local| {
            local
                .as_socket()
                .ok_or(std::io::ErrorKind::Unsupported.into())
        })
        .map_err(|source| StartError::Listen { address, source })
}

fn serve(listener: TcpListener, router: axum::Router, stop: &CancellationToken) -> JoinHandle<()> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let stopped = async move { stop.cancelled().await };
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stopped)
            .await
        {
            tracing::error!(%error, "port closed");
        }
    })
}

async fn announce_ready(core: Arc<Core>) {
    let mut look = tokio::time::interval(limits::DRAIN_TICK);
    while !core.is_ready() {
        look.tick().await;
    }
    events::ready(core.started.elapsed());
}
