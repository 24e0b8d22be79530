//! `kubectl sluice drill` (effects): lists drills, and runs one by creating an experiment from its
//! template, as the schedule would.

use super::Answer;
use super::live::Live;
use super::report;
use super::table::Table;
use crate::drills::drill::experiment_of;
use crate::watch;
use anyhow::Context as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::runtime::wait::{Condition, await_condition};
use serde_json::Value;
use sluice_crds::chaos_experiment::{Phase, Verdict};
use sluice_crds::{ChaosDrillSpec, ChaosDrillStatus, ChaosExperimentSpec, ChaosExperimentStatus};

/// All drills of the namespace.
pub async fn list(live: &Live) -> anyhow::Result<String> {
    let drills = live.list(&watch::drills()).await?;
    if drills.is_empty() {
        return Ok(format!("No ChaosDrill in namespace {}.\n", live.namespace));
    }
    let heading = [
        "DRILL",
        "FLEET",
        "FAULT",
        "SCHEDULE",
        "TIMEZONE",
        "SUSPENDED",
        "LAST RUN",
        "LAST VERDICT",
    ];
    let mut table = Table::new(&heading);
    for drill in &drills {
        let part = |key: &str| drill.data.get(key).cloned().unwrap_or_default();
        let status: ChaosDrillStatus = serde_json::from_value(part("status")).unwrap_or_default();
        let last = status.last_schedule_time.map(|time| time.0.to_string());
        let verdict = status.last_verdict.map(|verdict| format!("{verdict:?}"));
        let Ok(spec) = serde_json::from_value::<ChaosDrillSpec>(part("spec")) else {
            table.row([drill.name_any(), "its spec cannot be read".to_owned()]);
            continue;
        };
        table.row([
            drill.name_any(),
            spec.template.spec.fleet,
            format!(
                "{:?} x {}",
                spec.template.spec.fault.kind, spec.template.spec.fault.count
            ),
            spec.schedule,
            spec.time_zone,
            if spec.suspend { "yes" } else { "no" }.to_owned(),
            last.unwrap_or_default(),
            verdict.unwrap_or_default(),
        ]);
    }
    Ok(table.text())
}

/// Creates an experiment from a drill's template, and waits for its end if asked to.
pub async fn run(live: &Live, name: &str, wait: bool) -> anyhow::Result<Answer> {
    let drill = live.get(&watch::drills(), name).await?;
    let spec = drill.data.pointer("/spec/template/spec").cloned();
    let spec = spec.with_context(|| format!("ChaosDrill {name} has no template"))?;
    let now = Timestamp::now();
    // Seconds in the name tell it from the schedule's own, which are named by minutes.
    let run = format!("{name}-manual-{}", now.as_second());
    // No owner: a run by hand is not the schedule's to delete.
    let object = experiment_of(&drill, &run, &now.to_string(), &spec, None);
    let object: DynamicObject = serde_json::from_value(object)?;
    let api = live.ours(&watch::experiments());
    let created = api.create(&PostParams::default(), &object).await;
    created.with_context(|| format!("creating ChaosExperiment {run}"))?;
    if !wait {
        let look = format!("kubectl sluice -n {} report {run}", live.namespace);
        return Ok(Answer::good(format!(
            "chaosexperiment/{run} created; see: {look}\n"
        )));
    }
    let done = await_condition(api, &run, completed())
        .await
        .context("waiting for its end")?;
    let done = done.with_context(|| format!("ChaosExperiment {run} was deleted before its end"))?;
    let part = |key: &str| done.data.get(key).cloned().unwrap_or_default();
    let spec: ChaosExperimentSpec = serde_json::from_value(part("spec"))?;
    let status: ChaosExperimentStatus = serde_json::from_value(part("status"))?;
    Ok(Answer {
        text: report::render(&run, &spec, &status),
        good: status.verdict == Some(Verdict::Passed),
    })
}

/// Over, or gone.
fn completed() -> impl Condition<DynamicObject> {
    |object: Option<&DynamicObject>| {
        let phase =
            object.map(|object| object.data.pointer("/status/phase").and_then(Value::as_str));
        phase.is_none_or(|phase| phase == Some(&format!("{:?}", Phase::Completed)))
    }
}
