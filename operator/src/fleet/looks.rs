//! What several sources say together (pure): connections from Prometheus and the gateways, and the
//! experiment that is running.

use super::observed::{GatewayView, MetricOutcome, PodView};
use crate::limits::GATEWAY_STALE_AFTER;
use crate::prometheus::{QueryError, Series, milli};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use std::collections::HashMap;
use std::sync::Arc;

/// No sample is stale before this: Prometheus scrapes every 15 s by habit.
pub const LEAST_STALE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// Clients of the whole fleet: Prometheus' fresh samples of pods that exist, and for a ready pod
/// that it lacks the gateway's own fresh answer. A pod nobody knows the number of makes the total
/// unknown, as does a Prometheus that knows nothing at all.
pub fn connections(
    values: &Result<Vec<Series>, QueryError>,
    times: &Result<Vec<Series>, QueryError>,
    pods: &[PodView],
    now: Timestamp,
    max_age: SignedDuration,
) -> MetricOutcome {
    let (values, times) = match (values, times) {
        (Ok(values), Ok(times)) => (values, by_pod(times)),
        (Err(error), _) | (_, Err(error)) => return MetricOutcome::Failed(error.0.clone()),
    };
    let known = by_pod(values);
    if known.len() != values.len() || values.iter().any(|one| milli(one.value).is_none()) {
        return MetricOutcome::Senseless;
    }
    let fresh = |pod: &str| {
        let sampled = times.get(pod)?;
        let at = Timestamp::from_millisecond((sampled * 1000.0) as i64).ok()?;
        (now.duration_since(at) <= max_age).then_some(*known.get(pod)?)
    };
    let mut total = 0.0;
    let mut any = false;
    for pod in pods {
        match (fresh(&pod.name), direct(pod, now)) {
            (Some(value), _) => {
                total += value;
                any = true;
            }
            (None, Some(value)) => total += value as f64,
            (None, None) if !pod.ready || pod.killed_at.is_some() => {}
            (None, None) if known.contains_key(pod.name.as_str()) => return MetricOutcome::Stale,
            (None, None) => return MetricOutcome::NoData,
        }
    }
    match milli(total) {
        _ if !any && known.is_empty() => MetricOutcome::NoData,
        _ if !any => MetricOutcome::Stale,
        Some(total) => MetricOutcome::Value(total),
        None => MetricOutcome::Senseless,
    }
}

fn by_pod(series: &[Series]) -> HashMap<&str, f64> {
    series
        .iter()
        .filter_map(|one| Some((one.labels.get("pod")?.as_str(), one.value)))
        .collect()
}

fn direct(pod: &PodView, now: Timestamp) -> Option<u64> {
    match &pod.gateway {
        GatewayView::Seen(state) if now.duration_since(state.at) <= GATEWAY_STALE_AFTER => {
            Some(state.connections)
        }
        _ => None,
    }
}

/// Name of the experiment that is running against a fleet.
pub fn running_drill(
    experiments: &[Arc<DynamicObject>],
    namespace: &str,
    fleet: &str,
) -> Option<String> {
    let text = |object: &DynamicObject, part: &str, field: &str| {
        let value = object.data.get(part)?.get(field)?.as_str()?;
        Some(value.to_owned())
    };
    experiments
        .iter()
        .filter(|one| one.namespace().as_deref() == Some(namespace))
        .filter(|one| text(one, "spec", "fleet").as_deref() == Some(fleet))
        .filter(|one| {
            let phase = text(one, "status", "phase");
            !matches!(phase.as_deref(), None | Some("Pending" | "Completed"))
        })
        .map(|one| one.name_any())
        .min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::connections;
    use crate::fleet::observed::{
        GatewayState, GatewayView, MetricOutcome, PodPhase, PodView, ServingState,
    };
    use crate::prometheus::{QueryError, Series};
    use jiff::{SignedDuration, Timestamp};
    use std::collections::HashMap;

    const NOW: i64 = 1_800_000_000;

    /// Pods as (name, seconds since its gateway answered, its answer), samples as (pod, value, age).
    fn total(pods: &[(&str, Option<(i64, u64)>)], samples: &[(&str, f64, i64)]) -> MetricOutcome {
        let pods: Vec<_> = pods.iter().map(|(name, said)| pod(name, *said)).collect();
        let values = samples
            .iter()
            .map(|(pod, value, _)| series(pod, *value))
            .collect();
        let times = samples
            .iter()
            .map(|(pod, _, age)| series(pod, (NOW - age) as f64))
            .collect();
        let max_age = SignedDuration::from_secs(30);
        connections(&Ok(values), &Ok(times), &pods, at(0), max_age)
    }

    #[test]
    fn every_ready_pod_counts_or_the_total_is_unknown() {
        let silent = |name| (name, None);
        let both = [silent("a"), silent("b")];
        assert_eq!(
            total(&both, &[("a", 5.0, 1), ("b", 7.0, 2)]),
            MetricOutcome::Value(12_000)
        );
        assert_eq!(total(&both, &[("a", 5.0, 1)]), MetricOutcome::NoData);
        assert_eq!(
            total(&both, &[("a", 5.0, 1), ("b", 7.0, 31)]),
            MetricOutcome::Stale
        );
        assert_eq!(total(&both, &[]), MetricOutcome::NoData);
    }

    #[test]
    fn a_gateways_own_answer_stands_in_for_a_sample() {
        let pods = [("a", None), ("b", Some((3, 9)))];
        assert_eq!(total(&pods, &[("a", 5.0, 1)]), MetricOutcome::Value(14_000));
        let old = [("a", None), ("b", Some((16, 9)))];
        assert_eq!(total(&old, &[("a", 5.0, 1)]), MetricOutcome::NoData);
    }

    #[test]
    fn gateways_alone_are_no_prometheus() {
        assert_eq!(total(&[("a", Some((1, 5)))], &[]), MetricOutcome::NoData);
        assert_eq!(
            total(&[("a", Some((1, 5)))], &[("a", 5.0, 99)]),
            MetricOutcome::Stale
        );
    }

    #[test]
    fn pods_that_are_gone_do_not_count() {
        let samples = [("a", 5.0, 1), ("gone", 70.0, 1)];
        assert_eq!(total(&[("a", None)], &samples), MetricOutcome::Value(5000));
    }

    #[test]
    fn senseless_and_failed_are_said() {
        assert_eq!(
            total(&[("a", None)], &[("a", f64::NAN, 1)]),
            MetricOutcome::Senseless
        );
        assert_eq!(
            total(&[("a", None)], &[("a", 1.0, 1), ("a", 2.0, 1)]),
            MetricOutcome::Senseless
        );
        let failed = Err(QueryError("no".into()));
        assert_eq!(
            connections(&failed, &Ok(vec![]), &[], at(0), SignedDuration::ZERO),
            MetricOutcome::Failed("no".into())
        );
    }

    fn at(age: i64) -> Timestamp {
        Timestamp::from_second(NOW - age).unwrap()
    }

    fn series(pod: &str, value: f64) -> Series {
        Series {
            labels: HashMap::from([("pod".to_owned(), pod.to_owned())]),
            value,
            at: at(0),
        }
    }

    fn pod(name: &str, said: Option<(i64, u64)>) -> PodView {
        let gateway = said.map_or(GatewayView::Unseen, |(age, connections)| {
            GatewayView::Seen(GatewayState {
                at: at(age),
                boot_id: String::new(),
                state: ServingState::Serving,
                connections,
                moved: 0,
                rate_milli: 0,
                deadline: None,
                limits: None,
            })
        });
        PodView {
            name: name.to_owned(),
            uid: name.to_owned(),
            resource_version: "1".to_owned(),
            created: at(1000),
            slot: Some(0),
            revision: "r".to_owned(),
            zone: String::new(),
            node: None,
            phase: PodPhase::Running,
            container_running: true,
            ready: true,
            unschedulable_since: None,
            killed_at: None,
            accepting: true,
            drain: None,
            gateway,
        }
    }
}
