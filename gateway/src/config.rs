//! Effects (reads key files and the descriptor limit once): the checked settings of one gateway, parsed at the edge.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_protocol::server::{Heartbeat, Limits};
use thiserror::Error;

use crate::cli::{BrokerKind, Serve};
use crate::forensics::HeapConfig;
use crate::handshake::settings::HandshakeConfig;
use crate::limits;
use crate::tuning::rules::Rules;

/// Everything that one gateway needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Open ports, `?user=` instead of tokens.
    pub dev: bool,
    /// Where notifications are kept.
    pub broker: BrokerConfig,
    /// Addresses of the three ports.
    pub addresses: Addresses,
    /// The fleet's keys.
    pub keys: FleetKeys,
    /// How login tokens are checked; `None` only in development mode.
    pub tokens: Option<TokenConfig>,
    /// Most connections.
    pub max_connections: usize,
    /// Threads that keep connections.
    pub shards: u16,
    /// Largest client message and largest published data, bytes.
    pub message_bytes: u32,
    /// What a welcome says about limits.
    pub limits: Limits,
    /// What a welcome says about heartbeats.
    pub heartbeat: Heartbeat,
    /// How long the gateway waits after its own probe.
    pub heartbeat_server_timeout: Duration,
    /// Where heap snapshots are kept and how freed memory is given back.
    pub heap: HeapConfig,
    /// How the gateway ends.
    pub ending: EndingConfig,
    /// Thresholds that the gateway starts with; they may be replaced while it runs.
    pub rules: Rules,
    /// Limits on what clients do.
    pub handshake: HandshakeConfig,
    /// Who this is.
    pub identity: Identity,
}

/// Addresses of the three ports.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// WebSocket clients.
    pub client: SocketAddr,
    /// Publishers.
    pub publish: SocketAddr,
    /// Operator, probes, Prometheus.
    pub admin: SocketAddr,
}

/// Where notifications are kept.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// NATS, or `None` for memory.
    pub nats: Option<NatsConfig>,
    /// What can be read again.
    pub history: HistoryConfig,
}

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Servers, separated by commas.
    pub url: String,
    /// Stream name.
    pub stream: String,
    /// Replicas of the stream.
    pub replicas: u8,
}

/// What can be read again.
#[derive(Clone, Copy, Debug)]
pub struct HistoryConfig {
    /// Age.
    pub max_age: Duration,
    /// Messages per channel.
    pub max_per_channel: u32,
}

/// The fleet's keys. `admin` and `publish` are `None` for open ports.
#[derive(Clone)]
pub struct FleetKeys {
    /// Bearer key of the admin port.
    pub admin: Option<String>,
    /// Bearer key of the publish port.
    pub publish: Option<String>,
    /// Key of resume tokens, the same on every pod of the fleet.
    pub resume: Vec<u8>,
}

impl std::fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FleetKeys(..)")
    }
}

/// How login tokens are checked.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Where keys come from.
    pub source: KeySource,
    /// Required issuer.
    pub issuer: Option<String>,
    /// Required audience.
    pub audience: Option<String>,
}

/// Where keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// One shared secret, HS256.
    Hmac(Vec<u8>),
    /// A key set in a file, read again as one behind a URL is.
    JwksFile(PathBuf),
    /// A key set behind a URL.
    JwksUrl(String),
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hmac(_) => f.write_str("Hmac(..)"),
            Self::JwksFile(path) => write!(f, "JwksFile({})", path.display()),
            Self::JwksUrl(url) => write!(f, "JwksUrl({url})"),
        }
    }
}

/// How the gateway ends.
#[derive(Clone, Copy, Debug)]
pub struct EndingConfig {
    /// After SIGTERM newcomers are accepted for this long.
    pub endpoint_lag: Duration,
    /// The pod's whole grace period.
    pub grace_period: Duration,
    /// Deadline of a drain that names none.
    pub drain_deadline: Duration,
    /// The fleet's reconnect budget, per second.
    pub reconnect_rate: u32,
}

/// Who this is, for logs and the admin API.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Fleet.
    pub fleet: String,
    /// Pod.
    pub pod: String,
    /// Zone, may be empty.
    pub zone: String,
}

/// A setting that does not work, and what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No broker chosen.
    #[error("no broker: pass --broker nats with --nats-url, or --dev to try the gateway alone")]
    NoBroker,
    /// NATS without a URL.
    #[error("--broker nats needs --nats-url, for example nats://sluice-nats:4222")]
    NoNatsUrl,
    /// A stream name that NATS would refuse.
    #[error("--nats-stream {0:?}: use letters, digits, - and _ only")]
    BadStream(String),
    /// Thresholds that make no sense.
    #[error("{0}")]
    Rules(String),
    /// No fleet keys.
    #[error(
        "no fleet keys: pass --fleet-dir DIR with the files admin, publish and resume, or --dev"
    )]
    NoFleetDir,
    /// No way to check tokens.
    #[error("no way to check tokens: pass --jwt-hmac-file, --jwks-file or --jwks-url, or --dev")]
    NoVerifier,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key that protects nothing.
    #[error("{path} holds {length} bytes; a key needs at least {least}")]
    ShortKey {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        length: usize,
        /// What it needs.
        least: usize,
    },
    /// The grace period leaves no time to drain.
    #[error(
        "--grace-period-seconds {grace} must exceed --endpoint-lag-seconds {lag} by more than {reserve}"
    )]
    NoTimeToDrain {
        /// Given.
        grace: u64,
        /// Given.
        lag: u64,
        /// Kept for closing.
        reserve: u64,
    },
}

/// Shortest key of the fleet or of HS256, bytes.
const KEY_BYTES: usize = 16;

impl Config {
    /// Checks the command line and reads key files.
    pub fn from_cli(cli: &Serve) -> Result<Self, ConfigError> {
        let reserve = limits::TERMINATION_RESERVE.as_secs();
        if cli.grace_period_seconds <= cli.endpoint_lag_seconds + reserve && !cli.dev {
            return Err(ConfigError::NoTimeToDrain {
                grace: cli.grace_period_seconds,
                lag: cli.endpoint_lag_seconds,
                reserve,
            });
        }
        cli.rules.check().map_err(ConfigError::Rules)?;
        Ok(Self {
            dev: cli.dev,
            broker: broker(cli)?,
            addresses: Addresses {
                client: cli.client_addr,
                publish: cli.publish_addr,
                admin: cli.admin_addr,
            },
            keys: keys(cli)?,
            tokens: tokens(cli)?,
            max_connections: max_connections(cli.max_connections),
            shards: match cli.shards {
                0 => crate::shard::processors(),
                shards => shards,
            },
            message_bytes: cli.max_message_bytes,
            limits: Limits {
                window_messages: cli.window_messages,
                window_bytes: cli.window_bytes,
                message_bytes: cli.max_message_bytes,
            },
            heartbeat: Heartbeat {
                client_ms: cli.heartbeat_client_seconds * 1000,
                client_timeout_ms: cli.heartbeat_client_timeout_seconds * 1000,
                server_ms: cli.heartbeat_server_seconds * 1000,
            },
            heartbeat_server_timeout: Duration::from_secs(
                cli.heartbeat_server_timeout_seconds.into(),
            ),
            heap: cli.heap.checked(),
            ending: EndingConfig {
                endpoint_lag: Duration::from_secs(cli.endpoint_lag_seconds),
                grace_period: Duration::from_secs(cli.grace_period_seconds),
                drain_deadline: Duration::from_secs(cli.drain_deadline_seconds),
                reconnect_rate: cli.reconnect_rate_per_second,
            },
            rules: cli.rules.clone(),
            handshake: cli.handshake.checked(cli.dev),
            identity: Identity {
                fleet: cli.fleet.clone(),
                pod: cli.pod.clone(),
                zone: cli.zone.clone(),
            },
        })
    }
}

fn broker(cli: &Serve) -> Result<BrokerConfig, ConfigError> {
    let history = HistoryConfig {
        max_age: Duration::from_secs(cli.history_max_age_seconds),
        max_per_channel: cli.history_max_per_channel,
    };
    let nats = match (cli.broker, cli.dev) {
        (Some(BrokerKind::Memory), _) | (None, true) => None,
        (None, false) => return Err(ConfigError::NoBroker),
        (Some(BrokerKind::Nats), _) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if cli.nats_stream.is_empty() || !cli.nats_stream.chars().all(plain) {
                return Err(ConfigError::BadStream(cli.nats_stream.clone()));
            }
            Some(NatsConfig {
                url: cli.nats_url.clone().ok_or(ConfigError::NoNatsUrl)?,
                stream: cli.nats_stream.clone(),
                replicas: cli.nats_replicas,
            })
        }
    };
    Ok(BrokerConfig { nats, history })
}

fn keys(cli: &Serve) -> Result<FleetKeys, ConfigError> {
    let Some(directory) = &cli.fleet_dir else {
        if !cli.dev {
            return Err(ConfigError::NoFleetDir);
        }
        let resume: [u8; 32] = rand::random();
        return Ok(FleetKeys {
            admin: None,
            publish: None,
            resume: resume.to_vec(),
        });
    };
    let text = |name: &str| {
        read_key(&directory.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(FleetKeys {
        admin: if cli.dev { None } else { Some(text("admin")?) },
        publish: if cli.dev {
            None
        } else {
            Some(text("publish")?)
        },
        resume: read_key(&directory.join("resume"))?,
    })
}

fn tokens(cli: &Serve) -> Result<Option<TokenConfig>, ConfigError> {
    let source = match (&cli.jwt_hmac_file, &cli.jwks_file, &cli.jwks_url) {
        (Some(path), _, _) => KeySource::Hmac(read_key(path)?),
        (None, Some(path), _) => KeySource::JwksFile(path.clone()),
        (None, None, Some(url)) => KeySource::JwksUrl(url.clone()),
        (None, None, None) if cli.dev => return Ok(None),
        (None, None, None) => return Err(ConfigError::NoVerifier),
    };
    Ok(Some(TokenConfig {
        source,
        issuer: cli.jwt_issuer.clone(),
        audience: cli.jwt_audience.clone(),
    }))
}

/// Reads a key and drops line ends behind it, which editors and shells add.
fn read_key(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = std::fs::read(path).map_err(|source| ConfigError::File {
        path: path.into(),
        source,
    })?;
    while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.len() < KEY_BYTES {
        return Err(ConfigError::ShortKey {
            path: path.into(),
            length: bytes.len(),
            least: KEY_BYTES,
        });
    }
    Ok(bytes)
}

fn max_connections(wanted: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
        // The soft limit is often 1024 for the sake of `select`, which nothing here uses.
        if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
            hard
        } else {
            soft
        }
    });
    let most = descriptors.map_or(limits::MAX_CONNECTIONS_FALLBACK, |n| {
        n.saturating_sub(limits::RESERVED_DESCRIPTORS).max(1) as usize
    });
    if wanted == 0 { most } else { wanted.min(most) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let all = std::iter::once("sluice-gateway").chain(arguments.iter().copied());
        Config::from_cli(&Cli::parse_from(all).serve)
    }

    #[test]
    fn dev_needs_nothing_else() {
        let config = config(&["--dev"]).unwrap();
        assert!(
            config.broker.nats.is_none() && config.tokens.is_none() && config.keys.admin.is_none()
        );
        assert!(config.max_connections > 0);
    }

    #[test]
    fn production_names_what_is_missing() {
        let keys = tempfile::tempdir().unwrap();
        for name in ["admin", "publish", "resume"] {
            std::fs::write(keys.path().join(name), "0123456789abcdef\n").unwrap();
        }
        let fleet = keys.path().to_str().unwrap();
        assert!(matches!(config(&[]), Err(ConfigError::NoBroker)));
        assert!(matches!(
            config(&["--broker", "nats"]),
            Err(ConfigError::NoNatsUrl)
        ));
        let nats = ["--broker", "nats", "--nats-url", "nats://x"];
        assert!(matches!(config(&nats), Err(ConfigError::NoFleetDir)));
        let with_keys = [&nats[..], &["--fleet-dir", fleet]].concat();
        assert!(matches!(config(&with_keys), Err(ConfigError::NoVerifier)));
        let hmac = keys.path().join("resume");
        let whole = [&with_keys[..], &["--jwt-hmac-file", hmac.to_str().unwrap()]].concat();
        assert_eq!(config(&whole).unwrap().keys.resume, b"0123456789abcdef");
        let stream = [&whole[..], &["--nats-stream", "a.b"]].concat();
        assert!(matches!(config(&stream), Err(ConfigError::BadStream(_))));
        let short = [&whole[..], &["--grace-period-seconds", "15"]].concat();
        assert!(matches!(
            config(&short),
            Err(ConfigError::NoTimeToDrain { .. })
        ));
    }

    #[test]
    fn a_short_key_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert!(matches!(
            config(&["--dev", "--jwt-hmac-file", path]),
            Err(ConfigError::ShortKey { length: 5, .. })
        ));
    }
}
