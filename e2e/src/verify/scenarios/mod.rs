//! Effects: the cluster scenarios. Each one does to a fleet under load what its name says and ends with the audit of that span:
//! nothing lost, repeated or out of order, no gap notice, reconnects within the budget.

mod drains;
mod drills;
mod failures;
mod rollout;
mod scaling;
mod thresholds;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::lab::fleet::Fleet;
use crate::lab::traffic::Traffic;
use crate::lab::{FLEET_RATE, Lab};
use crate::report::Checks;

/// Time a fleet gets to be what its spec asks for, after any of the scenarios.
pub(crate) const SETTLE: Duration = Duration::from_secs(150);

/// What every scenario works with.
pub struct Stage {
    /// The cluster with the chart on it.
    pub lab: Lab,
    /// The fleet under test.
    pub fleet: Fleet,
    /// Clients, publishers and the auditor.
    pub traffic: Traffic,
}

/// Runs all scenarios one after the other, each from a settled fleet of three.
pub async fn run_all(stage: &mut Stage, checks: &mut Checks, only: Option<&str>) {
    macro_rules! scenario {
        ($name:literal, $run:path) => {
            scenario!($name, $run, Traffic::count)
        };
        ($name:literal, $run:path, $count:path) => {
            if only.is_none_or(|part| $name.contains(part)) {
                checks
                    .run(concat!("scenario: ", $name), async {
                        reset(stage).await?;
                        stage.traffic.begin($name);
                        let said = $run(stage).await?;
                        let audit = $count(&stage.traffic).await.clean()?;
                        Ok(format!("{said}; {audit}"))
                    })
                    .await;
            }
        };
    }
    scenario!("scale out and in by kubectl scale", scaling::by_hand);
    scenario!("scale out on connections", scaling::on_connections);
    scenario!("Prometheus gone, no scale-in", scaling::without_prometheus);
    scenario!("rollout", rollout::changed_setting);
    scenario!(
        "kubectl drain, node of the stream's leader",
        drains::leaders_node
    );
    scenario!(
        "kubectl drain with the operator down",
        drains::operator_down
    );
    scenario!("uncordon half-way", drains::uncordon_half_way);
    scenario!(
        "leader killed during a drain",
        failures::operator_leader_killed
    );
    scenario!(
        "gateway killed",
        failures::gateway_killed,
        Traffic::count_unpaced
    );
    scenario!("breaker, without a restart", thresholds::breaker);
    scenario!("malformed patch", failures::malformed_patch);
    scenario!("scheduled drill", drills::scheduled);
    scenario!("drill whose hypothesis fails", drills::hypothesis_fails);
}

/// Puts the stage back to three settled pods on schedulable nodes, whatever the last scenario left.
async fn reset(stage: &Stage) -> Result<()> {
    for (node, cordoned) in stage.fleet.nodes().await? {
        if cordoned {
            stage.lab.kubectl(&["uncordon", &node]).await?;
        }
    }
    stage
        .fleet
        .patch(serde_json::json!({ "spec": { "replicas": 3, "scaling": null, "pod": { "podPatch": null }, "breaker": null,
            "reconnectBudget": { "ratePerSecond": FLEET_RATE } } }))
        .await?;
    stage.fleet.settled(SETTLE).await?;
    stage.traffic.all_connected(Duration::from_mins(1)).await?;
    Ok(())
}

/// Fails unless `condition` holds.
pub(crate) fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if !condition {
        bail!(otherwise());
    }
    Ok(())
}
