//! A NATS server of a test's own, on loopback, in a temporary directory. Named by SLUICE_NATS_SERVER; without it, tests that
//! need one say so and pass.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::Notify;

const PORT: u16 = 4222;
const ROUTE_PORT: u16 = 6222;

/// A running server; ends when dropped.
pub struct NatsServer {
    binary: PathBuf,
    directory: tempfile::TempDir,
    ip: Ipv4Addr,
    child: Option<Child>,
}

impl NatsServer {
    /// `None` when no server binary is named.
    pub fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("SLUICE_NATS_SERVER") else {
            eprintln!("skipped: SLUICE_NATS_SERVER names no nats-server");
            return None;
        };
        let mut server = Self {
            binary: binary.into(),
            directory: tempfile::tempdir().unwrap(),
            ip: own_ip(),
            child: None,
        };
        server.run();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        (self.ip, PORT).into()
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
                    &self.ip.to_string(),
                    "--port",
                    &PORT.to_string(),
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
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            println!(
                "--- the server on {}:\n{}",
                self.ip,
                log.unwrap_or_default()
            );
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, signal).unwrap();
}

/// An address of the loopback network that nobody else has. A server that is stopped and started again needs its port
/// back: a free port of the shared address may meanwhile be a gateway's.
fn own_ip() -> Ipv4Addr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let server = GIVEN.fetch_add(1, Ordering::Relaxed);
    assert!(server < 1 << 6, "more servers than addresses");
    let process = std::process::id() % (1 << 17);
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(127, 128, 0, 0)) | process << 6 | server)
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
        let ips = [own_ip(), own_ip(), own_ip()];
        let routes = ips.map(|ip| format!("nats://{ip}:{ROUTE_PORT}"));
        let servers = ips.into_iter().enumerate().map(|(n, ip)| {
            let directory = tempfile::tempdir().unwrap();
            let config = format!(
                "server_name: n{n}\nlisten: {ip}:{PORT}\njetstream {{ store_dir: \"{}\" }}\nlame_duck_duration: 30s\n\
                 lame_duck_grace_period: 1s\ncluster {{ name: test, listen: {ip}:{ROUTE_PORT}, routes: [{}] }}\n",
                directory.path().join("store").display(),
                routes.join(", "),
            );
            std::fs::write(directory.path().join("nats.conf"), config).unwrap();
            let mut server = NatsServer { binary: binary.clone(), directory, ip, child: None };
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
