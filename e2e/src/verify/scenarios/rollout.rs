//! Effects: a changed setting reaches every pod, surge first.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::json;

use super::{SETTLE, Stage, ensure};

/// Most reconnects per client that a rollout may cause.
const MOVES_PER_CLIENT: f64 = 1.05;

/// A new environment variable replaces all pods; clients move once, and the undo moves them back once.
pub(super) async fn changed_setting(stage: &mut Stage) -> Result<String> {
    let before: BTreeSet<String> = uids(stage).await?;
    stage.traffic.begin("rollout");
    stage
        .fleet
        .patch(json!({ "spec": { "pod": { "env": [{ "name": "RUST_LOG", "value": "info" }] } } }))
        .await?;
    let took = stage.fleet.settled(SETTLE).await?;
    let after = uids(stage).await?;
    ensure(before.is_disjoint(&after), || {
        "some pods of the old revision are still there".into()
    })?;
    let audit = stage.traffic.count().await.clean()?;
    let moves = audit.report.reconnects as f64 / stage.traffic.clients() as f64;
    ensure(moves <= MOVES_PER_CLIENT, || {
        format!(
            "{moves:.2} moves per client in one rollout, at most {MOVES_PER_CLIENT} are allowed"
        )
    })?;
    stage.traffic.begin("rollout undone");
    stage
        .fleet
        .patch(json!({ "spec": { "pod": { "env": null } } }))
        .await?;
    let back = stage.fleet.settled(SETTLE).await?;
    Ok(format!(
        "{:.1} s, undone in {:.1} s, {moves:.2} moves per client",
        took.as_secs_f32(),
        back.as_secs_f32()
    ))
}

async fn uids(stage: &Stage) -> Result<BTreeSet<String>> {
    Ok(stage
        .fleet
        .pods()
        .await?
        .into_iter()
        .map(|p| p.uid)
        .collect())
}
