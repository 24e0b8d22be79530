//! Effects: scaling by hand, by the operator's own scaler, and without Prometheus.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{SETTLE, Stage, ensure};
use crate::lab::wait::{self, Look};

/// `kubectl scale` to five and back to three: the two that go are drained before they are deleted.
pub(super) async fn by_hand(stage: &mut Stage) -> Result<String> {
    let lab = &stage.lab;
    let scale = async |replicas: &str| {
        lab.kubectl(&[
            "-n",
            &stage.fleet.namespace,
            "scale",
            &format!("notifygateway/{}", stage.fleet.name),
            replicas,
        ])
        .await
    };
    scale("--replicas=5").await?;
    let out = stage.fleet.settled(SETTLE).await?;
    scale("--replicas=3").await?;
    let back = stage.fleet.settled(SETTLE).await?;
    Ok(format!(
        "out in {:.1} s, in in {:.1} s",
        out.as_secs_f32(),
        back.as_secs_f32()
    ))
}

/// A target of a fifth of the connections per pod scales three pods to five; the same target met scales no further.
pub(super) async fn on_connections(stage: &mut Stage) -> Result<String> {
    let per_pod = stage.traffic.clients() / 5 + 1;
    stage.fleet.patch(scaling(per_pod, 5)).await?;
    let took = replicas_become(stage, 5).await?;
    stage.fleet.settled(SETTLE).await?;
    Ok(format!("3 to 5 in {:.1} s", took.as_secs_f32()))
}

/// With Prometheus gone nothing scales in, though the last figures said one pod would do; with it back, it does.
pub(super) async fn without_prometheus(stage: &mut Stage) -> Result<String> {
    let roomy = stage.traffic.clients() * 2;
    stage.lab.scale_deployment("sluice-prometheus", 0).await?;
    let held = async {
        stage.fleet.patch(scaling(roomy, 1)).await?;
        wait::holds(
            "three replicas without Prometheus",
            Duration::from_secs(25),
            || async {
                let replicas = stage.fleet.read().await?["spec"]["replicas"].clone();
                if replicas == json!(3) {
                    return Ok(Look::Done(()));
                }
                Ok(Look::NotYet(format!("spec.replicas is {replicas}")))
            },
        )
        .await?;
        let object = stage.fleet.read().await?;
        let active = condition(&object, "ScalingActive");
        ensure(active.starts_with("False"), || {
            format!("condition ScalingActive is {active}, not False")
        })
    }
    .await;
    stage.lab.scale_deployment("sluice-prometheus", 1).await?;
    held?;
    let took = replicas_become(stage, 1).await?;
    Ok(format!(
        "held 25 s, then scaled in {:.1} s after Prometheus was back",
        took.as_secs_f32()
    ))
}

fn scaling(connections_per_pod: usize, min: u32) -> serde_json::Value {
    json!({ "spec": { "scaling": {
        "minReplicas": min.min(3), "maxReplicas": 5, "connectionsPerPod": connections_per_pod,
        "prometheus": { "url": "http://sluice-prometheus.sluice-system.svc:9090" },
        "stabilizationSeconds": 10, "syncSeconds": 5 } } })
}

async fn replicas_become(stage: &Stage, wanted: i64) -> Result<Duration> {
    let what = format!("spec.replicas {wanted}");
    let ((), took) = wait::until(&what, SETTLE, || async {
        let object = stage.fleet.read().await?;
        if object["spec"]["replicas"] == json!(wanted) {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(format!(
            "{}, {}",
            object["spec"]["replicas"],
            condition(&object, "ScalingActive")
        )))
    })
    .await?;
    Ok(took)
}

/// A condition as "Status Reason: message", or "absent".
pub(super) fn condition(object: &serde_json::Value, name: &str) -> String {
    let text = |c: &serde_json::Value, k: &str| c[k].as_str().unwrap_or_default().to_owned();
    object["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["type"] == name))
        .map_or_else(
            || "absent".to_owned(),
            |c| {
                format!(
                    "{} {}: {}",
                    text(c, "status"),
                    text(c, "reason"),
                    text(c, "message")
                )
            },
        )
}
