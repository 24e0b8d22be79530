//! Effects: thresholds that gateways are told while they run.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{SETTLE, Stage, ensure};
use crate::lab::fleet::describe;
use crate::lab::wait::{self, Look};

/// Value of `sluice_breaker_state` that refuses newcomers.
const OPEN: &str = "2";

/// Value of `sluice_breaker_state` that lets everybody in.
const CLOSED: &str = "0";

/// A breaker's threshold below what pods hold makes them refuse newcomers, and its undo lets them in again. No pod is
/// restarted for it, and no client that is connected loses its connection.
pub(super) async fn breaker(stage: &mut Stage) -> Result<String> {
    let before = stage.fleet.pods().await?;
    // One percent of 8,000 is less than each pod has.
    let opened = change(
        stage,
        json!({ "connectionsPercent": 1, "marginPercent": 0 }),
        OPEN,
    )
    .await?;
    let closed = change(stage, json!(null), CLOSED).await?;
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

/// Sets `spec.breaker` and waits until every pod's breaker is in this state.
async fn change(stage: &Stage, breaker: serde_json::Value, state: &str) -> Result<Duration> {
    stage
        .fleet
        .patch(json!({ "spec": { "breaker": breaker } }))
        .await?;
    let what = format!("sluice_breaker_state {state} on every pod");
    let ((), took) = wait::until(&what, Duration::from_mins(1), || async {
        let seen = states(stage).await?;
        if seen.iter().all(|seen| seen == state) {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(seen.join(", ")))
    })
    .await?;
    Ok(took)
}

async fn states(stage: &Stage) -> Result<Vec<String>> {
    let mut states = Vec::new();
    for pod in stage.fleet.pods().await? {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:9090/proxy/metrics",
            stage.fleet.namespace, pod.name
        );
        let metrics = stage.lab.kubectl(&["get", "--raw", &path]).await?;
        let state = metrics
            .lines()
            .find_map(|line| line.strip_prefix("sluice_breaker_state "))
            .with_context(|| format!("{} has no sluice_breaker_state", pod.name))?;
        states.push(state.to_owned());
    }
    Ok(states)
}
