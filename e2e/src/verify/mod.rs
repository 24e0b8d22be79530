//! Effects: `cargo verify`, everything that must pass: code, API server, whole cluster. It ends with one line of counts.

mod api;
mod churn;
pub mod code;
mod fuzz;
mod scenarios;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::cluster::tools::Tools;
use crate::cluster::{Cluster, Options, STORAGE_CLASS};
use crate::lab::traffic::{Demand, Traffic};
use crate::lab::{FLEET_RATE, Lab};
use crate::progress;
use crate::report::Checks;
use scenarios::Stage;

/// Clients in every scenario.
const CLIENTS: usize = 1200;
/// Notifications published per second in every scenario.
const PUBLISHES_PER_SECOND: u32 = 100;
/// Share of publishes that must be accepted within one second. A scenario publishes some hundred times, so that one late answer
/// is more than a tenth of a percent; the demo, with its longer steps, asks for 99.9.
const ACCEPTED_PERCENT: f64 = 99.0;
/// Time from `helm install` to a fleet that is Ready, with images present.
const FLEET_READY_LIMIT: Duration = Duration::from_mins(1);

/// Options of `cargo verify`.
#[derive(Args, Clone, Debug, Default)]
pub struct VerifyArgs {
    /// Only the cluster scenarios
    #[arg(long)]
    pub scenarios: bool,
    /// Only scenarios whose name contains this; implies --scenarios. `fuzz` and `churn` run the gateway's fuzz targets, or its memory
    /// under churn, alone
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Leave the cluster running at the end
    #[arg(long)]
    pub keep: bool,
}

/// Runs the checks; true when all passed.
///
/// # Errors
/// When the tools cannot be built.
pub async fn run(args: VerifyArgs) -> Result<bool> {
    let root = crate::repository_root()?;
    let mut checks = Checks::default();
    let alone = match args.only.as_deref() {
        Some("fuzz") => Some(checks.run("fuzz targets", fuzz::targets(&root)).await),
        Some("churn") => Some(checks.run("churn", churn::leaves_nothing()).await),
        _ => None,
    };
    if alone.is_some() {
        return Ok(checks.close());
    }
    let tools = crate::images::build_all().await?;
    if !args.scenarios && args.only.is_none() {
        checks.run("format", code::format(&root)).await;
        checks.run("clippy", code::lints(&root)).await;
        checks
            .run("tests of all crates", code::tests(&root, &tools))
            .await;
        checks.run("chart", code::chart(&root, &tools)).await;
        checks.run("fuzz targets", fuzz::targets(&root)).await;
        checks.run("churn", churn::leaves_nothing()).await;
    }
    let outcome = on_cluster(&args, &tools, &mut checks).await;
    if !args.keep {
        checks
            .run("cluster down leaves nothing", async {
                Cluster::down_if_up().await?;
                Ok(String::new())
            })
            .await;
    }
    if let Err(error) = outcome {
        progress::say(&format!("the cluster's checks broke off: {error:#}"));
    }
    Ok(checks.close())
}

/// The checks on a cluster. An error means that the rest could not be run; it is counted already.
async fn on_cluster(args: &VerifyArgs, tools: &Tools, checks: &mut Checks) -> Result<()> {
    let root = crate::repository_root()?;
    let mut cluster = None;
    checks
        .run("cluster up", async {
            let mut up = Cluster::up(&Options::default()).await?;
            if args.keep {
                up.keep()?;
            }
            let said = up.timings().to_string();
            cluster = Some(up);
            Ok(said)
        })
        .await;
    let Some(cluster) = cluster else {
        bail!("no cluster");
    };
    let kubeconfig = cluster.kubeconfig().to_owned();
    let lab = Lab::new(
        cluster.client().await?,
        tools.clone(),
        kubeconfig,
        None,
        root,
    );
    if args.only.is_none() {
        checks
            .run("CRDs by plain kubectl apply", api::crds_apply(&lab))
            .await;
        checks.run("kubectl explain", api::explains(&lab)).await;
        checks.run("schema defaults", api::defaults(&lab)).await;
        checks.run("CRDs deleted", api::crds_delete(&lab)).await;
    }
    let mut fleet = None;
    checks
        .run("chart install and apply to fleet Ready", async {
            let begun = std::time::Instant::now();
            lab.install_chart(Some(STORAGE_CLASS)).await?;
            let applied = lab.apply_fleet().await?;
            applied.settled(FLEET_READY_LIMIT).await?;
            let took = begun.elapsed();
            if took > FLEET_READY_LIMIT {
                bail!(
                    "{:.1} s, the limit is {} s",
                    took.as_secs_f32(),
                    FLEET_READY_LIMIT.as_secs()
                );
            }
            fleet = Some(applied);
            Ok(String::new())
        })
        .await;
    let Some(fleet) = fleet else {
        bail!("no fleet");
    };
    if args.only.is_none() {
        checks
            .run("bad manifests are refused", api::refusals(&lab))
            .await;
    }
    let demand = Demand {
        clients: CLIENTS,
        publishes_per_second: PUBLISHES_PER_SECOND,
        reconnect_rate: FLEET_RATE,
        accepted_percent: ACCEPTED_PERCENT,
    };
    let traffic = Traffic::start(&lab, &fleet, &demand).await?;
    let mut stage = Stage {
        lab,
        fleet,
        traffic,
    };
    scenarios::run_all(&mut stage, checks, args.only.as_deref()).await;
    stage.traffic.stop().await;
    Ok(())
}
