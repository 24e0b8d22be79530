//! Effects (process): the `sluice-gateway` command: settings, logs, signals, exit codes.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use sluice_gateway::cli::{Cli, Command, LogFormat, Serve};
use sluice_gateway::config::Config;
use sluice_gateway::forensics::{self, allocator, compare, doctor, dump};
use sluice_gateway::{Gateway, events};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Counts what it hands out and samples who asks for it: see `forensics`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Clap exits with 2 by itself when the command line is wrong.
    let cli = Cli::parse();
    start_logs(&cli.serve);
    // reqwest and async-nats both leave the choice to the program.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    match cli.command {
        None => serve(&cli.serve),
        Some(Command::HeapDiff(flags)) => told(compare::run(&flags)),
        Some(Command::Doctor(flags)) => match runtime() {
            Some(runtime) => told(runtime.block_on(doctor::run(&flags))),
            None => ExitCode::from(USAGE),
        },
        Some(Command::Completions { shell }) => {
            let name = "sluice-gateway";
            clap_complete::generate(shell, &mut Cli::command(), name, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// Exit code of a command that looks for something: 0 not found, 1 found, 2 could not look.
fn told(found: Result<bool, impl std::fmt::Display>) -> ExitCode {
    match found {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

fn serve(flags: &Serve) -> ExitCode {
    let config = match Config::from_cli(flags) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    prepare_heap(config.heap.decay);
    let Some(runtime) = runtime() else {
        return ExitCode::FAILURE;
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Option<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(sluice_gateway::limits::CONTROL_THREADS)
        .enable_all()
        .build()
        .map_err(|error| tracing::error!(%error, "no runtime"))
        .ok()
}

/// None of it is worth not starting for.
fn prepare_heap(decay: std::time::Duration) {
    if let Err(error) = allocator::configure(decay) {
        events::allocator_settings(&error);
    }
    if let Err(error) = dump::prepare() {
        events::heap_snapshot_failed(&error);
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    // Before the ports: a signal during start must not kill without order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let snapshot = signal(SignalKind::user_defined2())?;
    let dev = config.dev;
    let broker = sluice_gateway::gateway::broker(&config);
    let gateway = Gateway::start(config, broker)?;
    tokio::spawn(forensics::run(Arc::clone(gateway.core()), snapshot));
    let interrupted = either(&mut terminate, &mut interrupt).await;
    if dev && interrupted {
        // A person at a keyboard waits for no endpoints.
        return Ok(());
    }
    tokio::select! {
        () = gateway.terminate() => Ok(()),
        _ = either(&mut terminate, &mut interrupt) => anyhow::bail!("second signal: stopped without moving connections"),
    }
}

/// True when it was the interrupt.
async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> bool {
    tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    }
}

fn start_logs(serve: &Serve) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    let logs = tracing_subscriber::fmt()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match serve.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}
