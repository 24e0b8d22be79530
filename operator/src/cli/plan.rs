//! `kubectl sluice plan` (effects around pure rendering): the operator's own plan, made here and
//! carried out by nobody.

use super::Output;
use super::live::Live;
use crate::events::describe;
use crate::fleet::observed::SpecView;
use crate::fleet::plan::{Plan, plan as make};
use anyhow::Context as _;
use jiff::Timestamp;
use std::fmt::Write as _;

/// What stands for the operator's default image, which only it knows.
const OPERATORS_IMAGE: &str = "operator-default";

/// The plan for a fleet as it is now.
pub async fn plan(live: &Live, fleet: &str, output: Output) -> anyhow::Result<String> {
    let observed = live.observe(fleet, OPERATORS_IMAGE).await?;
    let plan = make(&observed, Timestamp::now());
    match output {
        Output::Json => {
            let json = serde_json::to_string_pretty(&plan).context("writing the plan as JSON")?;
            Ok(json + "\n")
        }
        Output::Text => {
            let scaled =
                matches!(&observed.fleet.spec, SpecView::Read(spec) if spec.scaling.is_some());
            Ok(render(&plan, scaled))
        }
    }
}

fn render(plan: &Plan, scaled: bool) -> String {
    let mut text = String::new();
    if plan.actions.is_empty() {
        text += "Nothing to do.\n";
    } else {
        text += "Would be done now, in this order:\n";
        for action in &plan.actions {
            let (name, detail) = describe(action);
            let _ = writeln!(text, "  {:<16} {detail}", name.replace('_', " "));
        }
    }
    if !plan.waits.is_empty() {
        text += "\nWaits:\n";
        for wait in &plan.waits {
            let _ = writeln!(text, "  {}: {}", wait.what, wait.why);
        }
    }
    let bad = plan
        .status
        .conditions
        .iter()
        .filter(|c| c.kind == "SpecValid" && c.status == "False");
    for condition in bad {
        let _ = writeln!(text, "\nThe spec is not valid: {}", condition.message);
    }
    if scaled {
        text += "\nScaling is left out: only the operator asks Prometheus.\n";
    }
    text
}
