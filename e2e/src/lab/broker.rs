//! Effects: asks the NATS servers which of them leads the fleet's stream, so that scenarios can take that one away.

use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::SYSTEM;

/// Time limit of one question to a server's monitoring port.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Name and node of the pod whose server leads stream `stream`.
///
/// # Errors
/// When no server answers, or none of them knows a leader.
pub async fn leader(client: &Client, stream: &str) -> Result<(String, String)> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let all = pods
        .list(&ListParams::default().labels("app.kubernetes.io/name=sluice-nats"))
        .await?
        .items;
    let http = reqwest::Client::builder().timeout(ASK_LIMIT).build()?;
    for pod in &all {
        let Some(address) = pod.status.as_ref().and_then(|s| s.pod_ip.clone()) else {
            continue;
        };
        let url = format!("http://{address}:8222/jsz?accounts=true&streams=true");
        let Ok(answer) = http.get(url).send().await else {
            continue;
        };
        let answer: Value = answer.json().await?;
        if let Some(name) = stream_leader(&answer, stream) {
            let node = all
                .iter()
                .find(|p| p.name_any() == name)
                .and_then(|p| p.spec.as_ref()?.node_name.clone())
                .ok_or_else(|| anyhow!("the stream's leader {name} is not one of the NATS pods"))?;
            return Ok((name, node));
        }
    }
    Err(anyhow!(
        "none of {} NATS servers knows a leader of stream {stream}",
        all.len()
    ))
}

fn stream_leader(jsz: &Value, stream: &str) -> Option<String> {
    jsz["account_details"]
        .as_array()?
        .iter()
        .filter_map(|account| account["stream_detail"].as_array())
        .flatten()
        .find(|detail| detail["name"] == stream)
        .and_then(|detail| detail["cluster"]["leader"].as_str())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_leader_is_read_from_the_monitoring_answer() {
        let answer = json!({ "account_details": [{ "stream_detail": [
            { "name": "OTHER", "cluster": { "leader": "a" } },
            { "name": "NOTIFY", "cluster": { "leader": "sluice-nats-1" } } ] }] });
        assert_eq!(
            super::stream_leader(&answer, "NOTIFY").as_deref(),
            Some("sluice-nats-1")
        );
        assert_eq!(super::stream_leader(&answer, "NONE"), None);
    }
}
