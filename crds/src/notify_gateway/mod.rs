//! `NotifyGateway`: one fleet of WebSocket gateways (pure data).
//!
//! Everything but `broker` and `auth` has a default, and the API server fills it in, so a reader of
//! the object sees what is in force.

mod limits;
mod parts;
mod scaling;
mod status;
mod tuning;

pub use limits::LimitsSpec;
pub use parts::{
    Auth, Broker, BrokerType, ConfigMapKeyRef, Drain, EnvVar, Heartbeat, LocalRef, Nats, Placement,
    PodSettings, PullPolicy, ReconnectBudget, Resources, Rollout, SecretKeyRef, Service,
    ServiceType,
};
pub use scaling::{Prometheus, Scaling, ScalingQuery};
pub use status::NotifyGatewayStatus;
pub use tuning::{Breaker, Health};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The desired state of a fleet.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "NotifyGateway",
    plural = "notifygateways",
    shortname = "ng",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "NotifyGatewayStatus",
    doc = "A fleet of WebSocket notification gateways. Scale-in, rollouts and node drains move its clients within one reconnect budget.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Pods wanted"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods that stay and are ready"
    ),
    printcolumn(
        name = "Draining",
        type_ = "integer",
        json_path = ".status.drainingReplicas",
        description = "Pods whose clients are being moved"
    ),
    printcolumn(
        name = "Connections",
        type_ = "integer",
        json_path = ".status.connections",
        description = "Clients connected, about"
    ),
    printcolumn(
        name = "Budget",
        type_ = "string",
        json_path = ".status.reconnectBudget",
        description = "Reconnects per second in use / allowed"
    ),
    printcolumn(
        name = "Drill",
        type_ = "string",
        json_path = ".status.drill",
        description = "Running experiment"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::fleet_spec()))]
pub struct NotifyGatewaySpec {
    /// Container image of the gateway. Without it, the operator's own default is taken when the
    /// revision is made, and kept for that revision.
    #[schemars(length(max = 1024))]
    pub image: Option<String>,

    /// When the kubelet pulls the image.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,

    /// Secrets for pulling the image, in this namespace.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalRef>,

    /// Number of gateway pods. Written by `scaling` or an autoscaler through /scale; pods that
    /// drain come on top for a while.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// While true nothing is scaled, rolled out or drained on the operator's initiative. Missing
    /// pods are still made again, and drains that have begun go on.
    #[serde(default)]
    pub paused: bool,

    /// Connections one pod accepts. Must be drainable: at most reconnectBudget.ratePerSecond x
    /// drain.deadlineSeconds.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_pod: i32,

    /// Where notifications are kept and passed on between gateways.
    pub broker: Broker,

    /// How clients prove who they are.
    pub auth: Auth,

    /// The Service that clients connect to.
    #[serde(default)]
    pub service: Service,

    /// Settings of the gateway pods.
    #[serde(default)]
    pub pod: PodSettings,

    /// How a pod's clients are moved before it goes.
    #[serde(default)]
    pub drain: Drain,

    /// The fleet-wide limit on reconnects that disruptions may cause together.
    #[serde(default)]
    pub reconnect_budget: ReconnectBudget,

    /// How a changed spec reaches the pods.
    #[serde(default)]
    pub rollout: Rollout,

    /// How soon a lost peer is noticed, on both sides.
    #[serde(default)]
    pub heartbeat: Heartbeat,

    /// Bounds on what clients may send, hold and do. Changed by a rollout.
    #[serde(default)]
    pub limits: LimitsSpec,

    /// When a pod refuses new clients. Changed without a rollout.
    #[serde(default)]
    pub breaker: Breaker,

    /// When a connection is given up. Changed without a rollout.
    #[serde(default)]
    pub health: Health,

    /// Automatic scaling of `replicas`. Without it, `kubectl scale`, an HPA or KEDA may set them.
    pub scaling: Option<Scaling>,

    /// How pods are spread.
    #[serde(default)]
    pub placement: Placement,
}

fn default_replicas() -> i32 {
    3
}

fn default_max_connections() -> i32 {
    10_000
}

impl NotifyGateway {
    /// Number of pods wanted, never negative whatever was stored.
    pub fn desired(&self) -> u32 {
        u32::try_from(self.spec.replicas).unwrap_or(0)
    }
}
