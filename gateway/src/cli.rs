//! Pure: the command line. Every flag is also an environment variable, `SLUICE_<FLAG>`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::forensics::HeapArgs;
use crate::forensics::compare::HeapDiff;
use crate::forensics::doctor::Doctor;

/// Keeps the WebSocket connections of one pod and delivers notifications to them.
#[derive(Debug, Parser)]
#[command(name = "sluice-gateway", version, about, long_about = None, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Other things this binary does.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the server.
    #[command(flatten)]
    pub serve: Serve,
}

const EXAMPLES: &str = "\
Try it alone:
  sluice-gateway --dev
  websocat 'ws://localhost:8080/v1/connect?user=ann&channels=news'
  curl -d '{\"channel\":\"news\",\"data\":{\"x\":1}}' localhost:8081/v1/publish

What does it do with its memory:
  sluice-gateway doctor --url http://localhost:9090

Exit codes: 0 stopped cleanly, 1 failed, 2 wrong usage.";

/// Other things this binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Compare heap snapshots, two or a folder of them. Exit codes: 1 grew above the limit, 2 cannot be compared.
    HeapDiff(HeapDiff),
    /// Look at a running gateway twice: does it leak, storm, or is it only loaded? Exit codes: 1 something is wrong, 2 cannot look.
    Doctor(Doctor),
}

/// Which broker keeps notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BrokerKind {
    /// In this process: gone when it ends, not shared with other gateways.
    Memory,
    /// NATS JetStream.
    Nats,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Settings of the server.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// A complete single gateway: memory broker, `?user=NAME` stands for a token, open publish and admin ports.
    #[arg(long, env = "SLUICE_DEV")]
    pub dev: bool,
    /// Broker that keeps notifications [default: memory with --dev, otherwise required].
    #[arg(long, env = "SLUICE_BROKER", value_enum)]
    pub broker: Option<BrokerKind>,
    /// NATS servers, separated by commas.
    #[arg(long, env = "SLUICE_NATS_URL", value_name = "URL")]
    pub nats_url: Option<String>,
    /// JetStream stream; created when absent.
    #[arg(
        long,
        env = "SLUICE_NATS_STREAM",
        default_value = "SLUICE",
        value_name = "NAME"
    )]
    pub nats_stream: String,
    /// Replicas of the stream.
    #[arg(long, env = "SLUICE_NATS_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nats_replicas: u8,
    /// How long notifications can be read again, seconds.
    #[arg(long, env = "SLUICE_HISTORY_MAX_AGE_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    pub history_max_age_seconds: u64,
    /// How many notifications of one channel can be read again.
    #[arg(long, env = "SLUICE_HISTORY_MAX_PER_CHANNEL", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub history_max_per_channel: u32,
    /// Address for clients.
    #[arg(
        long,
        env = "SLUICE_CLIENT_ADDR",
        default_value = "0.0.0.0:8080",
        value_name = "ADDR"
    )]
    pub client_addr: SocketAddr,
    /// Address for publishers.
    #[arg(
        long,
        env = "SLUICE_PUBLISH_ADDR",
        default_value = "0.0.0.0:8081",
        value_name = "ADDR"
    )]
    pub publish_addr: SocketAddr,
    /// Address for the operator, probes and Prometheus.
    #[arg(
        long,
        env = "SLUICE_ADMIN_ADDR",
        default_value = "0.0.0.0:9090",
        value_name = "ADDR"
    )]
    pub admin_addr: SocketAddr,
    /// Directory with the fleet's keys: files `admin`, `publish`, `resume`.
    #[arg(long, env = "SLUICE_FLEET_DIR", value_name = "DIR")]
    pub fleet_dir: Option<PathBuf>,
    /// File with the secret of HS256 tokens.
    #[arg(
        long,
        env = "SLUICE_JWT_HMAC_FILE",
        value_name = "FILE",
        group = "verifier"
    )]
    pub jwt_hmac_file: Option<PathBuf>,
    /// File with a JSON Web Key Set (EdDSA and RS256 tokens).
    #[arg(
        long,
        env = "SLUICE_JWKS_FILE",
        value_name = "FILE",
        group = "verifier"
    )]
    pub jwks_file: Option<PathBuf>,
    /// URL of a JSON Web Key Set (EdDSA and RS256 tokens).
    #[arg(long, env = "SLUICE_JWKS_URL", value_name = "URL", group = "verifier")]
    pub jwks_url: Option<String>,
    /// Issuer (`iss`) that tokens must name.
    #[arg(long, env = "SLUICE_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,
    /// Audience (`aud`) that tokens must name.
    #[arg(long, env = "SLUICE_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,
    /// Most connections; 0 takes the descriptor limit less 512.
    #[arg(
        long,
        env = "SLUICE_MAX_CONNECTIONS",
        default_value_t = 0,
        value_name = "N"
    )]
    pub max_connections: usize,
    /// Threads that keep connections; 0 takes one per processor that affinity and cgroup quota leave, at least one.
    #[arg(long, env = "SLUICE_SHARDS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64), value_name = "N")]
    pub shards: u16,
    /// Largest message from a client and largest published data, bytes.
    #[arg(long, env = "SLUICE_MAX_MESSAGE_BYTES", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(256..=1_000_000), value_name = "N")]
    pub max_message_bytes: u32,
    /// After SIGTERM, time in which newcomers are still accepted because endpoints lag behind, seconds.
    #[arg(
        long,
        env = "SLUICE_ENDPOINT_LAG_SECONDS",
        default_value_t = 5,
        value_name = "N"
    )]
    pub endpoint_lag_seconds: u64,
    /// The pod's termination grace period, seconds.
    #[arg(
        long,
        env = "SLUICE_GRACE_PERIOD_SECONDS",
        default_value_t = 90,
        value_name = "N"
    )]
    pub grace_period_seconds: u64,
    /// Deadline of a drain that names none, seconds.
    #[arg(
        long,
        env = "SLUICE_DRAIN_DEADLINE_SECONDS",
        default_value_t = 60,
        value_name = "N"
    )]
    pub drain_deadline_seconds: u64,
    /// The fleet's reconnect budget, reconnects per second; a terminating pod without an operator takes a tenth of it,
    /// more only when its grace period forces it.
    #[arg(long, env = "SLUICE_RECONNECT_RATE_PER_SECOND", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub reconnect_rate_per_second: u32,
    /// Silence after which a client beats, seconds.
    #[arg(long, env = "SLUICE_HEARTBEAT_CLIENT_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "N")]
    pub heartbeat_client_seconds: u32,
    /// How long a client then waits, seconds.
    #[arg(long, env = "SLUICE_HEARTBEAT_CLIENT_TIMEOUT_SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "N")]
    pub heartbeat_client_timeout_seconds: u32,
    /// Silence after which the gateway probes a client, seconds.
    #[arg(long, env = "SLUICE_HEARTBEAT_SERVER_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "N")]
    pub heartbeat_server_seconds: u32,
    /// How long the gateway then waits, seconds.
    #[arg(long, env = "SLUICE_HEARTBEAT_SERVER_TIMEOUT_SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "N")]
    pub heartbeat_server_timeout_seconds: u32,
    /// Messages that may be unacknowledged on one connection.
    #[arg(long, env = "SLUICE_WINDOW_MESSAGES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub window_messages: u32,
    /// Bytes that may be unacknowledged on one connection.
    #[arg(long, env = "SLUICE_WINDOW_BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1024..), value_name = "N")]
    pub window_bytes: u32,
    /// Thresholds that may be replaced while the gateway runs.
    #[command(flatten)]
    pub rules: crate::tuning::rules::Rules,
    /// Limits on what clients do.
    #[command(flatten)]
    pub handshake: crate::handshake::settings::HandshakeArgs,
    /// Where memory goes.
    #[command(flatten)]
    pub heap: HeapArgs,
    /// Name of the fleet, for logs.
    #[arg(long, env = "SLUICE_FLEET", default_value = "dev", value_name = "NAME")]
    pub fleet: String,
    /// Name of the pod, for logs and the admin API.
    #[arg(long, env = "SLUICE_POD", default_value = "local", value_name = "NAME")]
    pub pod: String,
    /// Zone of the pod, for logs.
    #[arg(long, env = "SLUICE_ZONE", default_value = "", value_name = "NAME")]
    pub zone: String,
    /// How log lines look. RUST_LOG chooses which ones.
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable() {
        for argument in Cli::command().get_arguments() {
            let Some(long) = argument.get_long() else {
                continue;
            };
            if matches!(long, "help" | "version") {
                continue;
            }
            let expected = format!("SLUICE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|e| e.to_str()),
                Some(expected.as_str())
            );
        }
    }
}
