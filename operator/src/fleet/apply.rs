//! Carries out actions on a cluster (effects), and chooses nothing: each write is bound to what the
//! plan saw, so a world that moved on refuses it instead of being overwritten.

use super::actuator::{ActError, Actuator};
use super::memory::Polled;
use super::observe::Observation;
use super::observed::{ChildKind, DrainMark, FleetView, GatewayState};
use super::plan::{Action, PodRef};
use super::{render, views};
use crate::admin::{AdminError, Endpoint};
use crate::patches;
use crate::watch;
use crate::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use rand::RngCore as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_crds::names;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use tokio::time::Instant;

/// Acts on one fleet as it was observed.
pub struct KubeActuator<'a> {
    world: &'a World,
    fleet: &'a FleetView,
    gateways: &'a HashMap<String, Endpoint>,
}

impl Actuator for KubeActuator<'_> {
    async fn act(&self, action: &Action) -> Result<(), ActError> {
        match action {
            Action::CreateSecret { name, keys, bytes } => self.secret(name, keys, *bytes).await,
            Action::EnsureChild { kind, name, object } => self.child(*kind, name, object).await,
            Action::CreateRevision { object } => self.revision(object).await,
            Action::CancelDrain { pod } => self.cancel_drain(pod).await,
            Action::SetAccepting { pod, accepting } => {
                let value = accepting.then_some(names::TRUE);
                self.mark(pod, &[(names::LABEL_ACCEPTING, value)], &[])
                    .await
            }
            Action::CreatePod { object, .. } => self.create_pod(object).await,
            Action::MarkDraining { pod, mark } => self.mark_draining(pod, mark).await,
            Action::StartDrain {
                pod,
                reason,
                rate_milli,
                deadline,
            } => {
                let within = deadline.duration_since(Timestamp::now());
                let at = self.gateway(pod)?;
                let answer = self
                    .world
                    .admin
                    .drain(at, *reason, *rate_milli, within)
                    .await;
                self.remember(pod, answer)
            }
            Action::SetLimits { pod, limits, .. } => {
                let at = self.gateway(pod)?;
                let answer = self.world.admin.set_limits(at, limits).await;
                self.remember(pod, answer)
            }
            Action::DeletePod { pod, .. } => self.delete_pod(pod).await,
            Action::DeleteRevision { name } => self.delete_revision(name).await,
            Action::SetReplicas { from, to } => self.scale(*from, *to).await,
        }
    }
}

impl<'a> KubeActuator<'a> {
    /// An actuator for what was observed.
    pub fn new(world: &'a World, observation: &'a Observation) -> Self {
        Self {
            world,
            fleet: &observation.observed.fleet,
            gateways: &observation.gateways,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.world.client.clone(), &self.fleet.namespace)
    }

    fn gateway(&self, pod: &PodRef) -> Result<&Endpoint, ActError> {
        self.gateways.get(&pod.uid).ok_or_else(|| ActError::Failed {
            what: format!("gateway of pod {}", pod.name),
            why: "it has no address yet, or the fleet has no key".to_owned(),
        })
    }

    /// An answer is as good as a poll: without it the next plan would say the same again.
    fn remember(
        &self,
        pod: &PodRef,
        answer: Result<GatewayState, AdminError>,
    ) -> Result<(), ActError> {
        let state = answer.map_err(|error| admin_failed(pod, error))?;
        let memory = self
            .world
            .memories
            .of(&self.fleet.namespace, &self.fleet.name);
        let polled = Polled {
            state: Some(state),
            asked: Instant::now(),
        };
        memory.lock().gateways.insert(pod.uid.clone(), polled);
        Ok(())
    }

    async fn secret(&self, name: &str, keys: &[String], bytes: usize) -> Result<(), ActError> {
        let what = format!("creating Secret {name}");
        let api = self.api::<Secret>();
        let found = api.get_opt(name).await.map_err(failed(&what))?;
        let missing = |key: &&String| {
            let found = found.as_ref();
            found.is_none_or(|secret| views::secret_key(secret, key).is_none())
        };
        let data: BTreeMap<_, _> = keys
            .iter()
            .filter(missing)
            .map(|key| (key.clone(), ByteString(random_key(bytes))))
            .collect();
        let Some(found) = found else {
            let secret = Secret {
                metadata: self.metadata(name),
                data: Some(data),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            return self.create(&api, &secret, &what).await;
        };
        self.ours(&found.metadata, &what)?;
        if data.is_empty() {
            return Ok(());
        }
        let version = found.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
        api.patch(name, &patching(), &Patch::Merge(patch))
            .await
            .map(drop)
            .map_err(failed(&what))
    }

    async fn child(&self, kind: ChildKind, name: &str, object: &Value) -> Result<(), ActError> {
        let (resource, what) = match kind {
            ChildKind::ClientService | ChildKind::InternalService => (
                ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
                format!("applying Service {name}"),
            ),
            ChildKind::DisruptionBudget => (
                ApiResource::erase::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&()),
                format!("applying PodDisruptionBudget {name}"),
            ),
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.world.client.clone(), &self.fleet.namespace, &resource);
        // Apply would take over an object of the same name that is someone else's.
        if let Some(found) = api.get_opt(name).await.map_err(failed(&what))? {
            self.ours(&found.metadata, &what)?;
        }
        let apply = PatchParams::apply(names::MANAGER).force();
        api.patch(name, &apply, &Patch::Apply(object))
            .await
            .map(drop)
            .map_err(failed(&what))
    }

    async fn revision(&self, object: &ControllerRevision) -> Result<(), ActError> {
        let what = format!(
            "creating ControllerRevision {}",
            object.metadata.name.as_deref().unwrap_or_default()
        );
        self.create(&self.api(), object, &what).await
    }

    async fn create_pod(&self, object: &Pod) -> Result<(), ActError> {
        let what = format!(
            "creating pod {}",
            object.metadata.name.as_deref().unwrap_or_default()
        );
        self.create(&self.api(), object, &what).await
    }

    /// POST; one of that name that is ours is as good.
    async fn create<K>(&self, api: &Api<K>, object: &K, what: &str) -> Result<(), ActError>
    where
        K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + Debug,
    {
        let how = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&how, object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let name = object.meta().name.as_deref().unwrap_or_default();
                match api.get_opt(name).await.map_err(failed(what))? {
                    Some(found) => self.ours(found.meta(), what),
                    None => Err(ActError::Conflict {
                        what: what.to_owned(),
                    }),
                }
            }
            Err(error) => Err(failed(what)(error)),
        }
    }

    async fn cancel_drain(&self, pod: &PodRef) -> Result<(), ActError> {
        let answer = self.world.admin.cancel(self.gateway(pod)?).await;
        self.remember(pod, answer)?;
        let labels = [
            (names::LABEL_DRAINING, None),
            (names::LABEL_ACCEPTING, Some(names::TRUE)),
        ];
        self.mark(pod, &labels, &[(names::ANNOTATION_DRAIN, None)])
            .await
    }

    async fn mark_draining(&self, pod: &PodRef, mark: &DrainMark) -> Result<(), ActError> {
        let text = serde_json::to_string(mark).map_err(|error| ActError::Failed {
            what: format!("marking pod {}", pod.name),
            why: error.to_string(),
        })?;
        let labels = [
            (names::LABEL_DRAINING, Some(names::TRUE)),
            (names::LABEL_ACCEPTING, None),
        ];
        self.mark(pod, &labels, &[(names::ANNOTATION_DRAIN, Some(text))])
            .await
    }

    async fn mark(
        &self,
        pod: &PodRef,
        labels: &[(&str, Option<&str>)],
        annotations: &[(&str, Option<String>)],
    ) -> Result<(), ActError> {
        let what = format!("marking pod {}", pod.name);
        let patch = patches::pod_marks(&pod.uid, &pod.resource_version, labels, annotations);
        self.api::<Pod>()
            .patch_metadata(&pod.name, &patching(), &Patch::Merge(patch))
            .await
            .map(drop)
            .map_err(failed(&what))
    }

    async fn delete_pod(&self, pod: &PodRef) -> Result<(), ActError> {
        let what = format!("deleting pod {}", pod.name);
        let api = self.api::<Pod>();
        let live = api
            .get_metadata_opt(&pod.name)
            .await
            .map_err(failed(&what))?;
        let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(&pod.uid)) else {
            return Ok(());
        };
        if live.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        if live.metadata.resource_version.as_deref() != Some(&pod.resource_version) {
            return Err(ActError::Conflict { what });
        }
        let how = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: Some(pod.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        gone_is_done(api.delete(&pod.name, &how).await, &what)
    }

    async fn delete_revision(&self, name: &str) -> Result<(), ActError> {
        let what = format!("deleting ControllerRevision {name}");
        let api = self.api::<ControllerRevision>();
        gone_is_done(api.delete(name, &DeleteParams::default()).await, &what)
    }

    /// Writes replicas if they are still what the plan saw; the resourceVersion holds it to that.
    async fn scale(&self, from: u32, to: u32) -> Result<(), ActError> {
        let what = format!("scaling NotifyGateway {}", self.fleet.name);
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.world.client.clone(),
            &self.fleet.namespace,
            &watch::fleets(),
        );
        let mut scale = api
            .get_scale(&self.fleet.name)
            .await
            .map_err(failed(&what))?;
        let spec = scale.spec.get_or_insert_default();
        if spec.replicas.unwrap_or_default() != from.cast_signed() {
            return Err(ActError::Conflict { what });
        }
        spec.replicas = Some(to.cast_signed());
        let how = PostParams {
            field_manager: Some(names::SCALER_MANAGER.to_owned()),
            ..PostParams::default()
        };
        api.replace_scale(&self.fleet.name, &how, &scale)
            .await
            .map(drop)
            .map_err(failed(&what))
    }

    /// Metadata of an object that has no renderer of its own.
    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.fleet.namespace.clone()),
            labels: Some(render::labels(self.fleet)),
            owner_references: serde_json::from_value(json!([render::owner(self.fleet)])).ok(),
            ..ObjectMeta::default()
        }
    }

    /// Whether an object that exists is this fleet's. What a deleted fleet of the same name left
    /// behind goes by itself, so it is only waited for.
    fn ours(&self, meta: &ObjectMeta, what: &str) -> Result<(), ActError> {
        if views::owned(meta, &self.fleet.uid) {
            return Ok(());
        }
        let mut owners = meta.owner_references.iter().flatten();
        let predecessors =
            owners.any(|owner| owner.kind == "NotifyGateway" && owner.name == self.fleet.name);
        let what = what.to_owned();
        if predecessors || meta.deletion_timestamp.is_some() {
            return Err(ActError::Conflict { what });
        }
        Err(ActError::Failed {
            what,
            why: "an object of this name exists and belongs to someone else; rename or delete it"
                .to_owned(),
        })
    }
}

/// Text of one key: base64url without padding.
fn random_key(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    rand::rng().fill_bytes(&mut random);
    URL_SAFE_NO_PAD.encode(random).into_bytes()
}

fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// How an API error counts: a conflict, or an object that is gone, means to look again.
fn failed(what: &str) -> impl Fn(kube::Error) -> ActError + '_ {
    move |error| match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => ActError::Conflict {
            what: what.to_owned(),
        },
        error => ActError::Failed {
            what: what.to_owned(),
            why: error.to_string(),
        },
    }
}

fn gone_is_done<T>(result: kube::Result<T>, what: &str) -> Result<(), ActError> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(failed(what)(error)),
    }
}

fn admin_failed(pod: &PodRef, error: AdminError) -> ActError {
    let what = format!("gateway of pod {}", pod.name);
    match error {
        AdminError::StaleTerm { .. } => ActError::StaleLeader { what },
        error => ActError::Failed {
            what,
            why: error.to_string(),
        },
    }
}
