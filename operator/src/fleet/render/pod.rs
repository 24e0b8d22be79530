//! A gateway pod (pure).

use super::{labels, owner, patch};
use crate::fleet::observed::{FleetView, RevisionData};
use crate::fleet::revision::Template;
use crate::fleet::tuning::Tuning;
use crate::limits;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sluice_crds::names;
use sluice_crds::notify_gateway::{BrokerType, LimitsSpec};

/// User and group the gateway runs as; a number, so that `runAsNonRoot` needs no look at the image.
const USER: i64 = 65_532;
/// Where the key or key set that verifies tokens is mounted.
const AUTH_DIR: &str = "/etc/sluice/auth";

/// What a pod is made of, beside its fleet.
pub struct Wanted<'a> {
    /// Its slot.
    pub slot: u32,
    /// Zone it must run in; empty for any.
    pub zone: &'a str,
    /// Hash of its revision.
    pub hash: &'a str,
    /// Its revision.
    pub revision: &'a RevisionData,
    /// Thresholds of the moment; its gateway is told when they change.
    pub tuning: &'a Tuning,
    /// The fleet's reconnect budget: its limit when no operator is there to pace it.
    pub rate_per_second: i32,
}

/// Renders a pod, or says why `podPatch` makes none of it.
pub fn pod(fleet: &FleetView, wanted: &Wanted<'_>) -> Result<Pod, String> {
    let template = &wanted.revision.template;
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": template.pod.labels,
            "annotations": template.pod.annotations,
        },
        "spec": spec(fleet, wanted),
    });
    if let Some(change) = &template.pod.pod_patch {
        if !change.is_object() {
            return Err("podPatch must be an object".to_owned());
        }
        patch::merge(&mut object, change);
    }
    // After the patch: these are what the operator knows its pods by.
    patch::merge(&mut object, &json!({"metadata": identity(fleet, wanted)}));
    serde_json::from_value(object).map_err(|error| format!("podPatch makes no valid pod: {error}"))
}

/// Name, owner and labels of a pod.
fn identity(fleet: &FleetView, wanted: &Wanted<'_>) -> Value {
    let mut all = labels(fleet);
    for (key, value) in [
        (names::LABEL_SLOT, wanted.slot.to_string()),
        (names::LABEL_REVISION, wanted.hash.to_owned()),
        (names::LABEL_ZONE, wanted.zone.to_owned()),
        (names::LABEL_ACCEPTING, names::TRUE.to_owned()),
    ] {
        all.insert(key.to_owned(), value);
    }
    json!({
        "name": names::pod(&fleet.name, wanted.slot),
        "generateName": null,
        "namespace": fleet.namespace,
        "labels": all,
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        "ownerReferences": [owner(fleet)],
    })
}

fn spec(fleet: &FleetView, wanted: &Wanted<'_>) -> Value {
    let template = &wanted.revision.template;
    let mut spec = json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": template.drain.termination_grace_period_seconds,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": template.image_pull_secrets,
        "nodeSelector": template.pod.node_selector,
        "tolerations": tolerations(template),
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {names::LABEL_FLEET: fleet.name}},
        }],
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(fleet, wanted)],
        "volumes": volumes(fleet, template),
    });
    if let Some(class) = &template.pod.priority_class_name {
        spec["priorityClassName"] = Value::from(class.as_str());
    }
    if let Some(account) = &template.pod.service_account_name {
        spec["serviceAccountName"] = Value::from(account.as_str());
    }
    if !wanted.zone.is_empty() {
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{
                "key": template.placement.zone_topology_key,
                "operator": "In",
                "values": [wanted.zone],
            }]}],
        }}});
    }
    spec
}

/// The user's tolerations, and a short one for lost nodes unless the user speaks of them.
fn tolerations(template: &Template) -> Value {
    let mut all = json!(template.pod.tolerations);
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let spoken_of = template.pod.tolerations.iter().any(|toleration| {
            toleration
                .key
                .as_deref()
                .is_none_or(|own| own.is_empty() || own == key)
        });
        if let (false, Value::Array(list)) = (spoken_of, &mut all) {
            list.push(json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": limits::LOST_NODE_SECONDS,
            }));
        }
    }
    all
}

fn container(fleet: &FleetView, wanted: &Wanted<'_>) -> Value {
    let template = &wanted.revision.template;
    let port = |(name, number): (&str, i32)| json!({"name": name, "containerPort": number, "protocol": "TCP"});
    let probe = |path: &str| json!({"path": path, "port": names::ADMIN_PORT.0});
    let field = |path: String| json!({"fieldRef": {"fieldPath": path}});
    let mut env = vec![
        json!({"name": "SLUICE_POD", "valueFrom": field("metadata.name".to_owned())}),
        json!({"name": "SLUICE_ZONE", "valueFrom": field(format!("metadata.labels['{}']", names::LABEL_ZONE))}),
    ];
    env.extend(template.pod.env.iter().map(|own| json!(own)));
    json!({
        "name": names::CONTAINER,
        "image": wanted.revision.image,
        "imagePullPolicy": template.image_pull_policy,
        "args": args(fleet, wanted),
        "env": env,
        "ports": [port(names::CLIENT_PORT), port(names::PUBLISH_PORT), port(names::ADMIN_PORT)],
        "resources": resources(template),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        // Readiness is looked at every second: it is on the way of every replacement.
        "readinessProbe": {"httpGet": probe("/readyz"), "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        // /livez fails only when the process is stuck for a minute; a restart cuts every client off.
        "livenessProbe": {"httpGet": probe("/livez"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "volumeMounts": mounts(template),
    })
}

/// What the user says; where nothing is said, enough not to be the first that a busy node starves or evicts. A limit alone is
/// a request too: Kubernetes takes it for one.
fn resources(template: &Template) -> Value {
    let given = &template.pod.resources;
    let mut requests = json!(given.requests);
    for (name, least) in limits::DEFAULT_REQUESTS {
        if !given.requests.contains_key(name) && !given.limits.contains_key(name) {
            requests[name] = Value::from(least);
        }
    }
    json!({"requests": requests, "limits": given.limits})
}

/// The gateway's command line.
fn args(fleet: &FleetView, wanted: &Wanted<'_>) -> Vec<String> {
    let template = &wanted.revision.template;
    let mut args = Vec::new();
    let mut add = |name: &str, value: &str| args.push(format!("--{name}={value}"));
    add("fleet", &fleet.name);
    add("fleet-dir", names::FLEET_DIR);
    match (template.broker.kind, &template.broker.nats) {
        (BrokerType::Nats, Some(nats)) => {
            add("broker", "nats");
            add("nats-url", &nats.url);
            add("nats-stream", &nats.stream);
            add("nats-replicas", &nats.replicas.to_string());
            add(
                "history-max-age-seconds",
                &nats.history_max_age_seconds.to_string(),
            );
            add(
                "history-max-per-channel",
                &nats.history_max_per_channel.to_string(),
            );
        }
        _ => add("broker", "memory"),
    }
    let auth = &template.auth;
    if let Some(secret) = &auth.hmac_secret_ref {
        add("jwt-hmac-file", &format!("{AUTH_DIR}/{}", secret.key));
    }
    if let Some(map) = &auth.jwks_config_map_ref {
        add("jwks-file", &format!("{AUTH_DIR}/{}", map.key));
    }
    for (name, value) in [
        ("jwks-url", &auth.jwks_url),
        ("jwt-issuer", &auth.issuer),
        ("jwt-audience", &auth.audience),
    ] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    for (name, value) in [
        ("max-connections", template.max_connections_per_pod),
        ("max-message-bytes", template.limits.message_bytes),
        ("window-messages", template.limits.window_messages),
        ("window-bytes", template.limits.window_bytes),
        ("endpoint-lag-seconds", template.drain.endpoint_lag_seconds),
        (
            "grace-period-seconds",
            template.drain.termination_grace_period_seconds,
        ),
        ("drain-deadline-seconds", template.drain.deadline_seconds),
        ("reconnect-rate-per-second", wanted.rate_per_second),
        (
            "heartbeat-client-seconds",
            template.heartbeat.client_seconds,
        ),
        (
            "heartbeat-client-timeout-seconds",
            template.heartbeat.client_timeout_seconds,
        ),
        (
            "heartbeat-server-seconds",
            template.heartbeat.server_seconds,
        ),
        (
            "heartbeat-server-timeout-seconds",
            template.heartbeat.server_timeout_seconds,
        ),
    ] {
        add(name, &value.to_string());
    }
    for (name, value) in client_limits(&template.limits) {
        add(name, &value.to_string());
    }
    for (name, value) in wanted.tuning.args() {
        add(&name, &value);
    }
    args
}

/// Bounds on what clients do that are not the gateway's own defaults.
fn client_limits(own: &LimitsSpec) -> impl Iterator<Item = (&'static str, i32)> {
    let usual = LimitsSpec::default();
    let limit = |name, pick: fn(&LimitsSpec) -> i32| {
        let value = pick(own);
        (value != pick(&usual)).then_some((name, value))
    };
    [
        limit("max-connections-per-user", |l| l.max_connections_per_user),
        limit("max-connections-per-address", |l| {
            l.max_connections_per_address
        }),
        limit("handshakes-per-second", |l| l.handshakes_per_second),
        limit("handshakes-per-minute-per-user", |l| {
            l.handshakes_per_minute_per_user
        }),
        limit("handshakes-per-minute-per-address", |l| {
            l.handshakes_per_minute_per_address
        }),
        limit("client-messages-per-second", |l| {
            l.client_messages_per_second
        }),
        limit("trusted-proxy-hops", |l| l.trusted_proxy_hops),
    ]
    .into_iter()
    .flatten()
}

/// Secrets and key sets only: an emptyDir would keep `kubectl drain` and autoscalers from evicting.
fn volumes(fleet: &FleetView, template: &Template) -> Value {
    let mut volumes = vec![json!({
        "name": "fleet",
        "secret": {"secretName": names::fleet_secret(&fleet.name), "defaultMode": 0o440},
    })];
    if let Some(secret) = &template.auth.hmac_secret_ref {
        volumes.push(
            json!({"name": "auth", "secret": {"secretName": secret.name, "defaultMode": 0o440}}),
        );
    }
    if let Some(map) = &template.auth.jwks_config_map_ref {
        volumes
            .push(json!({"name": "auth", "configMap": {"name": map.name, "defaultMode": 0o440}}));
    }
    Value::Array(volumes)
}

fn mounts(template: &Template) -> Value {
    let mut mounts =
        vec![json!({"name": "fleet", "mountPath": names::FLEET_DIR, "readOnly": true})];
    if template.auth.hmac_secret_ref.is_some() || template.auth.jwks_config_map_ref.is_some() {
        mounts.push(json!({"name": "auth", "mountPath": AUTH_DIR, "readOnly": true}));
    }
    Value::Array(mounts)
}
