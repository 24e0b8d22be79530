//! Looks at a fleet (effects): caches for what is watched, the admin API for what gateways do, and
//! Prometheus at the scaler's own pace. What gave no answer stays as it was and ages.

use super::looks;
use super::memory::{Memory, Polled};
use super::observed::{
    CONNECTIONS_METRIC, GatewayView, MetricSample, MetricsView, Observed, PodPhase, PodView,
    SpecView,
};
use super::views;
use crate::admin::Endpoint;
use crate::limits::{ADMIN_POLL, ADMIN_POLL_DRAINING, STALE_LOOKS};
use crate::prometheus::{QueryError, Series, Single};
use crate::watch::of_fleet;
use crate::world::World;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use sluice_crds::NotifyGatewaySpec;
use sluice_crds::names;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Gateways of one fleet asked at the same time.
const AT_ONCE: usize = 16;

/// Timers fire a little late and a little early; a poll that is due within this is due.
const SLACK: Duration = Duration::from_millis(100);

/// What was observed, and what is needed to act on it but is no input of the plan.
pub struct Observation {
    /// The input of the plan.
    pub observed: Observed,
    /// Where each pod's gateway is, by pod UID.
    pub gateways: HashMap<String, Endpoint>,
    /// Time until gateways should be asked again.
    pub poll: Duration,
}

/// Looks at a fleet.
pub async fn observe(world: &World, object: &DynamicObject) -> Observation {
    let fleet = views::fleet(object);
    let (namespace, name) = (fleet.namespace.as_str(), fleet.name.as_str());
    let stores = &world.stores;
    let memory = world.memories.of(namespace, name);
    let pods: Vec<_> = of_fleet(&stores.pods, namespace, name)
        .into_iter()
        .filter(|pod| views::owned(&pod.metadata, &fleet.uid))
        .collect();
    let secret = of_fleet(&stores.secrets, namespace, name)
        .into_iter()
        .find(|secret| secret.metadata.name == Some(names::fleet_secret(name)));
    let key = secret
        .as_ref()
        .and_then(|secret| views::secret_key(secret, "admin"))
        .map(Arc::from);
    let gateways = key.map(|key| endpoints(&pods, &key)).unwrap_or_default();

    let mut views: Vec<_> = pods.iter().map(|pod| views::pod(pod)).collect();
    views.sort_by(|a, b| (a.slot, &a.name).cmp(&(b.slot, &b.name)));
    let poll = ask_gateways(world, &memory, name, &mut views, &gateways).await;
    if let SpecView::Read(spec) = &fleet.spec {
        ask_prometheus(world, &memory, (namespace, name), spec, &views).await;
    }

    let children = of_fleet(&stores.services, namespace, name)
        .iter()
        .filter(|service| views::owned(&service.metadata, &fleet.uid))
        .filter_map(|service| views::service(name, service))
        .chain(
            of_fleet(&stores.budgets, namespace, name)
                .iter()
                .filter(|budget| views::owned(&budget.metadata, &fleet.uid))
                .filter_map(|budget| views::budget(name, budget)),
        )
        .collect();
    let mut revisions: Vec<_> = of_fleet(&stores.revisions, namespace, name)
        .iter()
        .filter(|revision| views::owned(&revision.metadata, &fleet.uid))
        .map(|revision| views::revision(revision))
        .collect();
    revisions.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    let mut nodes: Vec<_> = stores
        .nodes
        .state()
        .iter()
        .map(|node| views::node(node))
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));

    let remembered = memory.lock();
    let observed = Observed {
        drill: looks::running_drill(&stores.experiments.state(), namespace, name),
        defaults: world.defaults.clone(),
        pods: views,
        nodes,
        children,
        secret_present: secret.is_some_and(|secret| views::secret_complete(&secret)),
        revisions,
        metrics: remembered.metrics.as_ref().map(|(view, _)| view.clone()),
        scale_memory: remembered.scale.clone(),
        fleet,
    };
    Observation {
        observed,
        gateways,
        poll,
    }
}

/// Clients connected, as the gateways last said.
pub fn connections(memory: &Memory) -> u64 {
    let remembered = memory.lock();
    let states = remembered
        .gateways
        .values()
        .filter_map(|polled| polled.state.as_ref());
    states.map(|state| state.connections).sum()
}

fn endpoints(pods: &[Arc<Pod>], key: &Arc<str>) -> HashMap<String, Endpoint> {
    pods.iter()
        .filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
            Some((pod.metadata.uid.clone()?, Endpoint::of_pod(ip, key)?))
        })
        .collect()
}

/// Asks every gateway whose last answer is due for a new one, and adds the answers to the pods.
/// Gives the time until the next are due.
async fn ask_gateways(
    world: &World,
    memory: &Memory,
    fleet: &str,
    pods: &mut [PodView],
    gateways: &HashMap<String, Endpoint>,
) -> Duration {
    let going = |pod: &PodView| pod.drain.is_some() || pod.killed_at.is_some();
    let pause = if pods.iter().any(going) {
        ADMIN_POLL_DRAINING
    } else {
        ADMIN_POLL
    };
    let now = Instant::now();
    let due: Vec<_> = {
        let mut remembered = memory.lock();
        remembered
            .gateways
            .retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        pods.iter()
            .filter(|pod| pod.phase == PodPhase::Running)
            .filter_map(|pod| {
                Some((
                    pod.name.clone(),
                    pod.uid.clone(),
                    gateways.get(&pod.uid)?.clone(),
                ))
            })
            .filter(|(_, uid, _)| {
                let last = remembered.gateways.get(uid);
                last.is_none_or(|last| last.asked + pause <= now + SLACK)
            })
            .collect()
    };
    let answers: Vec<_> = stream::iter(due)
        .map(|(name, uid, at)| async move { (name, uid, world.admin.status(&at).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut remembered = memory.lock();
    for (name, uid, answer) in answers {
        let polled = remembered.gateways.entry(uid).or_insert(Polled {
            state: None,
            asked: now,
        });
        polled.asked = now;
        match answer {
            Ok(state) => polled.state = Some(state),
            Err(error) => world.facts.unreachable(fleet, &name, &error.to_string()),
        }
    }
    for pod in pods {
        let state = remembered
            .gateways
            .get(&pod.uid)
            .and_then(|polled| polled.state.clone());
        pod.gateway = state.map_or(GatewayView::Unseen, GatewayView::Seen);
    }
    pause
}

/// Asks Prometheus for every scaling metric, when it is time to.
async fn ask_prometheus(
    world: &World,
    memory: &Memory,
    (namespace, fleet): (&str, &str),
    spec: &NotifyGatewaySpec,
    pods: &[PodView],
) {
    let Some(scaling) = &spec.scaling else {
        memory.lock().metrics = None;
        return;
    };
    let pause = Duration::from_secs(u64::from(scaling.sync_seconds.unsigned_abs().max(1)));
    let started = Instant::now();
    let last = memory.lock().metrics.as_ref().map(|(_, at)| *at);
    if last.is_some_and(|last| last + pause > started + SLACK) {
        return;
    }
    let max_age = SignedDuration::from_secs(i64::from(scaling.sync_seconds) * STALE_LOOKS)
        .max(looks::LEAST_STALE_AFTER);
    let ask = |query: String| async move {
        let answer = world
            .prometheus
            .query(&scaling.prometheus.url, &query)
            .await;
        let why = answer.as_ref().err().map(QueryError::to_string);
        world.facts.queried(fleet, &query, why.as_deref());
        answer
    };
    let connections = async {
        scaling.connections_per_pod?;
        let selector = format!("sluice_connections{{namespace=\"{namespace}\",fleet=\"{fleet}\"}}");
        let (values, times) =
            futures::join!(ask(selector.clone()), ask(format!("timestamp({selector})")));
        let outcome = looks::connections(&values, &times, pods, Timestamp::now(), max_age);
        Some(MetricSample {
            name: CONNECTIONS_METRIC.to_owned(),
            outcome,
        })
    };
    let queries = scaling.queries.iter().map(|query| async move {
        let answer: Result<Vec<Series>, _> = ask(query.query.clone()).await;
        MetricSample {
            name: query.name.clone(),
            outcome: Single::of(&answer, Timestamp::now(), max_age).metric(),
        }
    });
    let (connections, queries) = futures::join!(connections, join_all(queries));
    let view = MetricsView {
        at: Timestamp::now(),
        samples: connections.into_iter().chain(queries).collect(),
    };
    memory.lock().metrics = Some((view, started));
}
