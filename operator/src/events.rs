//! What the operator reports (effects): each fact is a log line, a metric and, where it helps a
//! person, a Kubernetes Event. Label values are from small fixed sets, never names of objects.

use crate::fleet::plan::{Action, Plan, PlannedEvent};
use crate::lease::Term;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use std::sync::Mutex;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Reports facts. One per process.
pub struct Facts {
    recorder: Option<Recorder>,
    registry: Mutex<Registry>,
    metrics: Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Act {
    action: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: String,
}

struct Metrics {
    leader: Gauge,
    terms: Counter,
    lease_failures: Counter,
    fleets: Gauge,
    reconciles: Family<Reconcile, Counter>,
    reconcile_seconds: Family<Controller, Histogram>,
    actions: Family<Act, Counter>,
    unreachable: Counter,
    queries: Family<Outcome, Counter>,
    status_writes: Counter,
    experiments: Family<VerdictLabel, Counter>,
    drill_runs: Counter,
}

/// Upper bounds of reconcile times, seconds: one write takes milliseconds, a timed-out call seconds.
const RECONCILE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

impl Metrics {
    fn new(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(RECONCILE_BUCKETS);
        let metrics = Self {
            leader: Gauge::default(),
            terms: Counter::default(),
            lease_failures: Counter::default(),
            fleets: Gauge::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(histogram),
            actions: Family::default(),
            unreachable: Counter::default(),
            queries: Family::default(),
            status_writes: Counter::default(),
            experiments: Family::default(),
            drill_runs: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("sluice_operator");
        let m = &metrics;
        registry.register("leader", "1 while this process leads", m.leader.clone());
        registry.register("terms", "Times this process began to lead", m.terms.clone());
        registry.register(
            "lease_failures",
            "Requests for the Lease without an answer",
            m.lease_failures.clone(),
        );
        registry.register("fleets", "NotifyGateways that exist", m.fleets.clone());
        registry.register("reconciles", "Reconciles by result", m.reconciles.clone());
        registry.register(
            "reconcile_seconds",
            "Time of one reconcile",
            m.reconcile_seconds.clone(),
        );
        registry.register("actions", "Planned actions by result", m.actions.clone());
        registry.register(
            "gateways_unreachable",
            "Admin calls that gave no usable answer",
            m.unreachable.clone(),
        );
        registry.register("queries", "PromQL queries by result", m.queries.clone());
        registry.register("status_writes", "Statuses written", m.status_writes.clone());
        registry.register(
            "experiments",
            "Experiments ended, by verdict",
            m.experiments.clone(),
        );
        registry.register(
            "drill_runs",
            "Experiments created from drills",
            m.drill_runs.clone(),
        );
        metrics
    }
}

impl Facts {
    /// Reports to the log, `/metrics` and, given a client, Kubernetes Events. `instance` is the
    /// pod's name.
    pub fn new(client: Option<Client>, instance: &str) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let reporter = Reporter {
            controller: "sluice.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: client.map(|client| Recorder::new(client, reporter)),
            registry: Mutex::new(registry),
            metrics,
        }
    }

    /// Every metric in OpenMetrics text.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail, and a poisoned lock only means a panic elsewhere.
        if let Ok(registry) = self.registry.lock() {
            let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        }
        text
    }

    /// This process leads now.
    pub fn leading(&self, term: &Term) {
        self.metrics.leader.set(1);
        self.metrics.terms.inc();
        info!(
            lease = term.lease,
            transitions = term.transitions,
            "leading"
        );
    }

    /// This process leads no longer.
    pub fn not_leading(&self, why: &str) {
        self.metrics.leader.set(0);
        info!(why, "not leading any more");
    }

    /// A request for the Lease failed.
    pub fn lease_failed(&self, name: &str, why: &str) {
        self.metrics.lease_failures.inc();
        warn!(lease = name, why, "no answer about the lease");
    }

    /// A reconcile ended.
    pub fn reconciled(
        &self,
        controller: &'static str,
        object: &str,
        took: Duration,
        failure: Option<&str>,
    ) {
        let result = if failure.is_some() { "failed" } else { "ok" };
        let labels = Reconcile { controller, result };
        self.metrics.reconciles.get_or_create(&labels).inc();
        self.metrics
            .reconcile_seconds
            .get_or_create(&Controller { controller })
            .observe(took.as_secs_f64());
        if let Some(why) = failure {
            warn!(
                controller,
                object, why, "reconcile failed, will be tried again"
            );
        } else {
            debug!(controller, object, ?took, "reconciled");
        }
    }

    /// A watch or the queue behind a controller reported an error; it goes on by itself.
    pub fn watch_failed(&self, controller: &'static str, why: &str) {
        warn!(controller, why, "watching failed, will be tried again");
    }

    /// An object cannot be read.
    pub fn unreadable(&self, kind: &'static str, object: &str, why: &str) {
        error!(kind, object, why, "object cannot be read and is left alone");
    }

    /// How many fleets there are.
    pub fn fleets(&self, count: usize) {
        self.metrics
            .fleets
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// What a plan waits for.
    pub fn waits(&self, fleet: &str, plan: &Plan) {
        for wait in &plan.waits {
            debug!(fleet, what = wait.what, why = wait.why, "waits");
        }
    }

    /// An action of a plan was carried out, or not.
    pub fn acted(&self, fleet: &str, action: &Action, failure: Option<&str>) {
        let (name, detail) = describe(action);
        let result = if failure.is_some() { "failed" } else { "ok" };
        let labels = Act {
            action: name,
            result,
        };
        self.metrics.actions.get_or_create(&labels).inc();
        match failure {
            None => info!(fleet, action = name, detail, "done"),
            Some(why) => warn!(fleet, action = name, detail, why, "not done"),
        }
    }

    /// A gateway gave no usable answer.
    pub fn unreachable(&self, fleet: &str, pod: &str, why: &str) {
        self.metrics.unreachable.inc();
        debug!(fleet, pod, why, "gateway gave no answer");
    }

    /// A PromQL query was answered, or not.
    pub fn queried(&self, object: &str, query: &str, failure: Option<&str>) {
        let result = if failure.is_some() { "failed" } else { "ok" };
        self.metrics
            .queries
            .get_or_create(&Outcome { result })
            .inc();
        // A condition or a report says so to people; this would repeat it every few seconds.
        if let Some(why) = failure {
            debug!(object, query, why, "query failed");
        }
    }

    /// A status was written.
    pub fn status_written(&self) {
        self.metrics.status_writes.inc();
    }

    /// A drill created an experiment.
    pub fn drill_ran(&self, drill: &str, experiment: &str) {
        self.metrics.drill_runs.inc();
        info!(drill, experiment, "experiment created");
    }

    /// An experiment went on.
    pub fn experiment(&self, experiment: &str, phase: &str, message: &str) {
        info!(experiment, phase, message, "experiment");
    }

    /// An experiment is over.
    pub fn verdict(&self, experiment: &str, verdict: &str, message: &str) {
        let labels = VerdictLabel {
            verdict: verdict.to_owned(),
        };
        self.metrics.experiments.get_or_create(&labels).inc();
        info!(experiment, verdict, message, "experiment is over");
    }

    /// Tells people through a Kubernetes Event. Failing to is only logged: the status says the same.
    pub async fn tell(&self, object: &ObjectReference, event: &PlannedEvent) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        let event = Event {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason.clone(),
            note: Some(event.note.clone()),
            action: action(&event.note),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, object).await {
            let reason = &event.reason;
            warn!(%error, reason, "event could not be written");
        }
    }
}

/// The recorder takes events that differ only in their note for one and keeps the first note, so
/// three pods created would be one. What is done is told apart by a hash of the note.
fn action(note: &str) -> String {
    let digest = Sha256::digest(note.as_bytes());
    format!(
        "Reconcile-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    )
}

/// Name and object of an action, for metrics and the log.
pub fn describe(action: &Action) -> (&'static str, String) {
    match action {
        Action::CreateSecret { name, .. } => ("create_secret", name.clone()),
        Action::EnsureChild { kind, name, .. } => ("ensure_child", format!("{kind:?} {name}")),
        Action::CreateRevision { object } => (
            "create_revision",
            object.metadata.name.clone().unwrap_or_default(),
        ),
        Action::CancelDrain { pod } => ("cancel_drain", pod.name.clone()),
        Action::SetAccepting { pod, accepting } => {
            ("set_accepting", format!("{} {accepting}", pod.name))
        }
        Action::CreatePod {
            slot,
            zone,
            revision,
            ..
        } => ("create_pod", format!("slot {slot} {zone} {revision}")),
        Action::MarkDraining { pod, mark } => (
            "mark_draining",
            format!("{} {}", pod.name, mark.reason.as_str()),
        ),
        Action::StartDrain {
            pod, rate_milli, ..
        } => (
            "start_drain",
            format!("{} at {rate_milli} milli/s", pod.name),
        ),
        Action::SetLimits {
            pod, generation, ..
        } => ("set_limits", format!("{} {generation}", pod.name)),
        Action::DeletePod { pod, reason } => ("delete_pod", format!("{} {reason:?}", pod.name)),
        Action::DeleteRevision { name } => ("delete_revision", name.clone()),
        Action::SetReplicas { from, to } => ("set_replicas", format!("{from} to {to}")),
    }
}
