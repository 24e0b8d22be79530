//! Effects: `kubectl drain` and `kubectl cordon` as people use them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Child;

use super::{SETTLE, Stage, ensure};
use crate::lab::fleet::{PodSeen, describe};
use crate::lab::wait::{self, Look};
use crate::lab::{FLEET_STREAM, broker};

/// Plain `kubectl drain` of the node that holds the leader of the fleet's stream and a gateway.
pub(super) async fn leaders_node(stage: &mut Stage) -> Result<String> {
    let (pod, node) = broker::leader(&stage.lab.client, FLEET_STREAM).await?;
    let gateways = on_node(stage, &node).await?;
    ensure(!gateways.is_empty(), || format!("no gateway on {node}"))?;
    let drain = start_drain(stage, &node)?;
    finish_drain(drain).await?;
    let left = on_node(stage, &node).await?;
    ensure(left.is_empty(), || {
        format!("after the drain {node} still has {}", describe(&left))
    })?;
    let took = stage.fleet.settled(SETTLE).await?;
    stage.lab.kubectl(&["uncordon", &node]).await?;
    Ok(format!(
        "drained {node} with {} gateways and {pod}, settled {:.1} s later",
        gateways.len(),
        took.as_secs_f32()
    ))
}

/// Two gateways on the node and no operator: one goes, the other waits for the disruption budget, and all ends when the operator is back.
pub(super) async fn operator_down(stage: &mut Stage) -> Result<String> {
    stage.fleet.scale(4).await?;
    stage.fleet.settled(SETTLE).await?;
    let node = crowded_node(stage).await?;
    let before = on_node(stage, &node).await?;
    stage.lab.scale_deployment("sluice-operator", 0).await?;
    let drain = start_drain(stage, &node)?;
    let outcome = one_goes_one_waits(stage, &node, &before).await;
    stage.lab.scale_deployment("sluice-operator", 2).await?;
    outcome?;
    finish_drain(drain).await?;
    stage.lab.kubectl(&["uncordon", &node]).await?;
    stage.fleet.settled(SETTLE).await?;
    Ok(format!("{} gateways on {node}, one waited", before.len()))
}

async fn one_goes_one_waits(stage: &Stage, node: &str, before: &[PodSeen]) -> Result<()> {
    let gone = before.len() - 1;
    wait::until(
        "one gateway gone without an operator",
        Duration::from_secs(100),
        || async {
            let left = on_node(stage, node).await?;
            if left.len() == gone {
                return Ok(Look::Done(()));
            }
            Ok(Look::NotYet(describe(&left)))
        },
    )
    .await?;
    wait::holds(
        "the other gateway stays",
        Duration::from_secs(12),
        || async {
            let left = on_node(stage, node).await?;
            if left.len() == gone && left.iter().all(|p| !p.terminating && p.ready) {
                return Ok(Look::Done(()));
            }
            Ok(Look::NotYet(describe(&left)))
        },
    )
    .await
}

/// Cordon, wait until a drain has begun, uncordon: the pod is taken back and keeps serving, and the fleet is as large as before.
pub(super) async fn uncordon_half_way(stage: &mut Stage) -> Result<String> {
    stage.fleet.scale(4).await?;
    stage.fleet.settled(SETTLE).await?;
    let node = crowded_node(stage).await?;
    let before = on_node(stage, &node).await?;
    stage.lab.kubectl(&["cordon", &node]).await?;
    let (draining, _) = wait::until("a drain after the cordon", SETTLE, || async {
        let pods = on_node(stage, &node).await?;
        match pods.iter().find(|p| p.draining && !p.terminating) {
            Some(pod) => Ok(Look::Done(pod.clone())),
            None => Ok(Look::NotYet(describe(&pods))),
        }
    })
    .await?;
    stage.lab.kubectl(&["uncordon", &node]).await?;
    stage.fleet.settled(SETTLE).await?;
    let after = stage.fleet.pods().await?;
    let kept = before
        .iter()
        .filter(|old| after.iter().any(|p| p.uid == old.uid))
        .count();
    ensure(kept > 0, || {
        format!(
            "none of {} was taken back; now: {}",
            describe(&before),
            describe(&after)
        )
    })?;
    Ok(format!(
        "{} was draining when {node} came back; {kept} of {} pods stayed",
        draining.name,
        before.len()
    ))
}

async fn on_node(stage: &Stage, node: &str) -> Result<Vec<PodSeen>> {
    let mut pods = stage.fleet.pods().await?;
    pods.retain(|p| p.node == node);
    Ok(pods)
}

/// A node with at least two gateways.
async fn crowded_node(stage: &Stage) -> Result<String> {
    for node in stage.fleet.nodes().await?.into_keys() {
        if on_node(stage, &node).await?.len() >= 2 {
            return Ok(node);
        }
    }
    bail!(
        "no node has two gateways: {}",
        describe(&stage.fleet.pods().await?)
    )
}

fn start_drain(stage: &Stage, node: &str) -> Result<Child> {
    stage
        .lab
        .kubectl_start(&["drain", node, "--ignore-daemonsets", "--timeout=170s"])
}

async fn finish_drain(drain: Child) -> Result<()> {
    let output = drain.wait_with_output().await.context("kubectl drain")?;
    ensure(output.status.success(), || {
        format!(
            "kubectl drain ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}
