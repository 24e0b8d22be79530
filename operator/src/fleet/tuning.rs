//! Thresholds that gateways are told while they run (pure): what they are called on a command line and over the admin API.
//! They are no part of a revision; pods are started with those of the moment, and told when these change.

use super::revision::short_hash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sluice_crds::NotifyGatewaySpec;
use sluice_crds::notify_gateway::{Breaker, Health};

/// The part of a `NotifyGatewaySpec` that reaches pods without a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// spec.breaker
    pub breaker: Breaker,
    /// spec.health
    pub health: Health,
}

impl Tuning {
    /// Takes it out of a spec.
    pub fn of(spec: &NotifyGatewaySpec) -> Self {
        Self {
            breaker: spec.breaker.clone(),
            health: spec.health.clone(),
        }
    }

    /// Ten characters that stand for all values. Gateways repeat them, so that one that was not told is known. A later
    /// version with more fields gives the same ten while those have their defaults.
    pub fn generation(&self) -> String {
        let defaults = json!(Self::default());
        short_hash(json!(self), &defaults)
    }

    /// Flags of the gateway and their values.
    pub fn args(&self) -> Vec<(String, String)> {
        let values = self.groups().into_iter().flat_map(|(group, fields)| {
            let flag = move |name: String| format!("{group}-{}", words(&name, '-'));
            fields
                .into_iter()
                .map(move |(name, value)| (flag(name), value.to_string()))
        });
        let generation = ("limits-generation".to_owned(), self.generation());
        std::iter::once(generation).chain(values).collect()
    }

    /// Body of `PUT /v1/limits`, but for the term.
    pub fn body(&self) -> Value {
        let mut body = json!({"generation": self.generation()});
        for (group, fields) in self.groups() {
            let fields: Map<_, _> = fields
                .into_iter()
                .map(|(name, value)| (words(&name, '_'), value))
                .collect();
            body[group] = Value::Object(fields);
        }
        body
    }

    fn groups(&self) -> Vec<(&'static str, Map<String, Value>)> {
        [
            ("breaker", json!(self.breaker)),
            ("health", json!(self.health)),
        ]
        .into_iter()
        .filter_map(|(group, value)| match value {
            Value::Object(fields) => Some((group, fields)),
            _ => None,
        })
        .collect()
    }
}

/// `camelCase` as lower-case words.
fn words(name: &str, between: char) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push(between);
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Tuning;
    use serde_json::json;

    #[test]
    fn a_generation_outlives_versions_of_the_operator() {
        // When this fails, an upgrade tells every gateway there is.
        assert_eq!(Tuning::default().generation(), "szfcgw5fwv");
        let mut other = Tuning::default();
        other.breaker.memory_percent = 70;
        assert_ne!(other.generation(), Tuning::default().generation());
        other.breaker.memory_percent = 80;
        assert_eq!(other.generation(), Tuning::default().generation());
    }

    #[test]
    fn flags_and_body_are_the_gateways() {
        let tuning = Tuning::default();
        let flags: Vec<_> = tuning
            .args()
            .into_iter()
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect();
        assert_eq!(
            flags[1..],
            [
                "--breaker-connections-percent=95",
                "--breaker-half-open-seconds=5",
                "--breaker-margin-percent=5",
                "--breaker-max-tasks=0",
                "--breaker-memory-percent=80",
                "--breaker-open-seconds=5",
                "--breaker-probes-per-second=10",
                "--health-answer-seconds=3",
                "--health-evict-after-seconds=5",
                "--health-evict-below=40",
                "--health-stall-seconds=5",
                "--health-trip-connections=3",
                "--health-trip-evictions=0",
                "--health-trip-seconds=60",
                "--health-trip-window-seconds=300",
                "--health-window-seconds=120",
            ]
        );
        assert_eq!(
            tuning.body(),
            json!({
                "generation": tuning.generation(),
                "breaker": {
                    "connections_percent": 95, "memory_percent": 80, "margin_percent": 5, "max_tasks": 0,
                    "open_seconds": 5, "half_open_seconds": 5, "probes_per_second": 10,
                },
                "health": {
                    "window_seconds": 120, "stall_seconds": 5, "answer_seconds": 3, "evict_below": 40,
                    "evict_after_seconds": 5, "trip_evictions": 0, "trip_window_seconds": 300, "trip_seconds": 60,
                    "trip_connections": 3,
                },
            })
        );
    }
}
