//! What is watched (effects): one store and one stream per kind. Our own kinds are watched untyped:
//! a typed watch stops at the first object it cannot read, and one broken object would stop all.

use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, CustomResourceExt, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_crds::{ChaosDrill, ChaosExperiment, NotifyGateway, names};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::watch::Sender;

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
    /// One bit for each store that has been filled once.
    filled: Arc<Sender<u32>>,
    /// All of them.
    all: u32,
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
    let mut opening = Opening {
        client: client.clone(),
        filled: Arc::new(Sender::new(0)),
        opened: 0,
    };
    let (fleets, fleets_watch) = opening.untyped(fleets());
    let (experiments, experiments_watch) = opening.untyped(experiments());
    let (drills, drills_watch) = opening.untyped(drills());
    let ours = || watcher::Config::default().labels(names::LABEL_FLEET);
    let (pods, pods_watch) = opening.typed(ours(), slim_pod);
    let (nodes, nodes_watch) = opening.typed(watcher::Config::default(), slim_node);
    let (services, services_watch) = opening.typed(ours(), |_| {});
    let (budgets, budgets_watch) = opening.typed(ours(), |_| {});
    let (revisions, revisions_watch) = opening.typed(ours(), |_| {});
    let (secrets, secrets_watch) = opening.typed(ours(), |_| {});
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
        filled: Arc::clone(&opening.filled),
        all: (1 << opening.opened) - 1,
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
    ///
    /// Not by `Store::wait_until_ready`: that one wakes only whoever asked last, and a controller's
    /// own start is among those who ask.
    pub async fn filled(&self) {
        let mut filled = self.filled.subscribe();
        // The sender is in `self`, so it is not gone.
        let _ = filled.wait_for(|filled| *filled == self.all).await;
    }
}

/// Opens watches one by one and sees to it that their first filling is noticed.
struct Opening {
    client: Client,
    filled: Arc<Sender<u32>>,
    opened: u32,
}

impl Opening {
    fn untyped(&mut self, resource: ApiResource) -> (Store<DynamicObject>, Watch<DynamicObject>) {
        let api = Api::all_with(self.client.clone(), &resource);
        let writer = Writer::new(resource);
        self.fill(api, watcher::Config::default(), writer, |_| {})
    }

    fn typed<K>(&mut self, what: watcher::Config, slim: fn(&mut K)) -> (Store<K>, Watch<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.fill(Api::all(self.client.clone()), what, Writer::new(()), slim)
    }

    fn fill<K>(
        &mut self,
        api: Api<K>,
        what: watcher::Config,
        writer: Writer<K>,
        slim: fn(&mut K),
    ) -> (Store<K>, Watch<K>)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone + Send + Sync + 'static,
    {
        let reader = writer.as_reader();
        let filled = Arc::clone(&self.filled);
        let bit = 1 << self.opened;
        self.opened += 1;
        let stream = watcher(api, what).default_backoff().modify(move |object| {
            // Half of an object's bytes, and nobody here reads them.
            object.managed_fields_mut().clear();
            slim(object);
        });
        let noticed = stream.reflect(writer).inspect(move |event| {
            if let Ok(watcher::Event::InitDone) = event {
                filled.send_modify(|all| *all |= bit);
            }
        });
        (reader, noticed.touched_objects().boxed())
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::{Watches, open};
    use futures::StreamExt as _;
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use std::time::Duration;
    use tower_test::mock;

    /// Every controller waits, with as many objects as there are: each must be woken.
    #[tokio::test]
    async fn everyone_who_waits_for_the_stores_is_woken() {
        let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
        let (stores, watches) = open(&Client::new(service, "default"));
        let waiting = (0..50).map(|_| {
            let stores = stores.clone();
            tokio::spawn(async move { stores.filled().await })
        });
        let waiting: Vec<_> = waiting.collect();
        // As the controllers' own starts do.
        let controller = tokio::spawn({
            let fleets = stores.fleets.clone();
            async move { fleets.wait_until_ready().await }
        });
        tokio::task::yield_now().await;
        let polling = tokio::spawn(poll_all(watches));
        let serving = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some((request, respond)) = server.next_request().await {
                if request.uri().query().unwrap_or_default().contains("watch=") {
                    unanswered.push(respond);
                    continue;
                }
                let list = r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#;
                respond.send_response(Response::new(Body::from(list.as_bytes().to_vec())));
            }
        });
        let all = futures::future::join_all(waiting);
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(20), controller)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        polling.abort();
        serving.abort();
    }

    async fn poll_all(watches: Watches) {
        let Watches {
            fleets,
            pods,
            nodes,
            services,
            budgets,
            revisions,
            secrets,
            experiments,
            drills,
        } = watches;
        tokio::join!(
            fleets.for_each(|_| async {}),
            pods.for_each(|_| async {}),
            nodes.for_each(|_| async {}),
            services.for_each(|_| async {}),
            budgets.for_each(|_| async {}),
            revisions.for_each(|_| async {}),
            secrets.for_each(|_| async {}),
            experiments.for_each(|_| async {}),
            drills.for_each(|_| async {}),
        );
    }
}
