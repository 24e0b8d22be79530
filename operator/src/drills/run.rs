//! The controller of experiments (effects): looks, takes the one step that `experiment` decides, and
//! looks again. A step that ends in a status is taken by compare-and-swap.

use super::experiment::{ExperimentView, Step, When, checked, step};
use super::fault::{Struck, strike};
use super::look::FleetLook;
use super::{checks, drill, experiment};
use crate::drive::drive;
use crate::fleet::plan::PlannedEvent;
use crate::fleet::{observe, views};
use crate::limits::{CHECK_POLL, EXPERIMENT_POLL, RETRY_MIN};
use crate::patches;
use crate::watch::{self, Watch, of_fleet};
use crate::world::World;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use sluice_crds::chaos_experiment::{FaultType, Phase, Target};
use sluice_crds::names::{FINALIZER_REVERT, MANAGER};
use sluice_crds::{ChaosExperimentSpec, ChaosExperimentStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Name in logs and metrics.
const NAME: &str = "experiment";

/// A way to tell another controller that one of its objects needs a look.
pub type Nudge = futures::channel::mpsc::Sender<ObjectRef<DynamicObject>>;

/// Who else is concerned by an experiment: the status of its fleet names it while it runs, the
/// status of its drill says how it ended.
pub struct Nudges {
    /// To the controller of fleets.
    pub fleets: Nudge,
    /// To the controller of drills.
    pub drills: Nudge,
}

/// Drives all experiments while it is polled.
pub async fn run(world: Arc<World>, experiments: Watch<DynamicObject>, nudges: Nudges) {
    let store = world.stores.experiments.clone();
    let nudging = experiments.inspect(move |object| {
        let Ok(object) = object else { return };
        // Full means that many looks are due anyway, and each controller also looks by itself.
        if let Some(fleet) = watch::fleet_of_experiment(object) {
            let _ = nudges.fleets.clone().try_send(fleet);
        }
        if let Some(drill) = drill::drill_of(object) {
            let _ = nudges.drills.clone().try_send(drill);
        }
    });
    let controller = Controller::for_stream_with(nudging, store, watch::experiments());
    drive(NAME, controller, reconcile, world).await;
}

async fn reconcile(
    object: Arc<DynamicObject>,
    world: Arc<World>,
) -> Result<Action, std::convert::Infallible> {
    world.stores.filled().await;
    let started = Instant::now();
    let name = format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let result = take_step(&world, &object, &name).await;
    let failure = result.as_ref().err().map(String::as_str);
    world
        .facts
        .reconciled(NAME, &name, started.elapsed(), failure);
    Ok(match result {
        Ok(Some(pause)) => Action::requeue(pause),
        Ok(None) => Action::await_change(),
        Err(_) => Action::requeue(RETRY_MIN * 4),
    })
}

/// Takes one step; gives the time until the next, if there is one that no event announces.
async fn take_step(
    world: &World,
    object: &DynamicObject,
    name: &str,
) -> Result<Option<Duration>, String> {
    let Some(view) = view(world, object) else {
        world
            .facts
            .unreadable("ChaosExperiment", name, "its spec does not fit the schema");
        // Nothing was ever done in its name, so it must not hold up its deletion.
        let ours = object
            .finalizers()
            .iter()
            .any(|one| one == FINALIZER_REVERT);
        if ours && object.metadata.deletion_timestamp.is_some() {
            set_finalizer(world, object, false).await?;
        }
        return Ok(None);
    };
    match step(&view, Timestamp::now()) {
        Step::Done => Ok(None),
        Step::Wait => Ok(Some(EXPERIMENT_POLL)),
        Step::AddFinalizer => set_finalizer(world, object, true)
            .await
            .map(|()| Some(EXPERIMENT_POLL)),
        Step::RemoveFinalizer => set_finalizer(world, object, false).await.map(|()| None),
        Step::Write(status) => {
            write(world, object, &view, *status).await?;
            Ok(Some(EXPERIMENT_POLL))
        }
        Step::Check(when) => check(world, object, &view, when, name).await,
        Step::Strike(kind, targets) => {
            strike_all(world, object, kind, &targets, name).await;
            Ok(Some(EXPERIMENT_POLL))
        }
    }
}

async fn check(
    world: &World,
    object: &DynamicObject,
    view: &ExperimentView,
    when: When,
    name: &str,
) -> Result<Option<Duration>, String> {
    let steady = &view.spec.steady_state;
    let fleets_own = view
        .fleet
        .as_ref()
        .and_then(|fleet| fleet.prometheus.as_deref());
    let url = steady.prometheus_url.as_deref().or(fleets_own);
    let results = checks::ask(world, name, url, &steady.checks, when).await;
    match checked(view, when, results, Timestamp::now()) {
        Some(status) => {
            write(world, object, view, status).await?;
            Ok(Some(EXPERIMENT_POLL))
        }
        None => Ok(Some(CHECK_POLL)),
    }
}

async fn strike_all(
    world: &World,
    object: &DynamicObject,
    kind: FaultType,
    targets: &[Target],
    name: &str,
) {
    let namespace = object.namespace().unwrap_or_default();
    for target in targets {
        if !world.tenure.holds() {
            return;
        }
        let message = match strike(world, &namespace, kind, target).await {
            Struck::Done => format!("{kind:?} done to pod {} {}", target.pod, target.uid),
            Struck::Refused(why) => format!("{kind:?} refused for pod {}: {why}", target.pod),
        };
        world.facts.experiment(name, "Injecting", &message);
    }
}

/// What the experiment sees; `None` when its spec cannot be read.
fn view(world: &World, object: &DynamicObject) -> Option<ExperimentView> {
    let spec: ChaosExperimentSpec =
        serde_json::from_value(object.data.get("spec")?.clone()).ok()?;
    let namespace = object.namespace()?;
    Some(ExperimentView {
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        finalizer: object
            .finalizers()
            .iter()
            .any(|one| one == FINALIZER_REVERT),
        status: status_of(object),
        ahead: ahead(world, object, &namespace, &spec.fleet),
        fleet: look(world, &namespace, &spec.fleet),
        spec,
    })
}

/// The status as stored; one that cannot be read begins anew, which strikes nothing.
fn status_of(object: &DynamicObject) -> ChaosExperimentStatus {
    let status = object.data.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}

/// The oldest experiment on the same fleet that is not over, if it is another one. All agree on the
/// order, so at most one is ever first.
fn ahead(world: &World, object: &DynamicObject, namespace: &str, fleet: &str) -> Option<String> {
    let order = |one: &DynamicObject| (views::created(&one.metadata), one.uid());
    let all = world.stores.experiments.state();
    let first = all
        .iter()
        .filter(|one| one.namespace().as_deref() == Some(namespace))
        .filter(|one| one.data.pointer("/spec/fleet").and_then(Value::as_str) == Some(fleet))
        .filter(|one| status_of(one).phase != Phase::Completed)
        .min_by_key(|one| order(one))?;
    (order(first) < order(object)).then(|| first.name_any())
}

fn look(world: &World, namespace: &str, fleet: &str) -> Option<FleetLook> {
    let key = ObjectRef::new_with(fleet, watch::fleets()).within(namespace);
    let object = world.stores.fleets.get(&key)?;
    let fleet = views::fleet(&object);
    let pods: Vec<_> = of_fleet(&world.stores.pods, namespace, &fleet.name)
        .iter()
        .filter(|pod| views::owned(&pod.metadata, &fleet.uid))
        .map(|pod| views::pod(pod))
        .collect();
    let memory = world.memories.of(namespace, &fleet.name);
    FleetLook::of(&fleet, &pods, observe::connections(&memory))
}

async fn set_finalizer(world: &World, object: &DynamicObject, on: bool) -> Result<(), String> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|one| one != FINALIZER_REVERT);
    if on {
        finalizers.push(FINALIZER_REVERT.to_owned());
    }
    let patch = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    let api = api(world, object);
    let result = api
        .patch(&object.name_any(), &how(), &Patch::Merge(patch))
        .await;
    settled(result, "changing the finalizer")
}

/// Writes a status if the experiment is still as it was seen, and reports what it says.
async fn write(
    world: &World,
    object: &DynamicObject,
    view: &ExperimentView,
    status: ChaosExperimentStatus,
) -> Result<(), String> {
    let new = serde_json::to_value(&status).map_err(|error| error.to_string())?;
    let old = object.data.get("status").cloned().unwrap_or(json!(null));
    let version = object.resource_version();
    let patch = patches::status(&old, new, &view.uid, version.as_deref());
    let api = api(world, object);
    let result = api
        .patch_status(&object.name_any(), &how(), &Patch::Merge(patch))
        .await;
    let swapped = result.is_ok();
    settled(result, "writing the status")?;
    if swapped {
        report(world, object, &view.status, &status).await;
    }
    Ok(())
}

async fn report(
    world: &World,
    object: &DynamicObject,
    before: &ChaosExperimentStatus,
    after: &ChaosExperimentStatus,
) {
    let name = format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let message = after
        .conditions
        .first()
        .map_or("", |condition| &condition.message);
    let phase = format!("{:?}", after.phase);
    world.facts.experiment(&name, &phase, message);
    if before.targets.is_empty() && !after.targets.is_empty() {
        let targets: Vec<_> = after
            .targets
            .iter()
            .map(|target| target.pod.as_str())
            .collect();
        let chosen = format!(
            "seed {} chose {}",
            object.uid().unwrap_or_default(),
            targets.join(", ")
        );
        world.facts.experiment(&name, &phase, &chosen);
    }
    if before.phase == after.phase {
        return;
    }
    if let Some(verdict) = after.verdict {
        world.facts.verdict(&name, &format!("{verdict:?}"), message);
    }
    let event = PlannedEvent {
        warning: experiment::is_bad(after.verdict),
        reason: after
            .verdict
            .map_or(phase, |verdict| format!("{verdict:?}")),
        note: message.to_owned(),
    };
    world
        .facts
        .tell(&object.object_ref(&watch::experiments()), &event)
        .await;
}

fn api(world: &World, object: &DynamicObject) -> Api<DynamicObject> {
    let namespace = object.namespace().unwrap_or_default();
    Api::namespaced_with(world.client.clone(), &namespace, &watch::experiments())
}

fn how() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A conflict, or an object that is gone, only means to look again.
fn settled<T>(result: kube::Result<T>, what: &str) -> Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
