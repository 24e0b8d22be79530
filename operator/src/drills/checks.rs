//! The steady state of an experiment in PromQL (effects), and the judging of its values (pure).
//! A value that is missing, old or senseless fails: nothing is proven by silence.

use super::experiment::When;
use crate::limits::CHECK_STALE_AFTER;
use crate::prometheus::Single;
use crate::world::World;
use futures::future::join_all;
use jiff::Timestamp;
use sluice_crds::chaos_experiment::{Check, CheckResult};
use sluice_crds::quantity::parse_milli;

/// Asks for every check. `url` is the Prometheus to ask.
pub async fn ask(
    world: &World,
    experiment: &str,
    url: Option<&str>,
    checks: &[Check],
    when: When,
) -> Vec<CheckResult> {
    let one = |check: &Check| {
        let check = check.clone();
        async move {
            let Some(url) = url else {
                let single = Single::Failed(
                    "no Prometheus: set steadyState.prometheusUrl, or the fleet's scaling.prometheus.url"
                        .to_owned(),
                );
                return judge(&check, &single, when);
            };
            let answer = world.prometheus.query(url, &check.query).await;
            let why = answer.as_ref().err().map(ToString::to_string);
            world
                .facts
                .queried(experiment, &check.query, why.as_deref());
            let single = Single::of(&answer, Timestamp::now(), CHECK_STALE_AFTER);
            judge(&check, &single, when)
        }
    };
    join_all(checks.iter().map(one)).await
}

/// Whether a value is within the bounds of its check.
fn judge(check: &Check, single: &Single, when: When) -> CheckResult {
    let bound = |text: &Option<String>| {
        text.as_deref()
            .map(|text| (text.to_owned(), parse_milli(text)))
    };
    let (value, ok) = match single {
        Single::Value(value) => {
            let milli = value * 1000.0;
            // A bound that cannot be read holds for nothing.
            let above =
                bound(&check.min).is_none_or(|(_, min)| min.is_some_and(|min| milli >= min as f64));
            let below =
                bound(&check.max).is_none_or(|(_, max)| max.is_some_and(|max| milli <= max as f64));
            (format!("{value}"), above && below)
        }
        Single::NoData => ("no data".to_owned(), false),
        Single::Stale => ("stale".to_owned(), false),
        Single::Senseless(value) => (format!("{value}"), false),
        Single::Several(count) => (format!("{count} series instead of one"), false),
        Single::Failed(why) => (why.clone(), false),
    };
    CheckResult {
        name: check.name.clone(),
        when: when.as_str().to_owned(),
        value,
        ok,
    }
}

#[cfg(test)]
mod tests {
    use super::{When, judge};
    use crate::prometheus::Single;
    use sluice_crds::chaos_experiment::Check;

    #[test]
    fn bounds_hold_for_values_only() {
        let check = |min: Option<&str>, max: Option<&str>| Check {
            name: "c".to_owned(),
            query: "q".to_owned(),
            min: min.map(str::to_owned),
            max: max.map(str::to_owned),
        };
        for (single, min, max, ok) in [
            (Single::Value(1.0), Some("1"), None, true),
            (Single::Value(0.99), Some("1"), None, false),
            (Single::Value(0.5), Some("500m"), Some("0.5"), true),
            (Single::Value(-3.0), None, Some("0"), true),
            (Single::Value(2.0), None, Some("1.5"), false),
            (Single::Value(2.0), Some("nonsense"), None, false),
            (Single::NoData, None, Some("5"), false),
            (Single::Stale, None, Some("5"), false),
            (Single::Senseless(f64::NAN), None, Some("5"), false),
            (Single::Several(2), None, Some("5"), false),
            (Single::Failed("x".to_owned()), None, Some("5"), false),
        ] {
            let result = judge(&check(min, max), &single, When::After);
            assert_eq!(result.ok, ok, "{single:?} in {min:?}..{max:?}");
            assert_eq!(result.when, "after");
        }
    }
}
