//! Short stories that become an `Observed`, and plans told shortly. Times are seconds from now.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_crds::{NotifyGatewaySpec, NotifyGatewayStatus};
use sluice_operator::fleet::observed::{
    ChildView, Defaults, DrainMark, DrainReason, FleetView, GatewayState, GatewayView,
    MetricOutcome, MetricSample, MetricsView, NodeView, Observed, PodPhase, PodView,
    Recommendation, RevisionData, RevisionView, ScaleMemory, ServingState, SpecView,
};
use sluice_operator::fleet::plan::{Action, Plan};
use sluice_operator::fleet::render;
use sluice_operator::fleet::revision::Template;
use sluice_operator::fleet::tuning::Tuning;
use std::collections::BTreeMap;

/// The moment every story plays at.
pub const NOW: &str = "2026-01-01T12:00:00Z";

/// What is seen, shortly.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Story {
    /// What the case is about.
    pub why: String,
    /// Fields of the spec, on top of a small valid one.
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub unreadable: Option<String>,
    #[serde(default)]
    pub deleted: bool,
    /// Whether Services, PDB, Secret and revision exist.
    #[serde(default = "yes")]
    pub set_up: bool,
    /// Spec fields of the revision that was stable before.
    #[serde(default)]
    pub before: Option<Value>,
    #[serde(default)]
    pub pods: Vec<Pod>,
    #[serde(default = "three_zones")]
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub metrics: Option<Metrics>,
    #[serde(default)]
    pub asked_for: Vec<(i64, u32)>,
    #[serde(default)]
    pub watched_for: Option<i64>,
    /// Whether the plan is told with whole objects.
    #[serde(default)]
    pub full: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod {
    slot: u32,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    zone: String,
    /// Clients its gateway speaks of; it says nothing without them.
    #[serde(default)]
    clients: Option<u64>,
    /// Seconds since it spoke.
    #[serde(default)]
    seen: i64,
    #[serde(default)]
    draining_at: Option<u64>,
    #[serde(default)]
    told_deadline: Option<i64>,
    #[serde(default)]
    pending: bool,
    #[serde(default)]
    unready: bool,
    #[serde(default)]
    failed: bool,
    /// Of the revision before.
    #[serde(default)]
    old: bool,
    #[serde(default)]
    closed: bool,
    /// Chosen to go: why, and seconds until the deadline.
    #[serde(default)]
    goes: Option<(DrainReason, i64)>,
    /// Seconds until it is killed.
    #[serde(default)]
    killed_in: Option<i64>,
    #[serde(default)]
    unschedulable_for: Option<i64>,
    /// What its gateway calls its thresholds; those of the spec when nothing is said, none for null.
    #[serde(default = "wanted")]
    limits: Option<String>,
}

// A default has the type of its field.
#[allow(clippy::unnecessary_wraps)]
fn wanted() -> Option<String> {
    Some("wanted".to_owned())
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    name: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    cordoned: bool,
    #[serde(default)]
    taint: Option<String>,
    #[serde(default)]
    lost: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    #[serde(default)]
    age: i64,
    values: BTreeMap<String, MetricOutcome>,
}

fn three_zones() -> Vec<Node> {
    serde_yaml::from_str("[{name: n1, zone: a}, {name: n2, zone: b}, {name: n3, zone: c}]").unwrap()
}

/// A small valid spec with `change` on top.
pub fn spec(change: &Value) -> NotifyGatewaySpec {
    let mut spec = json!({
        "broker": {"type": "nats", "nats": {"url": "nats://broker:4222"}},
        "auth": {"hmacSecretRef": {"name": "login"}},
    });
    if change.is_object() {
        render::patch::merge(&mut spec, change);
    }
    serde_json::from_value(spec).unwrap()
}

/// The view of a revision.
pub fn revision(fleet: &str, spec: &NotifyGatewaySpec, number: i64) -> RevisionView {
    let template = Template::of(spec);
    let hash = template.hash();
    RevisionView {
        name: format!("{fleet}-{hash}"),
        hash,
        number,
        data: Some(RevisionData {
            image: spec
                .image
                .clone()
                .unwrap_or_else(|| "gateway:default".to_owned()),
            template,
        }),
    }
}

impl Story {
    /// Tells it at length.
    pub fn observed(&self) -> (Observed, Timestamp) {
        let now: Timestamp = NOW.parse().unwrap();
        let spec = spec(&self.spec);
        let old = self
            .before
            .as_ref()
            .map(|change| revision("news", &self::spec(change), 1));
        let current = revision("news", &spec, 2);
        let stable = old
            .as_ref()
            .or(self.set_up.then_some(&current))
            .map(|view| view.hash.clone());
        let fleet = FleetView {
            name: "news".to_owned(),
            namespace: "default".to_owned(),
            uid: "fleet-uid".to_owned(),
            generation: 7,
            deleted: self.deleted.then_some(now),
            spec: self.unreadable.clone().map_or_else(
                || SpecView::Read(Box::new(spec.clone())),
                SpecView::Unreadable,
            ),
            status: NotifyGatewayStatus {
                stable_revision: stable,
                ..NotifyGatewayStatus::default()
            },
        };
        let children = render::children(&fleet, &spec)
            .into_iter()
            .map(|(kind, _, object)| ChildView { kind, object });
        let hashes = (
            current.hash.clone(),
            old.as_ref()
                .map_or_else(String::new, |view| view.hash.clone()),
        );
        let observed = Observed {
            children: if self.set_up {
                children.collect()
            } else {
                Vec::new()
            },
            secret_present: self.set_up,
            revisions: old
                .into_iter()
                .chain(self.set_up.then_some(current))
                .collect(),
            defaults: Defaults {
                gateway_image: "gateway:default".to_owned(),
            },
            pods: self
                .pods
                .iter()
                .map(|pod| pod.view(now, &hashes, &Tuning::of(&spec).generation()))
                .collect(),
            nodes: self.nodes.iter().map(Node::view).collect(),
            metrics: self.metrics.as_ref().map(|metrics| metrics.view(now)),
            scale_memory: ScaleMemory {
                since: self.watched_for.map(|seconds| at(now, -seconds)),
                scaled_at: None,
                recommendations: self
                    .asked_for
                    .iter()
                    .map(|(ago, replicas)| Recommendation {
                        at: at(now, -ago),
                        replicas: *replicas,
                    })
                    .collect(),
            },
            drill: None,
            fleet,
        };
        (observed, now)
    }
}

fn at(now: Timestamp, seconds: i64) -> Timestamp {
    now + SignedDuration::from_secs(seconds)
}

impl Pod {
    fn view(&self, now: Timestamp, (current, old): &(String, String), tuned: &str) -> PodView {
        let running = !self.pending && !self.failed;
        let gateway = self
            .clients
            .filter(|_| running)
            .map_or(GatewayView::Unseen, |connections| {
                GatewayView::Seen(GatewayState {
                    at: at(now, -self.seen),
                    boot_id: "boot".to_owned(),
                    state: if self.draining_at.is_some() {
                        ServingState::Draining
                    } else {
                        ServingState::Serving
                    },
                    connections,
                    moved: 0,
                    rate_milli: self.draining_at.unwrap_or(0),
                    deadline: self.told_deadline.map(|seconds| at(now, seconds)),
                    limits: self.limits.as_ref().map(|name| {
                        let current = name == "wanted";
                        if current { tuned } else { name }.to_owned()
                    }),
                })
            });
        PodView {
            name: format!("news-{}", self.slot),
            uid: format!("uid-{}", self.slot),
            resource_version: format!("{}", 100 + self.slot),
            created: at(now, -3600),
            slot: Some(self.slot),
            revision: if self.old {
                old.clone()
            } else {
                current.clone()
            },
            zone: self.zone.clone(),
            node: self.node.clone(),
            phase: match (self.failed, running) {
                (true, _) => PodPhase::Failed,
                (_, true) => PodPhase::Running,
                _ => PodPhase::Pending,
            },
            container_running: running,
            ready: running && !self.unready,
            unschedulable_since: self.unschedulable_for.map(|seconds| at(now, -seconds)),
            killed_at: self.killed_in.map(|seconds| at(now, seconds)),
            accepting: self.goes.is_none() && !self.closed,
            drain: self.goes.map(|(reason, seconds)| DrainMark {
                reason,
                since: at(now, seconds - 60),
                deadline: at(now, seconds),
            }),
            gateway,
        }
    }
}

impl Node {
    /// At length.
    pub fn view(&self) -> NodeView {
        NodeView {
            name: self.name.clone(),
            labels: self
                .zone
                .iter()
                .map(|zone| ("topology.kubernetes.io/zone".to_owned(), zone.clone()))
                .collect(),
            cordoned: self.cordoned,
            taints: self
                .taint
                .iter()
                .map(|key| Taint {
                    key: key.clone(),
                    effect: "NoSchedule".to_owned(),
                    ..Taint::default()
                })
                .collect(),
            ready: !self.lost,
        }
    }
}

impl Metrics {
    fn view(&self, now: Timestamp) -> MetricsView {
        MetricsView {
            at: at(now, -self.age),
            samples: self
                .values
                .iter()
                .map(|(name, outcome)| MetricSample {
                    name: name.clone(),
                    outcome: outcome.clone(),
                })
                .collect(),
        }
    }
}

/// Whether deleting the pod as seen takes nobody's connection before time.
pub fn may_be_deleted(pod: &PodView, now: Timestamp) -> bool {
    let empty = matches!(&pod.gateway, GatewayView::Seen(state) if state.connections == 0 && state.state != ServingState::Serving);
    !pod.container_running
        || pod.drain.is_some()
            && (empty || pod.drain.as_ref().is_some_and(|mark| mark.deadline <= now))
}

/// A plan in few words, or in all.
pub fn short(plan: &Plan, full: bool) -> Value {
    let now: Timestamp = NOW.parse().unwrap();
    let seconds = |then: Timestamp| format!("{}s", then.duration_since(now).as_secs());
    let actions: Vec<Value> = plan
        .actions
        .iter()
        .map(|action| {
            if full {
                return serde_json::to_value(action).unwrap();
            }
            Value::from(match action {
                Action::CreateSecret { name, .. } => format!("create secret {name}"),
                Action::EnsureChild { kind, name, .. } => format!("apply {kind:?} {name}"),
                Action::CreateRevision { object } => format!(
                    "create revision {} number {}",
                    object.metadata.name.as_deref().unwrap_or("?"),
                    object.revision
                ),
                Action::CancelDrain { pod } => format!("take back {}", pod.name),
                Action::SetAccepting { pod, accepting } => {
                    format!("{} {}", if *accepting { "open" } else { "close" }, pod.name)
                }
                Action::CreatePod {
                    slot,
                    zone,
                    revision,
                    ..
                } => format!("create pod {slot} in zone {zone:?} of {revision}"),
                Action::MarkDraining { pod, mark } => format!(
                    "mark {} for {} until {}",
                    pod.name,
                    mark.reason.as_str(),
                    seconds(mark.deadline)
                ),
                Action::StartDrain {
                    pod,
                    reason,
                    rate_milli,
                    deadline,
                } => {
                    format!(
                        "drain {} for {} at {rate_milli}/1000 per second until {}",
                        pod.name,
                        reason.as_str(),
                        seconds(*deadline)
                    )
                }
                Action::SetLimits {
                    pod, generation, ..
                } => format!("tell {} limits {generation}", pod.name),
                Action::DeletePod { pod, reason } => format!("delete {}: {reason:?}", pod.name),
                Action::DeleteRevision { name } => format!("delete revision {name}"),
                Action::SetReplicas { from, to } => format!("scale {from} to {to}"),
            })
        })
        .collect();
    let conditions: Vec<Value> = plan
        .status
        .conditions
        .iter()
        .map(|condition| {
            Value::from(format!(
                "{}={} {}: {}",
                condition.kind, condition.status, condition.reason, condition.message
            ))
        })
        .collect();
    let status = &plan.status;
    json!({
        "actions": actions,
        "waits": plan.waits.iter().map(|wait| format!("{} waits for {}", wait.what, wait.why)).collect::<Vec<_>>(),
        "events": plan.events.iter().map(|event| format!("{}: {}", event.reason, event.note)).collect::<Vec<_>>(),
        "status": format!(
            "replicas {} ready {} draining {} connections {} budget {} current {} stable {}",
            status.replicas, status.ready_replicas, status.draining_replicas, status.connections, status.reconnect_budget,
            status.current_revision.as_deref().unwrap_or("-"), status.stable_revision.as_deref().unwrap_or("-"),
        ),
        "conditions": conditions,
        "requeueAfterMs": plan.requeue_after_ms,
        "recommendation": plan.recommendation.map(|recommendation| recommendation.replicas),
    })
}
