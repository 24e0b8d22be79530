//! Effects: the checks against a real API server that need no pods: plain client-side apply, defaults, rules and their messages.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::lab::wait::{self, Look};

/// Time until the documentation of a new CRD is published.
const PUBLISHED: Duration = Duration::from_secs(20);

/// Manifests that must be refused; each opens with `# refused: TEXT`, words that the message must have.
const REFUSED: &[(&str, &str)] = &[
    ("two credentials", include_str!("refused/auth-two.yaml")),
    (
        "drain longer than grace",
        include_str!("refused/drain-beyond-grace.yaml"),
    ),
    (
        "memory broker with replicas",
        include_str!("refused/memory-replicas.yaml"),
    ),
    ("undrainable pod", include_str!("refused/undrainable.yaml")),
    ("unknown field", include_str!("refused/unknown-field.yaml")),
    (
        "scaling bounds",
        include_str!("refused/scaling-bounds.yaml"),
    ),
    (
        "breaker that never closes",
        include_str!("refused/breaker-margin.yaml"),
    ),
    (
        "trip after one closed connection",
        include_str!("refused/health-trip.yaml"),
    ),
    (
        "limits that keep a user's clients out",
        include_str!("refused/limits-return.yaml"),
    ),
];

/// Applies the generated CRDs with plain client-side `kubectl apply`, twice: the second one must find nothing to change.
pub async fn crds_apply(lab: &Lab) -> Result<String> {
    let folder = lab.root().join("crds/yaml");
    let folder = folder
        .to_str()
        .context("the repository's path is not UTF-8")?;
    lab.kubectl(&["apply", "-f", folder]).await?;
    lab.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "-f",
        folder,
    ])
    .await?;
    let again = lab.kubectl(&["apply", "-f", folder]).await?;
    let unchanged = again.lines().filter(|l| l.ends_with(" unchanged")).count();
    if unchanged != 3 {
        bail!("a second apply changed something: {again}");
    }
    Ok("3 CRDs".into())
}

/// Every property that a person may set reads well in `kubectl explain`.
pub async fn explains(lab: &Lab) -> Result<String> {
    for path in [
        "notifygateway.spec.reconnectBudget.ratePerSecond",
        "notifygateway.spec.drain",
        "chaosdrill.spec.schedule",
        "chaosexperiment.spec.steadyState.checks",
    ] {
        // The API server publishes a new CRD's documentation a moment after it is established.
        let what = format!("kubectl explain {path}");
        let (text, _) = wait::until(&what, PUBLISHED, || async {
            Ok(Look::Done(lab.kubectl(&["explain", path]).await?))
        })
        .await?;
        if !text.contains("DESCRIPTION:") || text.contains("<empty>") {
            bail!("kubectl explain {path} says nothing: {text}");
        }
    }
    Ok(String::new())
}

/// Bad manifests are refused with a message that says what to do; nothing is stored.
pub async fn refusals(lab: &Lab) -> Result<String> {
    for (name, yaml) in REFUSED {
        let wanted = yaml
            .lines()
            .next()
            .and_then(|l| l.strip_prefix("# refused: "))
            .with_context(|| {
                format!("{name}: the first line does not say what the message must have")
            })?;
        match lab.apply(yaml).await {
            Ok(said) => bail!("{name} was accepted: {said}"),
            Err(error) if format!("{error:#}").contains(wanted) => {}
            Err(error) => bail!("{name}: the message lacks '{wanted}': {error:#}"),
        }
    }
    Ok(format!("{} bad manifests refused", REFUSED.len()))
}

/// The shortest manifest is accepted and the API server fills in the defaults; `/scale` answers.
pub async fn defaults(lab: &Lab) -> Result<String> {
    let said = lab
        .kubectl(&[
            "-n",
            "default",
            "create",
            "--dry-run=server",
            "-o",
            "json",
            "-f",
            lab.root()
                .join("crds/samples/fleet-minimal.yaml")
                .to_str()
                .context("path")?,
        ])
        .await?;
    let object: Value = serde_json::from_str(&said)?;
    let spec = &object["spec"];
    for (path, wanted) in [
        ("/replicas", 3),
        ("/drain/deadlineSeconds", 60),
        ("/reconnectBudget/ratePerSecond", 200),
        ("/heartbeat/clientSeconds", 15),
    ] {
        if spec.pointer(path) != Some(&Value::from(wanted)) {
            bail!(
                "spec{path} is {:?}, not the default {wanted}",
                spec.pointer(path)
            );
        }
    }
    Ok(String::new())
}

/// Takes the CRDs away again, so that the chart can bring its own copies. One after the other: when one of a group goes, the
/// API server sets up the group's storage anew, and the deletion of another that meets it then waits for a minute
/// ("storage is (re)initializing").
pub async fn crds_delete(lab: &Lab) -> Result<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(lab.root().join("crds/yaml"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    for file in files {
        let file = file
            .to_str()
            .context("the repository's path is not UTF-8")?;
        lab.kubectl(&["delete", "--wait", "--timeout=120s", "-f", file])
            .await?;
    }
    Ok(String::new())
}
