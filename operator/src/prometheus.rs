//! Instant queries to Prometheus (effects), and what their answers are worth (pure part below).
//! Whatever is missing, old or senseless is said to be so; nothing is ever taken for zero.

use crate::fleet::observed::MetricOutcome;
use crate::limits::{ERROR_CHARS, QUERY_TIMEOUT};
use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::response::{Data, Sample};
use std::collections::HashMap;

/// Asks Prometheus servers. Clones share connections.
#[derive(Clone)]
pub struct Prometheus {
    http: reqwest::Client,
}

/// One series of an instant vector, or a scalar without labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Its value, possibly NaN or infinite.
    pub value: f64,
    /// The time of evaluation that Prometheus states.
    pub at: Timestamp,
}

/// Why a query gave no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);

impl Prometheus {
    /// A client. Certificates are checked against the system's trust store when there is one;
    /// without one only plain HTTP works.
    pub fn new() -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .timeout(QUERY_TIMEOUT)
                .connect_timeout(QUERY_TIMEOUT)
        };
        let http = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())?;
        Ok(Self { http })
    }

    /// Evaluates `query` now.
    pub async fn query(&self, url: &str, query: &str) -> Result<Vec<Series>, QueryError> {
        let failed = |error: prometheus_http_query::Error| {
            let text = match &error {
                prometheus_http_query::Error::Client(inner) => crate::admin::root_cause(inner),
                other => other.to_string(),
            };
            QueryError(text.chars().take(ERROR_CHARS).collect())
        };
        let client = prometheus_http_query::Client::from(self.http.clone(), url).map_err(failed)?;
        let (data, _) = client
            .query(query)
            .get()
            .await
            .map_err(failed)?
            .into_inner();
        match data {
            Data::Vector(vector) => Ok(vector
                .into_iter()
                .map(|one| {
                    let (labels, sample) = one.into_inner();
                    series(labels, &sample)
                })
                .collect()),
            Data::Scalar(sample) => Ok(vec![series(HashMap::new(), &sample)]),
            Data::Matrix(_) => Err(QueryError(
                "the query gives a range of values; it must give one".to_owned(),
            )),
        }
    }
}

fn series(labels: HashMap<String, String>, sample: &Sample) -> Series {
    let millis = (sample.timestamp() * 1000.0) as i64;
    Series {
        labels,
        value: sample.value(),
        at: Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MIN),
    }
}

/// The single value that a query must give.
#[derive(Clone, Debug, PartialEq)]
pub enum Single {
    /// A finite number.
    Value(f64),
    /// An empty result.
    NoData,
    /// A value from too long ago.
    Stale,
    /// NaN or infinite.
    Senseless(f64),
    /// This many series instead of one.
    Several(usize),
    /// The query failed.
    Failed(String),
}

impl Single {
    /// Judges an answer as of `now`.
    pub fn of(
        answer: &Result<Vec<Series>, QueryError>,
        now: Timestamp,
        max_age: SignedDuration,
    ) -> Self {
        match answer.as_deref() {
            Err(error) => Self::Failed(error.0.clone()),
            Ok([]) => Self::NoData,
            Ok([one]) if now.duration_since(one.at) > max_age => Self::Stale,
            Ok([one]) if !one.value.is_finite() => Self::Senseless(one.value),
            Ok([one]) => Self::Value(one.value),
            Ok(many) => Self::Several(many.len()),
        }
    }

    /// As a scaling metric: thousandths, and never below zero.
    pub fn metric(self) -> MetricOutcome {
        match self {
            Self::Value(value) => {
                milli(value).map_or(MetricOutcome::Senseless, MetricOutcome::Value)
            }
            Self::NoData => MetricOutcome::NoData,
            Self::Stale => MetricOutcome::Stale,
            Self::Senseless(_) | Self::Several(_) => MetricOutcome::Senseless,
            Self::Failed(why) => MetricOutcome::Failed(why),
        }
    }
}

/// Thousandths of a total; `None` when negative, not finite or beyond counting.
pub fn milli(value: f64) -> Option<i64> {
    let milli = (value * 1000.0).round();
    (milli.is_finite() && (0.0..9e15).contains(&milli)).then_some(milli as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::{Prometheus, QueryError, Series, Single, milli};
    use crate::fleet::observed::MetricOutcome;
    use jiff::{SignedDuration, Timestamp};
    use serde_json::json;
    use std::collections::HashMap;
    use wiremock::matchers::{method, path, query_param};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn only_one_fresh_finite_value_is_a_value() {
        let judge = |answer| {
            let now = Timestamp::from_second(NOW).unwrap();
            Single::of(&answer, now, SignedDuration::from_secs(30))
        };
        for (answer, expected) in [
            (Ok(vec![one(2.5, 0)]), Single::Value(2.5)),
            (Ok(vec![one(2.5, 30)]), Single::Value(2.5)),
            (Ok(vec![one(2.5, 31)]), Single::Stale),
            (Ok(vec![]), Single::NoData),
            (Ok(vec![one(1.0, 0), one(2.0, 0)]), Single::Several(2)),
            (
                Ok(vec![one(f64::INFINITY, 0)]),
                Single::Senseless(f64::INFINITY),
            ),
            (Err(QueryError("no".into())), Single::Failed("no".into())),
        ] {
            assert_eq!(judge(answer), expected);
        }
        assert!(matches!(
            judge(Ok(vec![one(f64::NAN, 0)])),
            Single::Senseless(_)
        ));
    }

    #[test]
    fn a_metric_is_never_negative_and_never_rounded_to_nothing() {
        assert_eq!(milli(0.0004), Some(0));
        assert_eq!(milli(1.2345), Some(1235));
        assert_eq!(milli(-1.0), None);
        assert_eq!(milli(1e30), None);
        assert_eq!(Single::Value(-3.0).metric(), MetricOutcome::Senseless);
    }

    #[tokio::test]
    async fn vectors_scalars_and_errors_are_told_apart() {
        let server = MockServer::start().await;
        let success = |kind: &str, result| json!({"status": "success", "data": {"resultType": kind, "result": result}});
        for (query, status, body) in [
            (
                "v",
                200,
                success(
                    "vector",
                    json!([{"metric": {"pod": "a"}, "value": [NOW, "3"]}]),
                ),
            ),
            ("s", 200, success("scalar", json!([NOW, "NaN"]))),
            (
                "bad",
                400,
                json!({"status": "error", "errorType": "bad_data", "error": "parse error"}),
            ),
        ] {
            Mock::given(method("GET"))
                .and(path("/api/v1/query"))
                .and(query_param("query", query))
                .respond_with(ResponseTemplate::new(status).set_body_json(body))
                .mount(&server)
                .await;
        }
        let prometheus = Prometheus::new().unwrap();
        let uri = server.uri();
        let ask = |query| prometheus.query(&uri, query);
        let vector = ask("v").await.unwrap();
        assert_eq!(
            (vector[0].value, vector[0].labels["pod"].as_str()),
            (3.0, "a")
        );
        assert!(ask("s").await.unwrap()[0].value.is_nan());
        assert!(ask("bad").await.unwrap_err().0.contains("parse error"));
        assert!(prometheus.query("http://127.0.0.1:1", "v").await.is_err());
        assert!(prometheus.query("no url", "v").await.is_err());
    }

    fn one(value: f64, age: i64) -> Series {
        Series {
            labels: HashMap::new(),
            value,
            at: Timestamp::from_second(NOW - age).unwrap(),
        }
    }
}
