//! Effects: processes that die without notice, and a spec that cannot work.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::scaling::condition;
use super::{SETTLE, Stage, ensure};
use crate::cluster::kill_container;
use crate::lab::SYSTEM;
use crate::lab::fleet::describe;
use crate::lab::wait::{self, Look};

/// Least reconnects per second that drain the manifest's `maxConnectionsPerPod` within its deadline.
const SLOWEST_RATE: u32 = 8000 / 30 + 1;

/// The leading operator is killed while a pod drains; the other one takes over and ends the work.
pub(super) async fn operator_leader_killed(stage: &mut Stage) -> Result<String> {
    let leader = leader(stage).await?;
    // As slow as the fleet's rules allow, so that the drain is still under way when the leader dies.
    let slow = json!({ "spec": { "reconnectBudget": { "ratePerSecond": SLOWEST_RATE } } });
    stage.fleet.patch(slow).await?;
    let pods = stage.fleet.pods().await?;
    let node = &pods.first().context("no gateway")?.node;
    stage.lab.kubectl(&["cordon", node]).await?;
    wait::until("a drain", SETTLE, || async {
        let pods = stage.fleet.pods().await?;
        if pods.iter().any(|p| p.draining) {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(describe(&pods)))
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(stage.lab.client.clone(), SYSTEM);
    pods.delete(&leader, &DeleteParams::default().grace_period(0))
        .await?;
    let took = stage.fleet.settled(SETTLE).await?;
    let (next, _) = wait::until("another leader", Duration::from_secs(30), || async {
        let now = self::leader(stage).await?;
        if now != leader {
            return Ok(Look::Done(now));
        }
        Ok(Look::NotYet(now))
    })
    .await?;
    Ok(format!(
        "{leader} killed, {next} ended the drain in {:.1} s",
        took.as_secs_f32()
    ))
}

async fn leader(stage: &Stage) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(stage.lab.client.clone(), SYSTEM);
    leases
        .get("sluice-operator")
        .await?
        .spec
        .and_then(|s| s.holder_identity)
        // The pod's name, then what tells one process of that name from the next.
        .and_then(|holder| Some(holder.split('_').next()?.to_owned()))
        .filter(|pod| !pod.is_empty())
        .context("the lease has no holder")
}

/// kill -9 of a gateway process: its clients resume elsewhere without loss, and the container starts anew.
pub(super) async fn gateway_killed(stage: &mut Stage) -> Result<String> {
    let victim = stage
        .fleet
        .pods()
        .await?
        .into_iter()
        .find(|p| p.ready)
        .context("no ready gateway")?;
    kill_container(&victim.uid, "sluice-gateway")?;
    stage.traffic.some_lost(Duration::from_secs(30)).await?;
    stage.traffic.all_connected(Duration::from_mins(1)).await?;
    stage.fleet.settled(SETTLE).await?;
    Ok(format!("{} killed", victim.name))
}

/// A pod patch that makes no pod is a condition that says so; the pods that run are left alone, and the undo ends it.
pub(super) async fn malformed_patch(stage: &mut Stage) -> Result<String> {
    let before = stage.fleet.pods().await?;
    stage
        .fleet
        .patch(json!({ "spec": { "pod": { "podPatch": { "spec": { "containers": "none" } } } } }))
        .await?;
    let (said, _) = wait::until(
        "a condition that names the fault",
        Duration::from_secs(30),
        || async {
            let object = stage.fleet.read().await?;
            let valid = condition(&object, "SpecValid");
            if valid.starts_with("False") && valid.contains("podPatch") {
                return Ok(Look::Done(valid));
            }
            Ok(Look::NotYet(valid))
        },
    )
    .await?;
    let during = stage.fleet.pods().await?;
    ensure(
        before.iter().all(|old| {
            during
                .iter()
                .any(|p| p.uid == old.uid && p.ready && !p.draining)
        }),
        || format!("pods were touched: {}", describe(&during)),
    )?;
    stage
        .fleet
        .patch(json!({ "spec": { "pod": { "podPatch": null } } }))
        .await?;
    stage.fleet.settled(SETTLE).await?;
    Ok(said)
}
