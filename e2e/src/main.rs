//! Effects: the command line behind `cargo demo`, `cargo verify`, `cargo bench-all` and `cargo cluster`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sluice_e2e::bench::{self, BenchArgs, floor::FloorArgs};
use sluice_e2e::cluster::cli::ClusterCommand;
use sluice_e2e::demo::{self, DemoArgs};
use sluice_e2e::load::{self, LoadArgs};
use sluice_e2e::progress;
use sluice_e2e::verify::{self, VerifyArgs};

/// The gateway's, so that the floors of the benchmarks have no other one, and can be asked what they allocate.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(
    name = "sluice-e2e",
    version,
    about = "Local cluster, demo and end-to-end checks of Sluice"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The main job on a fresh machine: a fleet under load that scales, rolls out, is drained and drilled, and a table of proof
    Demo(DemoArgs),
    /// Everything that must pass: code, API server, cluster scenarios
    Verify(VerifyArgs),
    /// Every benchmark, side by side with its floor
    Bench(BenchArgs),
    /// The least that a server must do: what the benchmarks compare with
    #[command(hide = true)]
    BenchFloor(FloorArgs),
    /// A real three-node Kubernetes on this machine, one zone per node
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Many clients, publishers and the auditor against gateways that run already
    Load(LoadArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The first process of a node's namespaces: it must not have threads of a runtime.
    if let Command::Cluster(ClusterCommand::NodeInit { plan }) = &command {
        return sluice_e2e::cluster::node_init::main(plan);
    }
    // Two providers of cryptography may be linked; one must be named before the first connection.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        progress::note("error: another provider of cryptography is in place");
        return ExitCode::FAILURE;
    }
    // Benchmarks share their core with no runtime's threads.
    let measured = match &command {
        Command::Bench(args) => Some(bench::main(args)),
        Command::BenchFloor(args) => Some(bench::floor::main(*args).map(|()| true)),
        _ => None,
    };
    if let Some(outcome) = measured {
        return exit_code(outcome);
    }
    exit_code(match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(command)),
        Err(error) => Err(error.into()),
    })
}

fn exit_code(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; false when what it checks is not as it should be.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Bench(_) | Command::BenchFloor(_) => Ok(false),
        Command::Cluster(command) => command.run().await.map(|()| true),
        Command::Load(args) => {
            let report = load::run(&args, |s| {
                progress::note(&format!(
                    "{}/{} connected, {} published/s, {} delivered/s",
                    s.connected, s.clients, s.publishes_per_second, s.deliveries_per_second
                ));
            })
            .await?;
            for step in &report.steps {
                progress::say(&step.to_string());
            }
            progress::say(&report.total.to_string());
            Ok(report.total.is_clean())
        }
    }
}
