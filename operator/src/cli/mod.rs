//! `kubectl sluice` (effects): reads Kubernetes objects and, for verbs that change something, writes
//! one. There is no other way to the operator, so RBAC and audit hold for all of it.
//!
//! ```text
//! live ──── what the cluster says, read once
//! status, plan, drill, report ── one verb each
//! table ─── columns of text (pure)
//! ```

mod drill;
mod live;
mod plan;
mod report;
mod status;
mod table;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use live::Live;
use std::io::Write as _;
use std::process::ExitCode;

/// Looks at NotifyGateway fleets and runs chaos drills.
#[derive(Parser)]
#[command(name = "kubectl-sluice", bin_name = "kubectl sluice", version, about)]
struct Cli {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Cluster {
    /// Namespace; the context's own when absent.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    context: Option<String>,
    /// Path of the kubeconfig.
    #[arg(long, global = true, env = "KUBECONFIG")]
    kubeconfig: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Show all fleets, or one with its pods.
    Status {
        /// Name of the NotifyGateway.
        fleet: Option<String>,
    },
    /// Show what the operator would do about a fleet now. Changes nothing.
    Plan {
        /// Name of the NotifyGateway.
        fleet: String,
        /// How to print it: text, or the whole plan as json.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// List drills, or run one now.
    Drill {
        #[command(subcommand)]
        verb: DrillVerb,
    },
    /// Show what an experiment did and saw.
    Report {
        /// Name of the ChaosExperiment.
        experiment: String,
        /// How to print it: text, or the whole status as json.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum DrillVerb {
    /// List drills with their schedule and last verdict.
    List,
    /// Create a ChaosExperiment from a drill's template now.
    Run {
        /// Name of the ChaosDrill.
        name: String,
        /// Wait for it to end; exit with 1 unless it passed.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What a verb gives: text to print, and whether all is well.
struct Answer {
    text: String,
    good: bool,
}

impl Answer {
    fn good(text: String) -> Self {
        Self { text, good: true }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match answer(cli) {
        Ok(answer) => {
            // A reader that went away early is no error.
            let _ = std::io::stdout().write_all(answer.text.as_bytes());
            if answer.good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer(cli: Cli) -> anyhow::Result<Answer> {
    let Cli { cluster, verb } = cli;
    if let Verb::Completions { shell } = verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "kubectl-sluice", &mut script);
        return Ok(Answer::good(String::from_utf8(script)?));
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?
        .block_on(carry_out(cluster, verb))
}

async fn carry_out(cluster: Cluster, verb: Verb) -> anyhow::Result<Answer> {
    let live = Live::connect(cluster.kubeconfig, cluster.context, cluster.namespace).await?;
    match verb {
        Verb::Status { fleet: None } => status::fleets(&live).await.map(Answer::good),
        Verb::Status { fleet: Some(fleet) } => status::fleet(&live, &fleet).await.map(Answer::good),
        Verb::Plan { fleet, output } => plan::plan(&live, &fleet, output).await.map(Answer::good),
        Verb::Drill {
            verb: DrillVerb::List,
        } => drill::list(&live).await.map(Answer::good),
        Verb::Drill {
            verb: DrillVerb::Run { name, wait },
        } => drill::run(&live, &name, wait).await,
        Verb::Report { experiment, output } => report::report(&live, &experiment, output)
            .await
            .map(Answer::good),
        Verb::Completions { .. } => Ok(Answer::good(String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
