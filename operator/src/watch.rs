//! What is watched (effects): one store and one stream per kind. Our own kinds are watched untyped:
//! a typed watch stops at the first object it cannot read, and one broken object would stop all.

use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::reflector::{self, ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, CustomResourceExt, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_crds::{ChaosDrill, ChaosExperiment, NotifyGateway, names};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// A watch's objects, as they come.
pub type Watch<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// Caches of everything watched. Clones share them.
#[derive(Clone)]
pub struct Stores {
    /// Every `NotifyGateway`.
    pub fleets: Store<DynamicObject>,
    /// Every pod of a fleet.
    pub pods: Store<Pod>,
    /// Every node.
    pub nodes: Store<Node>,
    /// Every Service of a fleet.
    pub services: Store<Service>,
    /// Every PDB of a fleet.
    pub budgets: Store<PodDisruptionBudget>,
    /// Every `ControllerRevision` of a fleet.
    pub revisions: Store<ControllerRevision>,
    /// Every fleet Secret.
    pub secrets: Store<Secret>,
    /// Every `ChaosExperiment`.
    pub experiments: Store<DynamicObject>,
    /// Every `ChaosDrill`.
    pub drills: Store<DynamicObject>,
}

/// The streams that keep the stores current while they are polled.
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
    /// Every `ChaosExperiment`.
    pub experiments: Watch<DynamicObject>,
    /// Every `ChaosDrill`.
    pub drills: Watch<DynamicObject>,
}

/// The resource of `NotifyGateway`.
pub fn fleets() -> ApiResource {
    NotifyGateway::api_resource()
}

/// The resource of `ChaosExperiment`.
pub fn experiments() -> ApiResource {
    ChaosExperiment::api_resource()
}

/// The resource of `ChaosDrill`.
pub fn drills() -> ApiResource {
    ChaosDrill::api_resource()
}

/// Opens every watch. Nothing is read until the streams are polled.
pub fn open(client: &Client) -> (Stores, Watches) {
    let labelled = || watcher::Config::default().labels(names::LABEL_FLEET);
    let all = watcher::Config::default;
    let ours = |resource| open_untyped(client, resource);
    let (fleets, fleets_watch) = ours(fleets());
    let (experiments, experiments_watch) = ours(experiments());
    let (drills, drills_watch) = ours(drills());
    let (pods, pods_watch) = open_one(client, labelled(), slim_pod);
    let (nodes, nodes_watch) = open_one(client, all(), slim_node);
    let (services, services_watch) = open_one(client, labelled(), |_| {});
    let (budgets, budgets_watch) = open_one(client, labelled(), |_| {});
    let (revisions, revisions_watch) = open_one(client, labelled(), |_| {});
    let (secrets, secrets_watch) = open_one(client, labelled(), |_| {});
    let stores = Stores {
        fleets,
        pods,
        nodes,
        services,
        budgets,
        revisions,
        secrets,
        experiments,
        drills,
    };
    let watches = Watches {
        fleets: fleets_watch,
        pods: pods_watch,
        nodes: nodes_watch,
        services: services_watch,
        budgets: budgets_watch,
        revisions: revisions_watch,
        secrets: secrets_watch,
        experiments: experiments_watch,
        drills: drills_watch,
    };
    (stores, watches)
}

impl Stores {
    /// Waits until every store has been filled once: a plan made from half of what there is would
    /// create what exists.
    pub async fn filled(&self) -> Result<(), reflector::store::WriterDropped> {
        let Self {
            fleets,
            pods,
            nodes,
            services,
            budgets,
            revisions,
            secrets,
            experiments,
            drills,
        } = self;
        fleets.wait_until_ready().await?;
        pods.wait_until_ready().await?;
        nodes.wait_until_ready().await?;
        services.wait_until_ready().await?;
        budgets.wait_until_ready().await?;
        revisions.wait_until_ready().await?;
        secrets.wait_until_ready().await?;
        experiments.wait_until_ready().await?;
        drills.wait_until_ready().await
    }
}

fn open_untyped(
    client: &Client,
    resource: ApiResource,
) -> (Store<DynamicObject>, Watch<DynamicObject>) {
    let api = Api::all_with(client.clone(), &resource);
    let writer = reflector::store::Writer::new(resource);
    fill(api, watcher::Config::default(), writer, |_| {})
}

fn open_one<K>(client: &Client, what: watcher::Config, slim: fn(&mut K)) -> (Store<K>, Watch<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (_, writer) = store();
    fill(Api::all(client.clone()), what, writer, slim)
}

fn fill<K>(
    api: Api<K>,
    what: watcher::Config,
    writer: reflector::store::Writer<K>,
    slim: fn(&mut K),
) -> (Store<K>, Watch<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync + 'static,
{
    let reader = writer.as_reader();
    let stream = watcher(api, what).default_backoff().modify(move |object| {
        // Half of an object's bytes, and nobody here reads them.
        object.managed_fields_mut().clear();
        slim(object);
    });
    let touched = stream.reflect(writer).touched_objects().boxed();
    (reader, touched)
}

/// Keeps what is observed of a pod.
fn slim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        let node_name = spec.node_name.take();
        *spec = k8s_openapi::api::core::v1::PodSpec {
            node_name,
            ..Default::default()
        };
    }
    if let Some(status) = &mut pod.status {
        status.init_container_statuses = None;
    }
}

/// Keeps what is observed of a node.
fn slim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
    node.annotations_mut().clear();
}

/// The fleet that a labelled object belongs to.
pub fn fleet_of<K: ResourceExt>(object: &K) -> Option<ObjectRef<DynamicObject>> {
    let fleet = object.labels().get(names::LABEL_FLEET)?;
    let namespace = object.namespace()?;
    Some(ObjectRef::new_with(fleet, fleets()).within(&namespace))
}

/// The fleet that an experiment is about.
pub fn fleet_of_experiment(object: &DynamicObject) -> Option<ObjectRef<DynamicObject>> {
    let fleet = object.data.get("spec")?.get("fleet")?.as_str()?;
    let namespace = object.namespace()?;
    Some(ObjectRef::new_with(fleet, fleets()).within(&namespace))
}

/// Objects of a store that are in `namespace` and carry the label of `fleet`.
pub fn of_fleet<K>(store: &Store<K>, namespace: &str, fleet: &str) -> Vec<Arc<K>>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.state_filter(|object: &K| {
        object.meta().namespace.as_deref() == Some(namespace)
            && object
                .meta()
                .labels
                .as_ref()
                .and_then(|all| all.get(names::LABEL_FLEET))
                .map(String::as_str)
                == Some(fleet)
    })
}
