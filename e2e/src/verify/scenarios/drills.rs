//! Effects: a scheduled drill and one whose hypothesis does not hold.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;

use super::{SETTLE, Stage, ensure};
use crate::lab::DRILL_YAML;
use crate::lab::wait::{self, Look};

/// Time from applying a drill of every minute to its first report.
const FIRST_REPORT: Duration = Duration::from_mins(3);

/// A drill of every minute makes an experiment by itself, which evicts a gateway, sees it replaced, and says `Passed`.
pub(super) async fn scheduled(stage: &mut Stage) -> Result<String> {
    stage.lab.apply(DRILL_YAML).await?;
    let outcome = wait::until("a completed experiment", FIRST_REPORT, || async {
        let all = experiments(stage).await?;
        match all.iter().find(|e| e["status"]["phase"] == "Completed") {
            Some(done) => Ok(Look::Done(done.clone())),
            None => Ok(Look::NotYet(format!(
                "{} experiments: {}",
                all.len(),
                all.iter()
                    .map(|e| e["status"].to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            ))),
        }
    })
    .await;
    stage
        .fleet
        .objects("ChaosDrill", "chaosdrills")
        .delete("evict-one", &DeleteParams::default())
        .await?;
    let (done, took) = outcome?;
    let status = &done["status"];
    ensure(status["verdict"] == "Passed", || {
        format!("the verdict is {}: {status}", status["verdict"])
    })?;
    let targets = status["targets"]
        .as_array()
        .context("no targets in the report")?;
    ensure(
        targets.len() == 1 && targets[0]["confirmed"] == true,
        || format!("not one confirmed target: {status}"),
    )?;
    stage.fleet.settled(SETTLE).await?;
    Ok(format!(
        "Passed {:.0} s after it was applied, recovered in {} s",
        took.as_secs_f32(),
        status["report"]["recoverySeconds"]
    ))
}

/// A hypothesis that does not hold before the fault ends the experiment without a fault.
pub(super) async fn hypothesis_fails(stage: &mut Stage) -> Result<String> {
    let before = stage.fleet.pods().await?;
    stage
        .lab
        .apply(
            "{apiVersion: sluice.dev/v1alpha1, kind: ChaosExperiment, metadata: {name: too-much}, spec: {fleet: notify, \
             fault: {type: podKill}, steadyState: {prometheusUrl: 'http://sluice-prometheus.sluice-system.svc:9090', \
             checks: [{name: a-billion, query: 'sum(sluice_connections{fleet=\"notify\"})', min: '1000000000'}]}}}",
        )
        .await?;
    stage
        .lab
        .kubectl(&[
            "-n",
            &stage.fleet.namespace,
            "wait",
            "--for=condition=Complete",
            "--timeout=60s",
            "chaosexperiment/too-much",
        ])
        .await?;
    let all = experiments(stage).await?;
    let ours = all
        .iter()
        .find(|e| e["metadata"]["name"] == "too-much")
        .context("the experiment is gone")?;
    ensure(ours["status"]["verdict"] == "Failed", || {
        ours["status"].to_string()
    })?;
    let after = stage.fleet.pods().await?;
    ensure(
        before
            .iter()
            .all(|old| after.iter().any(|p| p.uid == old.uid)),
        || "a pod was killed although the hypothesis did not hold".into(),
    )?;
    stage
        .fleet
        .objects("ChaosExperiment", "chaosexperiments")
        .delete("too-much", &DeleteParams::default())
        .await?;
    Ok("Failed without a fault".into())
}

async fn experiments(stage: &Stage) -> Result<Vec<Value>> {
    stage
        .fleet
        .objects("ChaosExperiment", "chaosexperiments")
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .map(|e| Ok(serde_json::to_value(e)?))
        .collect()
}
