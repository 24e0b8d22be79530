//! What the cluster says now (effects), read once. Gateways are asked through the API server, so
//! nothing else needs to be reachable; without leave to do so their numbers are unknown.

use crate::fleet::observed::{
    Defaults, FleetView, GatewayState, GatewayView, Observed, PodView, ServingState,
};
use crate::fleet::{looks, views};
use crate::watch;
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use sluice_crds::names;
use std::fmt::Debug;
use std::sync::Arc;

/// A cluster and a namespace.
pub struct Live {
    /// The API server.
    pub client: Client,
    /// Namespace of everything that is named.
    pub namespace: String,
}

impl Live {
    /// Connects as kubectl would.
    pub async fn connect(
        kubeconfig: Option<String>,
        context: Option<String>,
        namespace: Option<String>,
    ) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let explicit = kubeconfig.is_some() || options.context.is_some();
        let config = if let Some(path) = kubeconfig.filter(|path| !path.contains(':')) {
            let file = Kubeconfig::read_from(&path).with_context(|| format!("reading {path}"))?;
            Config::from_custom_kubeconfig(file, &options).await?
        } else if explicit {
            Config::from_kubeconfig(&options).await?
        } else {
            Config::infer().await?
        };
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("making a client of the API server")?;
        Ok(Self { client, namespace })
    }

    /// The API of one of our kinds.
    pub fn ours(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// The objects of one of our kinds.
    pub async fn list(&self, resource: &ApiResource) -> anyhow::Result<Vec<DynamicObject>> {
        let listed = self.ours(resource).list(&ListParams::default()).await;
        Ok(listed
            .with_context(|| format!("listing {}", resource.plural))?
            .items)
    }

    /// One object of one of our kinds.
    pub async fn get(&self, resource: &ApiResource, name: &str) -> anyhow::Result<DynamicObject> {
        let found = self.ours(resource).get_opt(name).await;
        found
            .with_context(|| format!("reading {} {name}", resource.kind))?
            .with_context(|| {
                let Self { namespace, .. } = self;
                format!(
                    "there is no {} {name} in namespace {namespace}",
                    resource.kind
                )
            })
    }

    /// A fleet as the operator would observe it, but for its scaling metrics and what only the
    /// operator remembers.
    pub async fn observe(&self, name: &str, image: &str) -> anyhow::Result<Observed> {
        let fleet = views::fleet(&self.get(&watch::fleets(), name).await?);
        let uid = fleet.uid.clone();
        let pods = self.pods(&fleet).await?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes
            .list(&ListParams::default())
            .await
            .context("listing nodes")?;
        let services: Vec<Service> = self.labelled(name).await?;
        let budgets: Vec<PodDisruptionBudget> = self.labelled(name).await?;
        let revisions: Vec<ControllerRevision> = self.labelled(name).await?;
        let experiments = self.list(&watch::experiments()).await?;
        let experiments: Vec<_> = experiments.into_iter().map(Arc::new).collect();
        let children = services
            .iter()
            .filter(|service| views::owned(&service.metadata, &uid))
            .filter_map(|service| views::service(name, service))
            .chain(
                budgets
                    .iter()
                    .filter(|budget| views::owned(&budget.metadata, &uid))
                    .filter_map(|budget| views::budget(name, budget)),
            )
            .collect();
        Ok(Observed {
            drill: looks::running_drill(&experiments, &self.namespace, name),
            defaults: Defaults {
                gateway_image: image.to_owned(),
            },
            pods,
            nodes: nodes.items.iter().map(views::node).collect(),
            children,
            // Keys are not for whoever may read fleets: the operator keeps them complete by itself.
            secret_present: true,
            revisions: revisions
                .iter()
                .filter(|revision| views::owned(&revision.metadata, &uid))
                .map(views::revision)
                .collect(),
            metrics: None,
            scale_memory: crate::fleet::observed::ScaleMemory::default(),
            fleet,
        })
    }

    /// The pods of a fleet with what their gateways say.
    pub async fn pods(&self, fleet: &FleetView) -> anyhow::Result<Vec<PodView>> {
        let pods: Vec<Pod> = self.labelled(&fleet.name).await?;
        let mut views: Vec<_> = pods
            .iter()
            .filter(|pod| views::owned(&pod.metadata, &fleet.uid))
            .map(views::pod)
            .collect();
        views.sort_by(|a, b| (a.slot, &a.name).cmp(&(b.slot, &b.name)));
        let asked = views.iter().map(|pod| self.gateway(pod));
        let answers = futures::future::join_all(asked).await;
        for (pod, answer) in views.iter_mut().zip(answers) {
            pod.gateway = answer.map_or(GatewayView::Unseen, GatewayView::Seen);
        }
        Ok(views)
    }

    async fn labelled<K>(&self, fleet: &str) -> anyhow::Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(&format!("{}={fleet}", names::LABEL_FLEET));
        let listed = api.list(&ours).await;
        Ok(listed
            .with_context(|| format!("listing {}", K::plural(&())))?
            .items)
    }

    /// A gateway's `/metrics`, through the API server.
    async fn gateway(&self, pod: &PodView) -> Option<GatewayState> {
        if !pod.container_running {
            return None;
        }
        let (namespace, name, port) = (&self.namespace, &pod.name, names::ADMIN_PORT.1);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        let text = self.client.request_text(request).await.ok()?;
        gateway_state(&text, Timestamp::now())
    }
}

/// What a gateway's metrics say of it.
fn gateway_state(text: &str, at: Timestamp) -> Option<GatewayState> {
    let value = |name: &str| {
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        let line = text.lines().find(of_name)?;
        let number = line.rsplit_once('}').map_or(line, |(_, rest)| rest);
        number
            .split_whitespace()
            .find_map(|word| word.parse::<f64>().ok())
    };
    Some(GatewayState {
        at,
        boot_id: String::new(),
        state: match value("sluice_drain_state").unwrap_or_default() as i64 {
            0 => ServingState::Serving,
            1 => ServingState::Draining,
            _ => ServingState::Closing,
        },
        connections: value("sluice_connections")? as u64,
        moved: value("sluice_drain_moved_total").unwrap_or_default() as u64,
        rate_milli: 0,
        deadline: None,
        limits: None,
    })
}

#[cfg(test)]
mod tests {
    use super::gateway_state;
    use crate::fleet::observed::ServingState;
    use jiff::Timestamp;

    #[test]
    fn metrics_say_what_a_gateway_does() {
        let text = "# HELP sluice_connections x\n# TYPE sluice_connections gauge\n\
            sluice_connections_limit 9\nsluice_connections{shard=\"1\"} 42 1700000000\nsluice_drain_state 1\n";
        let state = gateway_state(text, Timestamp::UNIX_EPOCH);
        let said = state.map(|state| (state.connections, state.state, state.moved));
        assert_eq!(said, Some((42, ServingState::Draining, 0)));
        assert_eq!(gateway_state("nothing 1\n", Timestamp::UNIX_EPOCH), None);
    }
}
