//! The controller of drills (effects): creates experiments when `schedule` says so, deletes old ones,
//! and keeps the drill's status.

use super::LABEL_DRILL;
use super::schedule::{DrillView, Due, RunView, Schedule, decide};
use crate::drive::drive;
use crate::fleet::plan::PlannedEvent;
use crate::fleet::views;
use crate::limits::{RETRY_MIN, SCHEDULE_POLL};
use crate::patches;
use crate::watch::{self, Watch};
use crate::world::World;
use futures::channel::mpsc::Receiver;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use sluice_crds::names::MANAGER;
use sluice_crds::{ChaosDrillSpec, ChaosDrillStatus, ChaosExperimentStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Name in logs and metrics.
const NAME: &str = "drill";

/// Looks after all drills while it is polled. `nudges` names those whose experiments changed.
pub async fn run(
    world: Arc<World>,
    drills: Watch<DynamicObject>,
    nudges: Receiver<ObjectRef<DynamicObject>>,
) {
    let store = world.stores.drills.clone();
    let controller =
        Controller::for_stream_with(drills, store, watch::drills()).reconcile_on(nudges);
    drive(NAME, controller, reconcile, world).await;
}

async fn reconcile(
    object: Arc<DynamicObject>,
    world: Arc<World>,
) -> Result<Action, std::convert::Infallible> {
    world.stores.filled().await;
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let name = format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let result = look_after(&world, &object, &name).await;
    let failure = result.as_ref().err().map(String::as_str);
    world
        .facts
        .reconciled(NAME, &name, started.elapsed(), failure);
    Ok(Action::requeue(result.unwrap_or(RETRY_MIN * 4)))
}

/// Does what is due and gives the time until something may be due again.
async fn look_after(world: &World, object: &DynamicObject, name: &str) -> Result<Duration, String> {
    let now = Timestamp::now();
    let old = object.data.get("status").cloned().unwrap_or(json!(null));
    let before: ChaosDrillStatus = serde_json::from_value(old.clone()).unwrap_or_default();
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let read = serde_json::from_value::<ChaosDrillSpec>(spec)
        .map_err(|error| format!("the spec cannot be read: {error}"))
        .and_then(|spec| {
            let schedule = Schedule::read(&spec.schedule, &spec.time_zone, now);
            let schedule = schedule.map_err(|error| error.to_string())?;
            Ok((spec, schedule))
        });
    let (spec, schedule) = match read {
        Ok(read) => read,
        Err(why) => {
            world.facts.unreadable("ChaosDrill", name, &why);
            let mut status = before.clone();
            set(
                &mut status,
                object,
                now,
                ("SpecValid", false, "Invalid", &why),
            );
            write(world, object, &old, &before, &status).await?;
            return Ok(SCHEDULE_POLL);
        }
    };
    let drill = DrillView {
        name: object.name_any(),
        created: views::created(&object.metadata),
        last: before.last_schedule_time.as_ref().map(|time| time.0),
        runs: runs(world, object),
        spec,
    };
    let due = decide(&drill, &schedule, now);
    let mut status = before.clone();
    if let Some((at, experiment)) = &due.run {
        create(world, object, &drill, *at, experiment).await?;
        status.last_schedule_time = Some(Time(*at));
        status.last_experiment = Some(experiment.clone());
    }
    for old in &due.prune {
        let deleted = experiments(world, object)
            .delete(old, &DeleteParams::default())
            .await;
        settled(deleted, "deleting an old experiment")?;
    }
    describe(&mut status, object, &due, now);
    write(world, object, &old, &before, &status).await?;
    Ok(pause(&due, now))
}

fn pause(due: &Due, now: Timestamp) -> Duration {
    if due.held.is_some() {
        // A run that is held may become free before its deadline.
        return Duration::from_secs(1);
    }
    let until = due.next.map(|next| next.duration_since(now));
    let until = until.and_then(|until| Duration::try_from(until).ok());
    until
        .map_or(SCHEDULE_POLL, |until| until.min(SCHEDULE_POLL))
        .max(Duration::from_millis(50))
}

fn runs(world: &World, drill: &DynamicObject) -> Vec<RunView> {
    let uid = drill.uid().unwrap_or_default();
    let all = world.stores.experiments.state();
    all.iter()
        .filter(|one| one.namespace() == drill.namespace() && views::owned(&one.metadata, &uid))
        .map(|one| {
            let status = one.data.get("status").cloned().unwrap_or_default();
            let status: ChaosExperimentStatus = serde_json::from_value(status).unwrap_or_default();
            RunView {
                name: one.name_any(),
                created: views::created(&one.metadata),
                verdict: status.verdict,
                deleting: one.metadata.deletion_timestamp.is_some(),
            }
        })
        .collect()
}

/// Creates the experiment of a moment; one of that name that is ours is as good.
async fn create(
    world: &World,
    drill: &DynamicObject,
    view: &DrillView,
    at: Timestamp,
    name: &str,
) -> Result<(), String> {
    let owner = drill.controller_owner_ref(&watch::drills());
    let object = experiment_of(
        drill,
        name,
        &at.to_string(),
        &json!(view.spec.template.spec),
        owner,
    );
    let object: DynamicObject =
        serde_json::from_value(object).map_err(|error| error.to_string())?;
    let how = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match experiments(world, drill).create(&how, &object).await {
        Ok(_) => {
            world.facts.drill_ran(&view.name, name);
            let event = PlannedEvent {
                warning: false,
                reason: "ExperimentCreated".to_owned(),
                note: format!("created {name}"),
            };
            world
                .facts
                .tell(&drill.object_ref(&watch::drills()), &event)
                .await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(format!("creating experiment {name}: {error}")),
    }
}

/// The experiment of a drill as JSON. With an owner it is one of the schedule's.
pub fn experiment_of(
    drill: &DynamicObject,
    name: &str,
    at: &str,
    spec: &Value,
    owner: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "ChaosExperiment",
        "metadata": {
            "name": name,
            "namespace": drill.namespace(),
            "labels": {LABEL_DRILL: drill.name_any()},
            "annotations": {"sluice.dev/scheduled-at": at},
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    })
}

fn describe(status: &mut ChaosDrillStatus, object: &DynamicObject, due: &Due, now: Timestamp) {
    status.last_verdict = due.last_verdict.or(status.last_verdict);
    set(
        status,
        object,
        now,
        ("SpecValid", true, "Valid", "the schedule can be read"),
    );
    let active = due
        .active
        .as_deref()
        .or(due.run.as_ref().map(|(_, name)| name.as_str()));
    match (active, &due.held) {
        (Some(_), Some(why)) => set(status, object, now, ("Active", true, "RunHeld", why)),
        (Some(active), None) => {
            let message = format!("{active} is running");
            set(status, object, now, ("Active", true, "Running", &message));
        }
        (None, Some(why)) => set(status, object, now, ("Active", false, "RunHeld", why)),
        (None, None) => set(
            status,
            object,
            now,
            ("Active", false, "Idle", "nothing is running"),
        ),
    }
}

/// Sets one condition, keeping its time while it does not turn.
fn set(
    status: &mut ChaosDrillStatus,
    object: &DynamicObject,
    now: Timestamp,
    (kind, value, reason, message): (&str, bool, &str, &str),
) {
    let value = if value { "True" } else { "False" };
    let generation = object.metadata.generation;
    let condition = Condition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    status.observed_generation = generation;
    match status.conditions.iter_mut().find(|old| old.type_ == kind) {
        Some(old) => {
            let since = old.last_transition_time.clone();
            let turned = old.status != value;
            *old = condition;
            if !turned {
                old.last_transition_time = since;
            }
        }
        None => status.conditions.push(condition),
    }
}

async fn write(
    world: &World,
    object: &DynamicObject,
    old: &Value,
    before: &ChaosDrillStatus,
    status: &ChaosDrillStatus,
) -> Result<(), String> {
    if status == before {
        return Ok(());
    }
    let new = serde_json::to_value(status).map_err(|error| error.to_string())?;
    let uid = object.uid().unwrap_or_default();
    let version = object.resource_version();
    let patch = patches::status(old, new, &uid, version.as_deref());
    let how = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &namespace, &watch::drills());
    let result = api
        .patch_status(&object.name_any(), &how, &Patch::Merge(patch))
        .await;
    settled(result, "writing the status")
}

/// The drill an experiment was made by.
pub fn drill_of(object: &DynamicObject) -> Option<ObjectRef<DynamicObject>> {
    let owner = object
        .owner_references()
        .iter()
        .find(|owner| owner.kind == "ChaosDrill")?;
    let namespace = object.namespace()?;
    Some(ObjectRef::new_with(&owner.name, watch::drills()).within(&namespace))
}

fn experiments(world: &World, drill: &DynamicObject) -> Api<DynamicObject> {
    let namespace = drill.namespace().unwrap_or_default();
    Api::namespaced_with(world.client.clone(), &namespace, &watch::experiments())
}

/// A conflict, or an object that is gone, only means to look again.
fn settled<T>(result: kube::Result<T>, what: &str) -> Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
