//! Effects: `cargo demo`, the main job from nothing to a table of proof.
//!
//! ```text
//! tools ─► images ─► cluster ─► chart ─► fleet ─► clients ─► scale out ─► rollout ─► kubectl drain ─► drill ─► table
//! ```

mod steps;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::cli::interrupted;
use crate::cluster::tools::Tools;
use crate::cluster::{Cluster, Options};
use crate::lab::Lab;
use crate::progress;

/// Options of `cargo demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Leave the cluster, the chart and the fleet running at the end
    #[arg(long)]
    pub keep: bool,
    /// Use this context of your kubeconfig instead of a local cluster; its nodes must be reachable from here and must have the images
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Storage class of the NATS volumes; the cluster's default class with `--context`
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
    /// Clients that stay connected through every step
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=15_000))]
    pub clients: u32,
    /// Notifications published per second through every step
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub publishes: u32,
}

/// Runs the demo; true when every step did what it should and the audit is clean.
///
/// # Errors
/// When a step cannot be carried out, after the cluster was taken down again (unless `--keep`).
pub async fn run(args: DemoArgs) -> Result<bool> {
    let root = crate::repository_root()?;
    let Some(context) = args.context.clone() else {
        return local(&args, root).await;
    };
    let tools = Tools::clients().await?;
    let options = kube::config::KubeConfigOptions {
        context: Some(context.clone()),
        ..Default::default()
    };
    let config = kube::Config::from_kubeconfig(&options)
        .await
        .with_context(|| format!("no usable context '{context}' in your kubeconfig (kubectl config get-contexts lists them)"))?;
    let client = kube::Client::try_from(config)?;
    let kubeconfig = std::env::var_os("KUBECONFIG").map_or_else(home_kubeconfig, PathBuf::from);
    let lab = Lab::new(client, tools, kubeconfig, Some(context), root);
    let clean = tokio::select! {
        outcome = steps::all(&lab, &args, args.storage_class.as_deref()) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if !args.keep {
        lab.remove().await?;
    }
    clean
}

async fn local(args: &DemoArgs, root: PathBuf) -> Result<bool> {
    let outcome = tokio::select! {
        outcome = on_local_cluster(args, root) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if args.keep && outcome.is_ok() {
        return outcome;
    }
    progress::say("taking the local cluster down");
    Cluster::down_if_up().await?;
    outcome
}

async fn on_local_cluster(args: &DemoArgs, root: PathBuf) -> Result<bool> {
    let tools = crate::images::build_all().await?;
    let mut cluster = Cluster::up(&Options::default()).await?;
    let lab = Lab::new(
        cluster.client().await?,
        tools,
        cluster.kubeconfig().to_owned(),
        None,
        root,
    );
    let class = args
        .storage_class
        .as_deref()
        .unwrap_or(crate::cluster::STORAGE_CLASS);
    let clean = steps::all(&lab, args, Some(class)).await?;
    if args.keep {
        cluster.keep()?;
        keep_hint(cluster.kubeconfig());
    }
    Ok(clean)
}

fn keep_hint(kubeconfig: &Path) {
    progress::say(&format!(
        "kept: export KUBECONFIG={} and go on by hand (README, \"By hand\"); `cargo cluster down` ends it",
        kubeconfig.display()
    ));
}

fn home_kubeconfig() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".kube/config")
}
