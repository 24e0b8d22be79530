//! Effects: `cargo cluster up|down|status|load`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;

use super::{Cluster, Options, status};
use crate::progress::{note, say, step};

/// What to do with the local cluster.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Start it (three nodes, three zones) and leave it running; the last line is the path of its kubeconfig
    Up {
        /// Be content with one that runs already
        #[arg(long)]
        reuse: bool,
        /// Do not build gateway and operator, and load no images of them
        #[arg(long)]
        no_product: bool,
    },
    /// Take it away; only its logs stay, until the next start
    Down,
    /// Show nodes, daemons, memory and images
    Status,
    /// Load image archives into every node; without any, build gateway and operator anew and load those
    Load {
        /// OCI or Docker archives
        archives: Vec<PathBuf>,
    },
    /// The first process of a node; started by `up`
    #[command(hide = true)]
    NodeInit {
        /// The node's plan
        plan: PathBuf,
    },
}

impl ClusterCommand {
    /// Does it.
    ///
    /// # Errors
    /// Those of the step that failed; after Ctrl-C during `up`, once the half-made cluster is gone.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Up { reuse, no_product } => {
                let options = Options {
                    reuse,
                    product: !no_product,
                };
                up(&options).await
            }
            Self::Down => {
                let found = Cluster::down_if_up().await?;
                note(if found {
                    "the local cluster is gone"
                } else {
                    "no local cluster was up"
                });
                Ok(())
            }
            Self::Status => {
                let (cluster, wrong) = Cluster::look().await?;
                say(status::report(&cluster, wrong).await?.trim_end());
                Ok(())
            }
            Self::Load { archives } => {
                let cluster = Cluster::attach().await?;
                if archives.is_empty() {
                    cluster.load_product().await?;
                    note(
                        "running pods keep the old images; delete them, or roll their owners, to take the new ones",
                    );
                    return Ok(());
                }
                step("loading images", cluster.load_images(&archives)).await
            }
            // `main` runs it without the threads of a runtime.
            Self::NodeInit { .. } => bail!("a node's first process runs in namespaces of its own"),
        }
    }
}

async fn up(options: &Options) -> Result<()> {
    let mut cluster = tokio::select! {
        cluster = Cluster::up(options) => cluster?,
        () = interrupted() => bail!("interrupted"),
    };
    cluster.keep()?;
    let timings = cluster.timings().to_string();
    if !timings.is_empty() {
        note(&timings);
    }
    note("kubectl of its version, Helm and the rest:");
    note(&format!("  {}", cluster.tools().kubectl().display()));
    note(&format!("  {}", cluster.tools().helm().display()));
    say(&cluster.kubeconfig().display().to_string());
    Ok(())
}

/// Ends with the first Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}
