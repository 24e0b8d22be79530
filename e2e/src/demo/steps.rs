//! Effects: the steps of the demo, each under the full load, each with the audit of its span.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::DemoArgs;
use super::table::{Row, Table};
use crate::lab::fleet::{Fleet, describe};
use crate::lab::traffic::{Demand, Traffic};
use crate::lab::wait::{self, Look};
use crate::lab::{DRILL_YAML, FLEET_RATE, FLEET_STREAM, Lab, broker};
use crate::progress;

/// Time any one step may take before the demo gives up on it.
const STEP: Duration = Duration::from_mins(3);
/// Time a fresh fleet may take to be Ready.
const FIRST_READY: Duration = Duration::from_mins(1);
/// Share of publishes that must be accepted within one second in every step.
const ACCEPTED_PERCENT: f64 = 99.9;
/// Share of the first clients that the load grows by in the scale-out step, in percent.
const GROWTH_PERCENT: u32 = 40;

/// Runs all steps; true when each one's audit is clean.
pub(super) async fn all(lab: &Lab, args: &DemoArgs, storage_class: Option<&str>) -> Result<bool> {
    let begun = Instant::now();
    progress::say("installing the chart (operator, NATS, Prometheus) with Helm");
    lab.install_chart(storage_class).await?;
    progress::say("applying the fleet");
    let fleet = lab.apply_fleet().await?;
    fleet
        .patch(json!({ "spec": { "scaling": { "connectionsPerPod": target(args) } } }))
        .await?;
    fleet.settled(FIRST_READY).await?;
    let ready = begun.elapsed();
    progress::say(&format!(
        "fleet Ready {:.1} s after the chart's install began",
        ready.as_secs_f32()
    ));

    let demand = Demand {
        clients: args.clients as usize,
        publishes_per_second: args.publishes,
        reconnect_rate: FLEET_RATE,
        accepted_percent: ACCEPTED_PERCENT,
    };
    let mut stage = Stage {
        traffic: Traffic::start(lab, &fleet, &demand).await?,
        lab,
        fleet,
        table: Table::default(),
    };
    stage.step("connect", connect).await?;
    stage
        .step("scale out on load", async |s: &mut Stage<'_>| {
            scale_out(s, args).await
        })
        .await?;
    stage.step("rollout", rollout).await?;
    stage.step("kubectl drain", drain).await?;
    stage.step("scheduled drill", drill).await?;
    let clean = stage.table.clean();
    stage.table.print(ready);
    stage.traffic.stop().await;
    Ok(clean)
}

struct Stage<'a> {
    lab: &'a Lab,
    fleet: Fleet,
    traffic: Traffic,
    table: Table,
}

impl Stage<'_> {
    async fn step(
        &mut self,
        name: &'static str,
        act: impl AsyncFnOnce(&mut Self) -> Result<String>,
    ) -> Result<()> {
        progress::say(&format!("▸ {name}"));
        self.traffic.begin(name);
        let begun = Instant::now();
        let view = self.traffic.live_view();
        let note = act(self).await.with_context(|| format!("step '{name}'"));
        drop(view);
        let note = note?;
        let took = begun.elapsed();
        let audit = self.traffic.count().await;
        progress::say(&format!("  {note}; {audit}"));
        self.table.add(Row { name, took, audit });
        Ok(())
    }
}

/// Connections per pod at which the first clients fit three pods and the grown load needs a fourth.
fn target(args: &DemoArgs) -> u32 {
    args.clients * 2 / 5
}

async fn connect(stage: &mut Stage<'_>) -> Result<String> {
    stage.traffic.all_connected(STEP).await?;
    Ok(format!("{} clients connected", stage.traffic.clients()))
}

async fn scale_out(stage: &mut Stage<'_>, args: &DemoArgs) -> Result<String> {
    let before = stage.fleet.pods().await?.len();
    let more = args.clients * GROWTH_PERCENT / 100;
    stage.traffic.add_clients(more as usize);
    stage.traffic.all_connected(STEP).await?;
    wait::until("more pods", STEP, || async {
        let pods = stage.fleet.pods().await?;
        if pods.len() > before {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(describe(&pods)))
    })
    .await?;
    stage.fleet.settled(STEP).await?;
    let after = stage.fleet.pods().await?.len();
    Ok(format!("{more} clients more: {before} pods became {after}"))
}

async fn rollout(stage: &mut Stage<'_>) -> Result<String> {
    stage
        .fleet
        .patch(json!({ "spec": { "pod": { "annotations": { "example.com/release": "2" } } } }))
        .await?;
    wait::until("a new revision", STEP, || async {
        let pods = stage.fleet.pods().await?;
        let old = &pods[0].revision;
        if pods.iter().any(|p| &p.revision != old) {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(describe(&pods)))
    })
    .await?;
    stage.fleet.settled(STEP).await?;
    Ok("every pod replaced".into())
}

async fn drain(stage: &mut Stage<'_>) -> Result<String> {
    let (pod, node) = broker::leader(&stage.lab.client, FLEET_STREAM).await?;
    stage
        .lab
        .kubectl(&["drain", &node, "--ignore-daemonsets", "--timeout=170s"])
        .await?;
    stage.fleet.settled(STEP).await?;
    stage.lab.kubectl(&["uncordon", &node]).await?;
    Ok(format!(
        "{node} drained, with {pod}, the leader of the stream"
    ))
}

async fn drill(stage: &mut Stage<'_>) -> Result<String> {
    stage.lab.apply(DRILL_YAML).await?;
    let experiments = stage.fleet.objects("ChaosExperiment", "chaosexperiments");
    let (done, _) = wait::until("a completed experiment", STEP, || async {
        let all = experiments.list(&ListParams::default()).await?.items;
        let all: Vec<Value> = all
            .into_iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        match all.iter().find(|e| e["status"]["phase"] == "Completed") {
            Some(done) => Ok(Look::Done(done.clone())),
            None => Ok(Look::NotYet(format!(
                "{} experiments, none completed",
                all.len()
            ))),
        }
    })
    .await?;
    stage
        .fleet
        .objects("ChaosDrill", "chaosdrills")
        .patch(
            "evict-one",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(json!({ "spec": { "suspend": true } })),
        )
        .await?;
    stage.fleet.settled(STEP).await?;
    let (name, verdict) = (&done["metadata"]["name"], &done["status"]["verdict"]);
    if verdict != "Passed" {
        bail!("experiment {name} ended with {verdict}: {}", done["status"]);
    }
    Ok(format!("experiment {name}: {verdict}"))
}
