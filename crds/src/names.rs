//! Names that more than one crate must agree on (pure): labels, annotations, finalizers and the
//! names of a fleet's objects.

/// Label: the `NotifyGateway` a pod belongs to.
pub const LABEL_FLEET: &str = "sluice.dev/fleet";
/// Label: the slot number of a pod; a pod is named `<fleet>-<slot>`.
pub const LABEL_SLOT: &str = "sluice.dev/slot";
/// Label: the revision (see [`revision`]) a pod was made from.
pub const LABEL_REVISION: &str = "sluice.dev/revision";
/// Label: the zone the pod was meant for; empty in clusters without zones.
pub const LABEL_ZONE: &str = "sluice.dev/zone";
/// Label: present (`"true"`) only while a pod takes new clients; the client Service selects it.
pub const LABEL_ACCEPTING: &str = "sluice.dev/accepting";
/// Label: present (`"true"`) from the moment a pod is chosen to go; the PDB leaves such pods out.
pub const LABEL_DRAINING: &str = "sluice.dev/draining";
/// Annotation: JSON `{"reason","since","deadline"}` of the drain that a pod is in.
pub const ANNOTATION_DRAIN: &str = "sluice.dev/drain";
/// Finalizer of a `ChaosExperiment`: gone once every target confirmed the revert.
pub const FINALIZER_REVERT: &str = "sluice.dev/revert";
/// Value of both "present" labels.
pub const TRUE: &str = "true";
/// Value of `app.kubernetes.io/name` on gateway pods.
pub const APP_NAME: &str = "sluice-gateway";
/// Value of `app.kubernetes.io/managed-by`, and the operator's field manager.
pub const MANAGER: &str = "sluice-operator";
/// Field manager of writes through `/scale`.
pub const SCALER_MANAGER: &str = "sluice-scaler";
/// Name of the gateway's container.
pub const CONTAINER: &str = "gateway";
/// Where the fleet Secret is mounted in a gateway pod.
pub const FLEET_DIR: &str = "/etc/sluice/fleet";
/// Keys of the fleet Secret.
pub const FLEET_KEYS: [&str; 3] = ["admin", "publish", "resume"];
/// Port (and its name) for clients.
pub const CLIENT_PORT: (&str, i32) = ("client", 8080);
/// Port (and its name) for publishers inside the cluster.
pub const PUBLISH_PORT: (&str, i32) = ("publish", 8081);
/// Port (and its name) for the operator and Prometheus.
pub const ADMIN_PORT: (&str, i32) = ("admin", 9090);

/// Name of the pod in a slot.
pub fn pod(fleet: &str, slot: u32) -> String {
    format!("{fleet}-{slot}")
}

/// Name of the headless Service for publishers, the operator and Prometheus.
pub fn internal_service(fleet: &str) -> String {
    format!("{fleet}-internal")
}

/// Name of the fleet Secret.
pub fn fleet_secret(fleet: &str) -> String {
    format!("{fleet}-fleet")
}

/// Name of the `ControllerRevision` of a revision hash.
pub fn revision(fleet: &str, hash: &str) -> String {
    format!("{fleet}-{hash}")
}
