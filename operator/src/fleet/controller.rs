//! The controller of fleets (effects), nothing but the pipeline: observe → plan → apply → status.

use super::apply::KubeActuator;
use super::carry::carry_out;
use super::memory::Memory;
use super::observe::{Observation, observe};
use super::plan::{Plan, PlannedEvent, plan};
use super::{status, views};
use crate::drive::drive;
use crate::limits::{EVENT_NOTE_CHARS, FLEET_CONCURRENCY, RETRY_MAX, RETRY_MIN};
use crate::patches;
use crate::watch::{self, Watch};
use crate::world::World;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use sluice_crds::names;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Name in logs and metrics.
const NAME: &str = "fleet";

/// The streams this controller is driven by.
pub struct Watches {
    /// Every `NotifyGateway`.
    pub fleets: Watch<DynamicObject>,
    /// Every pod of a fleet.
    pub pods: Watch<Pod>,
    /// Every node.
    pub nodes: Watch<Node>,
    /// Every Service of a fleet.
    pub services: Watch<Service>,
    /// Every PDB of a fleet.
    pub budgets: Watch<PodDisruptionBudget>,
    /// Every `ControllerRevision` of a fleet.
    pub revisions: Watch<ControllerRevision>,
    /// Every fleet Secret.
    pub secrets: Watch<Secret>,
    /// Fleets whose experiments changed.
    pub nudges: futures::channel::mpsc::Receiver<ObjectRef<DynamicObject>>,
}

/// Looks after all fleets while it is polled.
pub async fn run(world: Arc<World>, watches: Watches) {
    let stores = world.stores.clone();
    let everyone = {
        let fleets = stores.fleets.clone();
        move |_: Node| {
            let all = fleets.state();
            all.iter()
                .map(|fleet| ObjectRef::from_obj_with(fleet.as_ref(), watch::fleets()))
                .collect::<Vec<_>>()
        }
    };
    let config = controller::Config::default().concurrency(FLEET_CONCURRENCY);
    let controller =
        Controller::for_stream_with(watches.fleets, stores.fleets.clone(), watch::fleets())
            .with_config(config)
            .watches_stream(watches.pods, |pod| watch::fleet_of(&pod))
            .watches_stream(watches.services, |service| watch::fleet_of(&service))
            .watches_stream(watches.budgets, |budget| watch::fleet_of(&budget))
            .watches_stream(watches.revisions, |revision| watch::fleet_of(&revision))
            .watches_stream(watches.secrets, |secret| watch::fleet_of(&secret))
            .watches_stream(changed_nodes(watches.nodes), everyone)
            .reconcile_on(watches.nudges);
    drive(NAME, controller, reconcile, world).await;
}

/// Node heartbeats change nothing a plan looks at: passes on only what does.
fn changed_nodes(nodes: Watch<Node>) -> Watch<Node> {
    let mut last = HashMap::new();
    nodes
        .filter(move |node| {
            let pass = match node {
                Ok(node) => {
                    let view = views::node(node);
                    let before = last.insert(node.name_any(), view.clone());
                    before != Some(view) || node.metadata.deletion_timestamp.is_some()
                }
                Err(_) => true,
            };
            std::future::ready(pass)
        })
        .boxed()
}

async fn reconcile(
    object: Arc<DynamicObject>,
    world: Arc<World>,
) -> Result<Action, std::convert::Infallible> {
    world.stores.filled().await;
    let started = Instant::now();
    let observation = observe(&world, &object).await;
    let now = Timestamp::now();
    let plan = plan(&observation.observed, now);
    let fleet = &observation.observed.fleet;
    let memory = world.memories.of(&fleet.namespace, &fleet.name);
    world.facts.waits(&fleet.name, &plan);

    let actuator = KubeActuator::new(&world, &observation);
    let carried = carry_out(&plan, &actuator, &world, &fleet.name).await;
    {
        let mut remembered = memory.lock();
        if let Some(recommendation) = plan.recommendation {
            remembered.scale.remember(recommendation);
        }
        if carried.scaled {
            remembered.scale.scaled(now);
        }
    }
    let written = write_status(&world, &memory, &object, &observation, &plan).await;
    if carried.failure.is_none() && !carried.conflict {
        let reference = object.object_ref(&watch::fleets());
        for event in &plan.events {
            world.facts.tell(&reference, event).await;
        }
    }
    let failure = carried.failure.or(written.err());
    tell_failure(&world, &memory, &object, failure.as_deref()).await;
    let name = format!("{}/{}", fleet.namespace, fleet.name);
    world
        .facts
        .reconciled(NAME, &name, started.elapsed(), failure.as_deref());
    forget_the_gone(&world);
    let again = carried.conflict || failure.is_some();
    Ok(requeue(&memory, &plan, observation.poll, again))
}

/// Tells people of a failure once, not at every try.
async fn tell_failure(world: &World, memory: &Memory, object: &DynamicObject, why: Option<&str>) {
    let before = std::mem::replace(&mut memory.lock().told, why.map(str::to_owned));
    let Some(why) = why.filter(|why| before.as_deref() != Some(why)) else {
        return;
    };
    let event = PlannedEvent {
        warning: true,
        reason: "ReconcileFailed".to_owned(),
        note: why.chars().take(EVENT_NOTE_CHARS).collect(),
    };
    world
        .facts
        .tell(&object.object_ref(&watch::fleets()), &event)
        .await;
}

/// When to look again: soon after trouble, and the later the longer it lasts; but never later than
/// the plan itself asks for, so that one unreachable gateway does not hold up another's drain.
fn requeue(memory: &Memory, plan: &Plan, poll: Duration, again: bool) -> Action {
    let mut remembered = memory.lock();
    remembered.failures = if again {
        remembered.failures.saturating_add(1)
    } else {
        0
    };
    let due = plan
        .requeue_after_ms
        .map_or(poll, |ms| poll.min(Duration::from_millis(ms)));
    if !again {
        return Action::requeue(due);
    }
    let doublings = (remembered.failures - 1).min(16);
    let pause = RETRY_MIN.saturating_mul(1 << doublings).min(RETRY_MAX);
    let limit = plan
        .requeue_after_ms
        .map_or(RETRY_MAX, Duration::from_millis);
    Action::requeue(pause.min(limit).max(RETRY_MIN))
}

async fn write_status(
    world: &World,
    memory: &Memory,
    object: &DynamicObject,
    observation: &Observation,
    plan: &Plan,
) -> Result<(), String> {
    let fleet = &observation.observed.fleet;
    let now = Timestamp::now();
    let last = memory.lock().status_written;
    let Some(next) = status::next(&fleet.status, &plan.status, last, now) else {
        return Ok(());
    };
    let failed = |error: &dyn std::error::Error| format!("writing the status: {error}");
    let new = serde_json::to_value(next).map_err(|error| failed(&error))?;
    let old = object.data.get("status").cloned().unwrap_or(json!(null));
    let patch = patches::status(&old, new, &fleet.uid, None);
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &fleet.namespace, &watch::fleets());
    let how = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&fleet.name, &how, &Patch::Merge(patch))
        .await
    {
        Ok(_) => {
            memory.lock().status_written = Some(now);
            world.facts.status_written();
            Ok(())
        }
        // Gone, or another one of that name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

fn forget_the_gone(world: &World) {
    let fleets = &world.stores.fleets;
    world.facts.fleets(fleets.len());
    world.memories.keep(fleets.len(), |(namespace, name)| {
        let key = ObjectRef::new_with(name, watch::fleets()).within(namespace);
        fleets.get(&key).is_some()
    });
}
