//! A NATS server of a test's own, on loopback, in a temporary directory. Named by SLUICE_NATS_SERVER; without it, tests that
//! need one say so and pass.
#![allow(clippy::print_stderr)]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A running server; ends when dropped.
pub struct NatsServer {
    binary: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// `None` when no server binary is named.
    pub fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("SLUICE_NATS_SERVER") else {
            eprintln!("skipped: SLUICE_NATS_SERVER names no nats-server");
            return None;
        };
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self {
            binary: binary.into(),
            directory,
            port,
            child: None,
        };
        server.run();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let config = self.directory.path().join("nats.conf");
        let mut command = Command::new(&self.binary);
        if config.exists() {
            command.arg("--config").arg(config);
        } else {
            command
                .args([
                    "--jetstream",
                    "--addr",
                    "127.0.0.1",
                    "--port",
                    &self.port.to_string(),
                    "--store_dir",
                ])
                .arg(self.directory.path().join("store"));
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends as a pod's server does.
    pub fn terminate(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, Signal::SIGTERM);
            child.wait().unwrap();
        }
    }

    /// Announces its end to its clients and ends after a while (lame duck mode), as a pod's server does whose hook asks for it.
    pub fn retire(&self) {
        signal(self.child.as_ref().unwrap(), Signal::SIGUSR2);
    }

    /// True once the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }

    /// Forgets everything that was stored.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.directory.path().join("store")).unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, signal).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A wire between a gateway and its broker that can be cut.
pub struct Wire {
    pub address: SocketAddr,
    whole: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = Arc::new(AtomicBool::new(true));
        let cut = Arc::new(Notify::new());
        let (open, ends) = (Arc::clone(&whole), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (open, ends) = (Arc::clone(&open), Arc::clone(&ends));
                tokio::spawn(async move {
                    let cut = ends.notified();
                    if !open.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self {
            address,
            whole,
            cut,
        }
    }

    pub fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}

/// Three servers that form a cluster; each can be stopped and started again.
pub struct NatsCluster {
    pub servers: Vec<NatsServer>,
}

impl NatsCluster {
    pub fn start() -> Option<Self> {
        let binary: PathBuf = std::env::var_os("SLUICE_NATS_SERVER")?.into();
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let routes: Vec<_> = ports
            .iter()
            .map(|(_, route)| format!("nats://127.0.0.1:{route}"))
            .collect();
        let servers = ports.iter().enumerate().map(|(n, (port, route))| {
            let directory = tempfile::tempdir().unwrap();
            let config = format!(
                "server_name: n{n}\nlisten: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\" }}\nlame_duck_duration: 30s\n\
                 lame_duck_grace_period: 1s\ncluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{}] }}\n",
                directory.path().join("store").display(),
                routes.join(", "),
            );
            std::fs::write(directory.path().join("nats.conf"), config).unwrap();
            let mut server = NatsServer { binary: binary.clone(), directory, port: *port, child: None };
            server.run();
            server
        });
        Some(Self {
            servers: servers.collect(),
        })
    }

    pub fn url(&self) -> String {
        self.servers
            .iter()
            .map(NatsServer::url)
            .collect::<Vec<_>>()
            .join(",")
    }
}
