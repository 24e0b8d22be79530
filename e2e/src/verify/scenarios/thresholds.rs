//! Effects: thresholds that gateways are told while they run.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{SETTLE, Stage, ensure};
use crate::lab::fleet::describe;
use crate::lab::wait::{self, Look};

/// Connections from which on one percent of the manifest's `maxConnectionsPerPod` is reached.
const ONE_PERCENT: u64 = 8000 / 100;

/// A breaker's threshold below what pods hold makes them refuse newcomers, and its undo lets them in again. No pod is
/// restarted for it, and no client that is connected loses its connection.
pub(super) async fn breaker(stage: &mut Stage) -> Result<String> {
    let before = stage.fleet.pods().await?;
    let strict = json!({ "connectionsPercent": 1, "marginPercent": 0 });
    let opened = change(stage, strict, |pod| {
        pod.open == (pod.connections >= ONE_PERCENT)
    })
    .await?;
    let closed = change(stage, json!(null), |pod| !pod.open).await?;
    stage.fleet.settled(SETTLE).await?;
    let after = stage.fleet.pods().await?;
    let same = before
        .iter()
        .map(|pod| &pod.uid)
        .eq(after.iter().map(|pod| &pod.uid));
    ensure(same, || format!("pods were replaced: {}", describe(&after)))?;
    Ok(format!(
        "open in {:.1} s, closed {:.1} s after the undo",
        opened.as_secs_f64(),
        closed.as_secs_f64()
    ))
}

/// What one pod says of its breaker.
#[derive(Debug)]
struct Seen {
    connections: u64,
    open: bool,
}

/// Sets `spec.breaker` and waits until every pod is as it should be. Most clients are on pods beyond one percent, whatever
/// the scenarios before have moved, so that some breaker opens.
async fn change(stage: &Stage, breaker: Value, right: impl Fn(&Seen) -> bool) -> Result<Duration> {
    stage
        .fleet
        .patch(json!({ "spec": { "breaker": breaker } }))
        .await?;
    let what = format!("breakers as spec.breaker {breaker} asks for");
    let ((), took) = wait::until(&what, Duration::from_mins(1), || async {
        let seen = look(stage).await?;
        if seen.iter().all(&right) {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(format!("{seen:?}")))
    })
    .await?;
    Ok(took)
}

async fn look(stage: &Stage) -> Result<Vec<Seen>> {
    let mut pods = Vec::new();
    for pod in stage.fleet.pods().await? {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:9090/proxy/metrics",
            stage.fleet.namespace, pod.name
        );
        let metrics = stage.lab.kubectl(&["get", "--raw", &path]).await?;
        let number = |name: &str| -> Result<u64> {
            let value = metrics
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value = value.with_context(|| format!("{} has no {name}", pod.name))?;
            Ok(value.parse()?)
        };
        pods.push(Seen {
            connections: number("sluice_connections")?,
            open: number("sluice_breaker_state")? == 2,
        });
    }
    Ok(pods)
}
