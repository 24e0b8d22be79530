//! The parts of a `NotifyGatewaySpec` (pure data), each with the defaults that the schema carries.

use crate::{rules, schema};
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When the kubelet pulls an image.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum PullPolicy {
    /// Only when the node lacks it.
    #[default]
    IfNotPresent,
    /// Before every start.
    Always,
    /// Never; the node must have it.
    Never,
}

/// A reference to an object in the fleet's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where notifications are kept and passed on between gateways.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::broker()))]
pub struct Broker {
    /// Kind of broker: nats (JetStream), or memory, which lives in a single pod and loses
    /// everything with it.
    #[serde(rename = "type")]
    pub kind: BrokerType,

    /// Settings of the NATS JetStream broker; needed with type nats.
    pub nats: Option<Nats>,

    /// Says that notifications may be lost with the pod; needed with type memory.
    #[serde(default)]
    pub accept_loss: bool,
}

/// Kind of broker.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BrokerType {
    /// NATS JetStream.
    #[default]
    Nats,
    /// Inside a single gateway; nothing survives it.
    Memory,
}

/// Settings of the NATS JetStream broker.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nats {
    /// Address of the NATS servers, comma-separated when several, for example
    /// nats://sluice-nats.sluice-system:4222.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,

    /// Name of the stream that holds the notifications; created when absent. Fleets with the same
    /// stream share their channels.
    #[serde(default = "default_stream")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub stream: String,

    /// NATS servers that each hold a copy.
    #[serde(default = "default_nats_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,

    /// Seconds a notification can be resumed from.
    #[serde(default = "default_history_age")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub history_max_age_seconds: i32,

    /// Notifications per channel that can be resumed from.
    #[serde(default = "default_history_count")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub history_max_per_channel: i32,
}

fn default_stream() -> String {
    "SLUICE".to_owned()
}

fn default_nats_replicas() -> i32 {
    3
}

fn default_history_age() -> i32 {
    3600
}

fn default_history_count() -> i32 {
    1000
}

/// How clients prove who they are: JSON Web Tokens, checked by one of three sources of keys.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::auth()))]
pub struct Auth {
    /// Shared secret for HS256 tokens.
    pub hmac_secret_ref: Option<SecretKeyRef>,

    /// Address of a JSON Web Key Set (EdDSA, RS256), fetched again when an unknown key is named.
    #[schemars(length(max = 2048), regex(pattern = "^https?://.+"))]
    pub jwks_url: Option<String>,

    /// JSON Web Key Set in a ConfigMap.
    pub jwks_config_map_ref: Option<ConfigMapKeyRef>,

    /// Required `iss` of tokens; not checked when absent.
    #[schemars(length(max = 1024))]
    pub issuer: Option<String>,

    /// Required `aud` of tokens; not checked when absent.
    #[schemars(length(max = 1024))]
    pub audience: Option<String>,
}

/// One key of a Secret in the fleet's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within it.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "key".to_owned()
}

/// One key of a ConfigMap in the fleet's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within it.
    #[serde(default = "default_config_map_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_config_map_key() -> String {
    "jwks.json".to_owned()
}

/// The Service that clients connect to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::service()))]
pub struct Service {
    /// Kind of Service.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Port that clients connect to.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Port on every node, with type NodePort or LoadBalancer; the cluster picks one when absent.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
    /// Annotations of the Service, for example for a load balancer.
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            kind: ServiceType::ClusterIp,
            port: 80,
            node_port: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// Kind of Service.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reachable at a port of every node.
    NodePort,
    /// Reachable through the platform's load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The name Kubernetes knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Settings of the gateway pods.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// CPU and memory of the gateway container. Where neither a request nor a limit is given, 100m of CPU and 128Mi of memory
    /// are requested: a pod that requests nothing gets no processor time on a busy node and is evicted first. Request 0 to
    /// ask for nothing.
    pub resources: Resources,
    /// Labels a node must have.
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods tolerate.
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// ServiceAccount of the pods; its token is not mounted. The namespace's default when absent.
    #[schemars(length(max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Environment of the gateway container, after what the operator sets.
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// More labels for the pods; sluice.dev/ labels are the operator's.
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// More annotations for the pods.
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Merge patch (RFC 7386, and containers, volumes and env by name) on the finished pod
    /// (`metadata` and `spec`), for everything without a field here.
    #[schemars(schema_with = "schema::free_object")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_patch: Option<serde_json::Value>,
}

/// CPU and memory, as in a container.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(default)]
pub struct Resources {
    /// What the scheduler reserves.
    #[schemars(schema_with = "schema::resource_list")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What the container may not exceed.
    #[schemars(schema_with = "schema::resource_list")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// One environment variable.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its value.
    #[serde(default)]
    #[schemars(length(max = 32_768))]
    pub value: String,
}

/// How a pod's clients are moved before it goes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::drain()))]
pub struct Drain {
    /// Seconds a pod's clients are given to move; who is left then is disconnected.
    #[schemars(range(min = 1, max = 86_400))]
    pub deadline_seconds: i32,
    /// Seconds Kubernetes waits after SIGTERM before it kills a pod.
    #[schemars(range(min = 12, max = 90_000))]
    pub termination_grace_period_seconds: i32,
    /// Seconds a pod still accepts clients after SIGTERM, because endpoints lag behind.
    #[schemars(range(min = 0, max = 300))]
    pub endpoint_lag_seconds: i32,
    /// Node taints that mean "this node goes away": its pods are replaced and drained.
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub disruption_taints: Vec<String>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline_seconds: 60,
            termination_grace_period_seconds: 90,
            endpoint_lag_seconds: 5,
            disruption_taints: [
                "node.kubernetes.io/unschedulable",
                "ToBeDeletedByClusterAutoscaler",
                "karpenter.sh/disrupted",
                "karpenter.sh/disruption",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }
}

/// The fleet-wide limit on reconnects that disruptions may cause together.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconnectBudget {
    /// Reconnects per second over the whole fleet. Changing it needs no rollout: running drains
    /// are told.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate_per_second: i32,
}

impl Default for ReconnectBudget {
    fn default() -> Self {
        Self {
            rate_per_second: 200,
        }
    }
}

/// How a changed spec reaches the pods.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Pods that may exist on top of `replicas` so that a replacement is ready before its
    /// predecessor drains.
    #[schemars(range(min = 1, max = 100))]
    pub max_surge: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge: 1 }
    }
}

/// How soon a lost peer is noticed, on both sides.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// Seconds of silence after which a client sends a ping.
    #[schemars(range(min = 1, max = 3600))]
    pub client_seconds: i32,
    /// Seconds a client waits for the answer.
    #[schemars(range(min = 1, max = 600))]
    pub client_timeout_seconds: i32,
    /// Seconds of silence after which the gateway sends a ping.
    #[schemars(range(min = 1, max = 3600))]
    pub server_seconds: i32,
    /// Seconds the gateway waits for the answer.
    #[schemars(range(min = 1, max = 600))]
    pub server_timeout_seconds: i32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            client_seconds: 15,
            client_timeout_seconds: 8,
            server_seconds: 30,
            server_timeout_seconds: 6,
        }
    }
}

/// How pods are spread.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// Node label whose values are the zones; pods are spread over them evenly.
    #[schemars(length(min = 1, max = 316))]
    pub zone_topology_key: String,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            zone_topology_key: "topology.kubernetes.io/zone".to_owned(),
        }
    }
}
