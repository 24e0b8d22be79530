//! `kubectl sluice report` (effects around pure rendering).

use super::Output;
use super::live::Live;
use super::table::Table;
use crate::watch;
use anyhow::Context as _;
use sluice_crds::{ChaosExperimentSpec, ChaosExperimentStatus};
use std::fmt::Write as _;

/// The report of an experiment.
pub async fn report(live: &Live, name: &str, output: Output) -> anyhow::Result<String> {
    let object = live.get(&watch::experiments(), name).await?;
    let part = |key: &str| object.data.get(key).cloned().unwrap_or_default();
    if let Output::Json = output {
        let json =
            serde_json::to_string_pretty(&part("status")).context("writing the status as JSON")?;
        return Ok(json + "\n");
    }
    let spec = serde_json::from_value(part("spec")).context("its spec cannot be read")?;
    let status = match part("status") {
        serde_json::Value::Null => ChaosExperimentStatus::default(),
        status => serde_json::from_value(status).context("its status cannot be read")?,
    };
    Ok(render(name, &spec, &status))
}

pub(super) fn render(
    name: &str,
    spec: &ChaosExperimentSpec,
    status: &ChaosExperimentStatus,
) -> String {
    let time = |at: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        at.as_ref()
            .map_or_else(|| "-".to_owned(), |at| at.0.to_string())
    };
    let verdict = status
        .verdict
        .map_or_else(|| "none yet".to_owned(), |verdict| format!("{verdict:?}"));
    let mut text = format!(
        "Experiment   {name}\nFleet        {}\nFault        {:?} x {}\nPhase        {:?}\nVerdict      {verdict}\n\
         Began        {}\nFault at     {}\nEnded        {}\n",
        spec.fleet,
        spec.fault.kind,
        spec.fault.count,
        status.phase,
        time(&status.started_at),
        time(&status.injected_at),
        time(&status.finished_at),
    );
    if let Some(condition) = status.conditions.iter().find(|c| c.type_ == "Complete") {
        let _ = writeln!(text, "Message      {}", condition.message);
    }
    if let Some(report) = &status.report {
        let seconds = report
            .recovery_seconds
            .map_or("-".to_owned(), |s| format!("{s} s"));
        let _ = write!(
            text,
            "Recovery     {seconds}\nPods ready   {} before, {} after\nConnections  {} before, {} after\n",
            report.pods_ready_before,
            report.pods_ready_after,
            report.connections_before,
            report.connections_after,
        );
    }
    if !status.targets.is_empty() {
        let mut table = Table::new(&["TARGET", "UID", "CONFIRMED"]);
        for target in &status.targets {
            let confirmed = if target.confirmed { "yes" } else { "no" };
            table.row([target.pod.clone(), target.uid.clone(), confirmed.to_owned()]);
        }
        text += "\n";
        text += &table.text();
    }
    if !status.checks.is_empty() {
        let mut table = Table::new(&["CHECK", "WHEN", "VALUE", "OK"]);
        for check in &status.checks {
            let ok = if check.ok { "yes" } else { "no" };
            table.row([
                check.name.clone(),
                check.when.clone(),
                check.value.clone(),
                ok.to_owned(),
            ]);
        }
        text += "\n";
        text += &table.text();
    }
    text
}
