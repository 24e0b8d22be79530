//! How many pods there should be (pure): the HorizontalPodAutoscaler's arithmetic and caution.
//!
//! Every metric is a fleet-wide total with a target per pod. The largest answer wins. A metric
//! that says nothing never scales in: with one missing, the others may only scale out.

use super::observed::{
    CONNECTIONS_METRIC, MetricOutcome, MetricsView, Recommendation, ScaleMemory,
};
use crate::limits;
use jiff::{SignedDuration, Timestamp};
use sluice_crds::notify_gateway::Scaling;
use sluice_crds::quantity::parse_milli;

/// What the scaler concludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Pods there should be.
    pub replicas: u32,
    /// Whether the metrics can be relied on.
    pub active: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// What to remember of this look.
    pub recommendation: Option<Recommendation>,
}

/// Decides on the replicas of a fleet that has `current` of them.
pub fn decide(
    scaling: &Scaling,
    current: u32,
    metrics: Option<&MetricsView>,
    memory: &ScaleMemory,
    now: Timestamp,
) -> Decision {
    let hold = |active, reason, message: &str| Decision {
        replicas: current,
        active,
        reason,
        message: message.to_owned(),
        recommendation: None,
    };
    if current == 0 {
        return hold(
            false,
            "ScaledToZero",
            "spec.replicas is 0, which switches scaling off",
        );
    }
    let least = scaling.min_replicas.max(1) as u32;
    let most = scaling.max_replicas.max(1) as u32;
    if current < least || current > most {
        // The user's bounds need no metric.
        return Decision {
            replicas: current.clamp(least, most.max(least)),
            ..hold(
                true,
                "OutOfBounds",
                "spec.replicas was outside scaling.minReplicas and maxReplicas",
            )
        };
    }
    let Some(metrics) = metrics else {
        return hold(
            false,
            "NoMetrics",
            "no metric has been read yet; replicas stay as they are",
        );
    };
    let stale = SignedDuration::from_secs(i64::from(scaling.sync_seconds) * limits::STALE_LOOKS);
    if now.duration_since(metrics.at) > stale {
        return hold(
            false,
            "StaleMetrics",
            "the last metrics are too old; replicas stay as they are",
        );
    }
    let answers = Answers::of(scaling, current, metrics);
    let Some((wanted, by)) = answers.largest.clone() else {
        return hold(false, "NoMetrics", &answers.complaint());
    };
    conclude(
        scaling,
        current,
        wanted.clamp(least, most),
        &by,
        &answers,
        metrics.at,
        memory,
    )
}

/// What each metric asks for.
struct Answers {
    largest: Option<(u32, String)>,
    silent: Vec<String>,
}

impl Answers {
    fn of(scaling: &Scaling, current: u32, metrics: &MetricsView) -> Self {
        let connections = scaling
            .connections_per_pod
            .map(|target| (CONNECTIONS_METRIC, Some(i64::from(target) * limits::MILLI)));
        let queries = scaling
            .queries
            .iter()
            .map(|query| (query.name.as_str(), parse_milli(&query.target)));
        let mut answers = Self {
            largest: None,
            silent: Vec::new(),
        };
        for (name, target) in connections.into_iter().chain(queries) {
            let outcome = metrics
                .samples
                .iter()
                .find(|sample| sample.name == name)
                .map(|s| &s.outcome);
            match (outcome, target) {
                (Some(MetricOutcome::Value(total)), Some(target)) if *total >= 0 && target > 0 => {
                    let wanted = pods_for(*total, target, current, scaling.tolerance_percent);
                    if answers
                        .largest
                        .as_ref()
                        .is_none_or(|(most, _)| wanted > *most)
                    {
                        answers.largest = Some((wanted, name.to_owned()));
                    }
                }
                (outcome, _) => answers.silent.push(format!("{name} ({})", word(outcome))),
            }
        }
        answers
    }

    fn complaint(&self) -> String {
        format!(
            "no use of {}; replicas stay as they are",
            self.silent.join(", ")
        )
    }
}

/// Why a metric says nothing.
fn word(outcome: Option<&MetricOutcome>) -> String {
    match outcome {
        None | Some(MetricOutcome::NoData) => "no data".to_owned(),
        Some(MetricOutcome::Stale) => "stale".to_owned(),
        Some(MetricOutcome::Senseless | MetricOutcome::Value(_)) => {
            "not a sensible number".to_owned()
        }
        Some(MetricOutcome::Failed(why)) => why.clone(),
    }
}

/// ceil(total / target), or `current` when within tolerance of it.
fn pods_for(total: i64, target: i64, current: u32, tolerance_percent: i32) -> u32 {
    let (total, target) = (i128::from(total), i128::from(target));
    let reached = target * i128::from(current);
    if (total - reached).abs() * 100 <= reached * i128::from(tolerance_percent) {
        return current;
    }
    u32::try_from((total + target - 1) / target).unwrap_or(u32::MAX)
}

/// Bounds the step, and looks back before scaling in.
fn conclude(
    scaling: &Scaling,
    current: u32,
    wanted: u32,
    by: &str,
    answers: &Answers,
    at: Timestamp,
    memory: &ScaleMemory,
) -> Decision {
    let mut decision = Decision {
        replicas: current,
        active: true,
        reason: "WithinTolerance",
        message: format!("{by} asks for {wanted} pods"),
        recommendation: Some(Recommendation {
            at,
            replicas: wanted,
        }),
    };
    // One look is used for one write: the next decision needs to have seen what it did.
    if memory.scaled_at.is_some_and(|scaled| scaled >= at) {
        decision.reason = "WaitingForMetrics";
        "replicas were changed; waiting for metrics from after that"
            .clone_into(&mut decision.message);
    } else if wanted > current {
        decision.replicas = wanted.min((current * 2).max(current + limits::SCALE_OUT_STEP));
        decision.reason = "ScaleOut";
    } else if wanted < current && !answers.silent.is_empty() {
        decision.reason = "MetricMissing";
        decision.active = false;
        decision.message = answers.complaint();
        decision.recommendation = None;
    } else if wanted < current {
        let window = SignedDuration::from_secs(i64::from(scaling.stabilization_seconds));
        let stable = memory
            .most_within(window, at, current)
            .max(wanted)
            .min(current);
        decision.replicas = stable;
        decision.reason = if stable < current {
            "ScaleIn"
        } else {
            "Stabilizing"
        };
    }
    decision
}

impl ScaleMemory {
    /// The most that was asked for within the window; `current` while the window is not yet covered.
    fn most_within(&self, window: SignedDuration, at: Timestamp, current: u32) -> u32 {
        let covered = self
            .since
            .is_some_and(|since| at.duration_since(since) >= window);
        let recent = self
            .recommendations
            .iter()
            .filter(|past| at.duration_since(past.at) < window)
            .map(|past| past.replicas)
            .max()
            .unwrap_or(0);
        if covered || window.is_zero() {
            recent
        } else {
            recent.max(current)
        }
    }

    /// Remembers what a plan concluded; repeats and what is older than an hour is forgotten.
    pub fn remember(&mut self, recommendation: Recommendation) {
        self.since.get_or_insert(recommendation.at);
        if self
            .recommendations
            .last()
            .is_some_and(|last| last.at >= recommendation.at)
        {
            return;
        }
        self.recommendations.push(recommendation);
        if self.recommendations.len() > limits::SCALE_MEMORY {
            self.recommendations.remove(0);
        }
    }

    /// Remembers that the replicas were written.
    pub fn scaled(&mut self, at: Timestamp) {
        self.scaled_at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::decide;
    use crate::fleet::observed::{
        MetricOutcome, MetricSample, MetricsView, Recommendation, ScaleMemory,
    };
    use jiff::{SignedDuration, Timestamp};
    use sluice_crds::notify_gateway::Scaling;

    fn scaling() -> Scaling {
        serde_yaml::from_str(
            "{minReplicas: 2, maxReplicas: 20, connectionsPerPod: 1000, stabilizationSeconds: 60,
              prometheus: {url: 'http://p'}, queries: [{name: cpu, query: q, target: 500m}]}",
        )
        .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// Replicas and reason at second 1000, from 4 pods watched since second 0.
    fn outcome(
        connections: MetricOutcome,
        cpu: MetricOutcome,
        past: &[(i64, u32)],
    ) -> (u32, &'static str) {
        let sample = |name: &str, outcome| MetricSample {
            name: name.to_owned(),
            outcome,
        };
        let metrics = MetricsView {
            at: at(1000),
            samples: vec![sample("connections", connections), sample("cpu", cpu)],
        };
        let memory = ScaleMemory {
            since: Some(at(0)),
            scaled_at: None,
            recommendations: past
                .iter()
                .map(|(s, replicas)| Recommendation {
                    at: at(*s),
                    replicas: *replicas,
                })
                .collect(),
        };
        let decision = decide(&scaling(), 4, Some(&metrics), &memory, at(1000));
        (decision.replicas, decision.reason)
    }

    use MetricOutcome::{Failed, NoData, Senseless, Stale, Value};

    #[test]
    fn the_largest_answer_wins_and_tolerance_holds() {
        assert_eq!(
            outcome(Value(4_300_000), Value(2_000), &[]),
            (4, "WithinTolerance")
        );
        assert_eq!(
            outcome(Value(4_500_000), Value(2_000), &[]),
            (5, "ScaleOut")
        );
        assert_eq!(
            outcome(Value(1_000_000), Value(3_100), &[]),
            (7, "ScaleOut")
        );
        assert_eq!(outcome(Value(1_000_000), Value(800), &[]), (2, "ScaleIn"));
    }

    #[test]
    fn one_step_at_most_doubles() {
        assert_eq!(outcome(Value(900_000_000), Value(0), &[]), (8, "ScaleOut"));
    }

    #[test]
    fn what_was_asked_for_lately_holds_scale_in_back() {
        assert_eq!(
            outcome(Value(1_000_000), Value(0), &[(950, 4)]),
            (4, "Stabilizing")
        );
        assert_eq!(
            outcome(Value(1_000_000), Value(0), &[(950, 3)]),
            (3, "ScaleIn")
        );
        assert_eq!(
            outcome(Value(1_000_000), Value(0), &[(900, 4)]),
            (2, "ScaleIn")
        );
    }

    #[test]
    fn what_says_nothing_never_scales_in_but_others_scale_out() {
        for nothing in [
            NoData,
            Stale,
            Senseless,
            Value(-1),
            Failed("refused".to_owned()),
        ] {
            assert_eq!(
                outcome(nothing.clone(), nothing.clone(), &[]),
                (4, "NoMetrics")
            );
            assert_eq!(
                outcome(Value(1_000_000), nothing.clone(), &[]),
                (4, "MetricMissing")
            );
            assert_eq!(outcome(Value(9_000_000), nothing, &[]), (8, "ScaleOut"));
        }
    }

    #[test]
    fn a_new_leader_watches_a_whole_window_first() {
        let metrics = MetricsView {
            at: at(1000),
            samples: vec![
                MetricSample {
                    name: "connections".to_owned(),
                    outcome: Value(0),
                },
                MetricSample {
                    name: "cpu".to_owned(),
                    outcome: Value(0),
                },
            ],
        };
        let mut memory = ScaleMemory::default();
        assert_eq!(
            decide(&scaling(), 4, Some(&metrics), &memory, at(1000)).replicas,
            4
        );
        memory.since = Some(at(930));
        assert_eq!(
            decide(&scaling(), 4, Some(&metrics), &memory, at(1000)).replicas,
            2
        );
    }

    #[test]
    fn bounds_need_no_metric_and_zero_switches_off() {
        let memory = ScaleMemory::default();
        assert_eq!(decide(&scaling(), 1, None, &memory, at(0)).replicas, 2);
        assert_eq!(decide(&scaling(), 30, None, &memory, at(0)).replicas, 20);
        assert_eq!(decide(&scaling(), 0, None, &memory, at(0)).replicas, 0);
        assert_eq!(decide(&scaling(), 4, None, &memory, at(0)).replicas, 4);
    }
}
