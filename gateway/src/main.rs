//! Effects (process): the `sluice-gateway` command: settings, logs, signals, exit codes.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use sluice_gateway::Gateway;
use sluice_gateway::cli::{Cli, Command, LogFormat, Serve};
use sluice_gateway::config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Clap exits with 2 by itself when the command line is wrong.
    let cli = Cli::parse();
    if let Some(Command::Completions { shell }) = cli.command {
        clap_complete::generate(
            shell,
            &mut Cli::command(),
            "sluice-gateway",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    start_logs(&cli.serve);
    // reqwest and async-nats both leave the choice to the program.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    let config = match Config::from_cli(&cli.serve) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(sluice_gateway::limits::CONTROL_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    // Before the ports: a signal during start must not kill without order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let dev = config.dev;
    let broker = sluice_gateway::gateway::broker(&config);
    let gateway = Gateway::start(config, broker)?;
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
