//! `sluice-operator` (effects): reads the command line, then runs the operator or prints the CRDs.

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use kube::{Client, Config};
use sluice_operator::events::Facts;
use sluice_operator::fleet::observed::Defaults;
use sluice_operator::lease::Elector;
use sluice_operator::limits::STOP_WITHIN;
use sluice_operator::world::World;
use sluice_operator::{controllers, server};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Operator of NotifyGateway fleets: paces everything that makes clients reconnect.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the cluster of the pod, or of the kubeconfig.
    Run(RunArgs),
    /// Print the custom resource definitions as YAML, for `kubectl apply -f -`.
    Crds,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Gateway image for fleets that name none.
    #[arg(long, env = "SLUICE_GATEWAY_IMAGE")]
    gateway_image: String,

    /// Namespace of the Lease; the operator's own.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace_of_lease: String,

    /// Name of the Lease that operators elect their leader by.
    #[arg(long, env = "SLUICE_LEASE_NAME", default_value = "sluice-operator")]
    lease_name: String,

    /// Name of this operator in the Lease and in events; the host's name when absent.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "SLUICE_HEALTH_ADDR", default_value = "0.0.0.0:8081")]
    health_addr: SocketAddr,

    /// How log lines look. RUST_LOG says which there are.
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds => print_crds(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sluice-operator", &mut script);
            print(&script)
        }
        Command::Run(args) => {
            log_to_stderr(args.log_format);
            // Two providers are in the dependency graph, so rustls cannot choose by itself.
            rustls::crypto::aws_lc_rs::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))?;
            let runtime = tokio::runtime::Runtime::new().context("starting the async runtime")?;
            let result = runtime.block_on(run(args));
            // Nothing that still runs has anything to write: the lease is released.
            runtime.shutdown_background();
            result
        }
    }
}

fn print_crds() -> anyhow::Result<()> {
    let mut text = String::new();
    for crd in sluice_crds::all() {
        text.push_str("---\n");
        text.push_str(&sluice_crds::yaml(&crd).context("writing a CRD as YAML")?);
    }
    print(text.as_bytes())
}

/// Writes to stdout; a reader that went away early is no error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn log_to_stderr(format: LogFormat) {
    // Its spans would repeat each object's name on every line.
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::new(format!("kube_runtime=warn,{wanted}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let identity = args.identity.unwrap_or_else(host_name);
    let config = Config::infer()
        .await
        .context("finding a cluster: run in a pod, or set KUBECONFIG")?;
    let client = Client::try_from(config.clone()).context("making a client of the API server")?;
    let mut impatient = config;
    impatient.default_retry = false;
    let lease_client = Client::try_from(impatient).context("making a client for the lease")?;
    let facts = Arc::new(Facts::new(Some(client.clone()), &identity));
    let elector = Elector::new(
        lease_client,
        &args.namespace_of_lease,
        &args.lease_name,
        &identity,
        Arc::clone(&facts),
    );
    info!(
        identity,
        version = env!("CARGO_PKG_VERSION"),
        "operator starts"
    );

    let stop = CancellationToken::new();
    let served = tokio::spawn(server::serve(
        args.health_addr,
        Arc::clone(&facts),
        elector.pulse(),
    ));
    tokio::spawn(stop_on_signal(stop.clone()));
    let defaults = Defaults {
        gateway_image: args.gateway_image,
    };
    let lead = move |term, tenure| {
        let begun = World::begin(
            client.clone(),
            term,
            tenure,
            Arc::clone(&facts),
            defaults.clone(),
        );
        async move {
            match begun {
                Ok((world, watches)) => controllers::run(world, watches).await,
                Err(error) => error!(%error, "HTTP clients cannot be made"),
            }
        }
    };
    let elected = elector.run(stop.clone(), lead);
    tokio::select! {
        () = elected => info!("stopped"),
        () = overdue(stop) => warn!("not stopped in time; the lease runs out by itself"),
        result = served => {
            result
                .context("health server")?
                .with_context(|| format!("serving health at {}", args.health_addr))?;
        }
    }
    Ok(())
}

/// Ends when stopping has taken too long.
async fn overdue(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_WITHIN).await;
}

async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        error!("signals cannot be handled; only a kill will stop this process");
        return;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "stopping");
    stop.cancel();
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(
        |_| "sluice-operator".to_owned(),
        |name| name.trim().to_owned(),
    )
}
