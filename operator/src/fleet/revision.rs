//! Which settings make a gateway a different gateway (pure). A revision is what the user wrote, never
//! how this version of the operator renders it: an upgrade of the operator alone touches no pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sluice_crds::NotifyGatewaySpec;
use sluice_crds::notify_gateway::{
    Auth, Broker, Drain, Heartbeat, LimitsSpec, LocalRef, Nats, Placement, PodSettings, PullPolicy,
};

/// The part of a `NotifyGatewaySpec` that reaches pods. A change here is a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// spec.image, as the user wrote it.
    pub image: Option<String>,
    /// spec.imagePullPolicy
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// spec.imagePullSecrets
    #[serde(default)]
    pub image_pull_secrets: Vec<LocalRef>,
    /// spec.maxConnectionsPerPod
    pub max_connections_per_pod: i32,
    /// spec.broker
    pub broker: Broker,
    /// spec.auth
    pub auth: Auth,
    /// spec.pod
    #[serde(default)]
    pub pod: PodSettings,
    /// spec.drain, but for the taints: those are read by the operator only.
    #[serde(default)]
    pub drain: Drain,
    /// spec.heartbeat
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// spec.limits
    #[serde(default)]
    pub limits: LimitsSpec,
    /// spec.placement
    #[serde(default)]
    pub placement: Placement,
}

/// Kubernetes' own alphabet for names made by machines: no vowels, so no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Template {
    /// Takes the part that reaches pods out of a spec. A new field of the spec does not compile
    /// until it is put on one side.
    pub fn of(spec: &NotifyGatewaySpec) -> Self {
        let NotifyGatewaySpec {
            image,
            image_pull_policy,
            image_pull_secrets,
            replicas: _,
            paused: _,
            max_connections_per_pod,
            broker,
            auth,
            service: _,
            pod,
            drain,
            // The operator tells running drains their rate; what a pod was started with is only
            // its limit when there is no operator.
            reconnect_budget: _,
            rollout: _,
            heartbeat,
            limits,
            // Running gateways are told of these: see `tuning`.
            breaker: _,
            health: _,
            scaling: _,
            placement,
        } = spec.clone();
        Self {
            image,
            image_pull_policy,
            image_pull_secrets,
            max_connections_per_pod,
            broker,
            auth,
            pod,
            drain: Drain {
                disruption_taints: Vec::new(),
                ..drain
            },
            heartbeat,
            limits,
            placement,
        }
    }

    /// Ten characters that stand for the template. Values that are the default are left out, so a
    /// later version with more fields gives the same ten.
    pub fn hash(&self) -> String {
        let own = serde_json::to_value(self).unwrap_or_default();
        let defaults = serde_json::to_value(Self::defaults()).unwrap_or_default();
        short_hash(own, &defaults)
    }

    /// What the API server fills in. These are frozen with v1alpha1: to change one is to roll out
    /// every fleet that relies on it.
    fn defaults() -> Self {
        Self {
            image: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            max_connections_per_pod: 10_000,
            broker: Broker {
                nats: Some(Nats {
                    url: String::new(),
                    stream: "SLUICE".to_owned(),
                    replicas: 3,
                    history_max_age_seconds: 3600,
                    history_max_per_channel: 1000,
                }),
                ..Broker::default()
            },
            auth: Auth::default(),
            pod: PodSettings::default(),
            drain: Drain {
                disruption_taints: Vec::new(),
                ..Drain::default()
            },
            heartbeat: Heartbeat::default(),
            limits: LimitsSpec::default(),
            placement: Placement::default(),
        }
    }
}

/// Ten characters that stand for what of a value is not the default.
pub fn short_hash(own: Value, defaults: &Value) -> String {
    let short = without_defaults(own, defaults);
    let digest = Sha256::digest(canonical(&short).as_bytes());
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// Drops what is null, empty or the default, at every depth of objects.
fn without_defaults(value: Value, default: &Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    map.into_iter()
        .filter_map(|(key, below)| {
            let default = default.get(&key).unwrap_or(&Value::Null);
            let below = without_defaults(below, default);
            let empty = match &below {
                Value::Null => true,
                Value::Object(map) => map.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            (!empty && below != *default).then_some((key, below))
        })
        .collect::<Map<_, _>>()
        .into()
}

/// JSON with sorted keys, whatever map this build of serde_json uses.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            let inner: Vec<_> = keys
                .into_iter()
                .map(|key| format!("{}:{}", Value::from(key.as_str()), canonical(&map[key])))
                .collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => {
            let inner: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", inner.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Template;
    use sluice_crds::NotifyGatewaySpec;

    fn spec(text: &str) -> NotifyGatewaySpec {
        serde_yaml::from_str(text).unwrap()
    }

    const MINIMAL: &str =
        "{broker: {type: nats, nats: {url: 'nats://n:4222'}}, auth: {hmacSecretRef: {name: k}}}";

    #[test]
    fn a_hash_outlives_versions_of_the_operator() {
        // When this fails, every fleet there is would be rolled out by an upgrade.
        assert_eq!(Template::of(&spec(MINIMAL)).hash(), "6ft69229nz");
    }

    #[test]
    fn defaults_written_out_and_what_needs_no_rollout_are_the_same_revision() {
        let long = spec(
            "{image: null, maxConnectionsPerPod: 10000, replicas: 7, paused: true,
              broker: {type: nats, nats: {url: 'nats://n:4222', stream: SLUICE, replicas: 3}},
              auth: {hmacSecretRef: {name: k}}, pod: {env: []}, drain: {disruptionTaints: [x]},
              breaker: {memoryPercent: 70}, health: {stallSeconds: 9},
              limits: {windowMessages: 256}, reconnectBudget: {ratePerSecond: 500}}",
        );
        assert_eq!(
            Template::of(&long).hash(),
            Template::of(&spec(MINIMAL)).hash()
        );
    }

    #[test]
    fn what_reaches_pods_makes_another_revision() {
        let base = Template::of(&spec(MINIMAL)).hash();
        for change in [
            "image: other",
            "maxConnectionsPerPod: 9999",
            "pod: {env: [{name: A, value: b}]}",
            "drain: {deadlineSeconds: 61}",
            "heartbeat: {clientSeconds: 5}",
            "limits: {windowBytes: 300000}",
            "placement: {zoneTopologyKey: rack}",
            "imagePullSecrets: [{name: r}]",
        ] {
            let changed = spec(&format!("{{{change}, {}", &MINIMAL[1..]));
            assert_ne!(Template::of(&changed).hash(), base, "{change}");
        }
    }
}
