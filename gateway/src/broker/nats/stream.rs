//! Effects (NATS requests): the stream: made when absent, brought to the wanted settings, looked at.

use std::time::Duration;

use async_nats::{Client, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_protocol::Epoch;

use super::subject::Subjects;
use crate::broker::Unavailable;
use crate::config::{HistoryConfig, NatsConfig};
use crate::limits;

/// Metadata key that starts a new epoch although the stream is the same.
const EPOCH_KEY: &str = "sluice-epoch";

/// For a stream without an age limit: a century, which clocks can still add up.
const FOREVER: Duration = Duration::from_hours(24 * 36_525);

/// Error code of JetStream for a stream that does not exist.
const STREAM_NOT_FOUND: u32 = 10059;

/// What the stream's leader says about it.
#[derive(Clone, Debug)]
pub(super) struct Info {
    /// Settings, as the server wrote them.
    pub(super) config: Value,
    /// Positions belong to this.
    pub(super) epoch: Epoch,
    /// When it was made.
    pub(super) created: jiff::Timestamp,
    /// Oldest sequence number that is still there.
    pub(super) first: u64,
    /// Newest sequence number ever given.
    pub(super) last: u64,
    /// How many messages it keeps per channel.
    pub(super) per_channel: u64,
    /// How long it keeps them.
    pub(super) max_age: Duration,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    config: Option<Value>,
    created: Option<jiff::Timestamp>,
    state: Option<State>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
}

enum Failure {
    Absent,
    Other(Unavailable),
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Absent => Self("the stream does not exist".into()),
            Failure::Other(reason) => reason,
        }
    }
}

/// Makes the stream, or brings it to the wanted settings.
pub(super) async fn ensure(
    client: &Client,
    config: &NatsConfig,
    history: HistoryConfig,
    subjects: &Subjects,
) -> Result<Info, Unavailable> {
    let wanted = wanted(config, history, subjects);
    match call(client, "INFO", &config.stream, &json!({})).await {
        Err(Failure::Absent) => {
            tracing::info!(stream = %config.stream, replicas = config.replicas, "making the stream");
            // Another gateway may be faster; then this is a look at what it made.
            match call(client, "CREATE", &config.stream, &wanted).await {
                Ok(info) => Ok(info),
                Err(_) => Ok(call(client, "INFO", &config.stream, &json!({})).await?),
            }
        }
        Err(other) => Err(other.into()),
        Ok(info) => match merged(&info.config, &wanted) {
            None => Ok(info),
            Some(changed) => {
                tracing::info!(stream = %config.stream, "bringing the stream to the wanted settings");
                match call(client, "UPDATE", &config.stream, &changed).await {
                    Ok(info) => Ok(info),
                    Err(failure) if works(&info.config, &wanted) => {
                        let error = Unavailable::from(failure);
                        tracing::warn!(%error, "the stream keeps its settings");
                        Ok(info)
                    }
                    Err(failure) => Err(failure.into()),
                }
            }
        },
    }
}

/// True when the stream as it is feeds the live side and can be read, whatever its limits.
fn works(present: &Value, wanted: &Value) -> bool {
    ["subjects", "republish", "allow_direct"]
        .iter()
        .all(|key| present[key] == wanted[key])
}

/// Looks at the stream, and makes it when it is gone. Its settings are left alone: gateways with other settings may run, too.
pub(super) async fn keep(
    client: &Client,
    config: &NatsConfig,
    history: HistoryConfig,
    subjects: &Subjects,
) -> Result<Info, Unavailable> {
    match call(client, "INFO", &config.stream, &json!({})).await {
        Err(Failure::Absent) => ensure(client, config, history, subjects).await,
        other => Ok(other?),
    }
}

/// Looks at the stream.
pub(super) async fn info(client: &Client, stream: &str) -> Result<Info, Unavailable> {
    Ok(call(client, "INFO", stream, &json!({})).await?)
}

/// Positions are being used again: gives them a new epoch, for every gateway.
pub(super) async fn renew_epoch(
    client: &Client,
    stream: &str,
    info: &Info,
) -> Result<Info, Unavailable> {
    let mut config = info.config.clone();
    config["metadata"][EPOCH_KEY] = json!(format!("{:08x}", rand::random::<u32>()));
    Ok(call(client, "UPDATE", stream, &config).await?)
}

fn wanted(config: &NatsConfig, history: HistoryConfig, subjects: &Subjects) -> Value {
    let nanos = |time: Duration| time.as_nanos() as u64;
    json!({
        "name": config.stream,
        "description": "Notifications of Sluice gateways; one subject per channel",
        "subjects": [subjects.all_stored()],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": nanos(history.max_age),
        "max_msgs_per_subject": history.max_per_channel,
        "num_replicas": config.replicas,
        "duplicate_window": nanos(limits::DUPLICATE_WINDOW.min(history.max_age)),
        "allow_direct": true,
        "republish": {"src": subjects.all_stored(), "dest": subjects.republish_to()},
    })
}

/// The present settings with the wanted ones in their place; `None` when nothing differs.
fn merged(present: &Value, wanted: &Value) -> Option<Value> {
    const OURS: [&str; 7] = [
        "subjects",
        "max_age",
        "max_msgs_per_subject",
        "num_replicas",
        "duplicate_window",
        "allow_direct",
        "republish",
    ];
    let mut changed = present.clone();
    for key in OURS {
        changed[key] = wanted[key].clone();
    }
    (changed != *present).then_some(changed)
}

async fn call(client: &Client, verb: &str, stream: &str, body: &Value) -> Result<Info, Failure> {
    let other = |text: String| Failure::Other(Unavailable(text));
    let request = Request::new()
        .payload(body.to_string().into())
        .timeout(Some(limits::BROKER_REQUEST));
    let subject = format!("$JS.API.STREAM.{verb}.{stream}");
    let reply = client
        .send_request(subject, request)
        .await
        .map_err(|error| other(format!("stream {verb}: {error}")))?;
    let answer: Answer = serde_json::from_slice(&reply.payload)
        .map_err(|error| other(format!("stream {verb}: {error}")))?;
    if let Some(error) = answer.error {
        if error.err_code == STREAM_NOT_FOUND {
            return Err(Failure::Absent);
        }
        return Err(other(format!(
            "stream {verb}: {} ({})",
            error.description, error.err_code
        )));
    }
    let (Some(config), Some(created), Some(state)) = (answer.config, answer.created, answer.state)
    else {
        return Err(other(format!(
            "stream {verb}: the answer lacks settings or state"
        )));
    };
    let epoch = epoch(created, config["metadata"][EPOCH_KEY].as_str())
        .ok_or_else(|| other(format!("stream metadata {EPOCH_KEY} holds no epoch")))?;
    let per_channel = config["max_msgs_per_subject"].as_u64().unwrap_or(u64::MAX);
    let max_age = config["max_age"].as_u64().filter(|nanos| *nanos > 0);
    Ok(Info {
        per_channel,
        max_age: max_age.map_or(FOREVER, Duration::from_nanos),
        config,
        epoch,
        created,
        first: state.first_seq,
        last: state.last_seq,
    })
}

fn epoch(created: jiff::Timestamp, renewed: Option<&str>) -> Option<Epoch> {
    let born = created.as_nanosecond();
    let text = renewed.map_or_else(
        || format!("n-{born:x}"),
        |renewed| format!("n-{born:x}-{renewed}"),
    );
    Epoch::new(&text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings() -> Value {
        let config = NatsConfig {
            url: String::new(),
            stream: "S".into(),
            replicas: 3,
        };
        let history = HistoryConfig {
            max_age: Duration::from_mins(1),
            max_per_channel: 10,
        };
        wanted(&config, history, &Subjects::new("S"))
    }

    #[test]
    fn nothing_is_changed_without_need() {
        let mut present = settings();
        present["metadata"] = json!({"_nats.ver": "2.15.2"});
        present["max_msg_size"] = json!(-1);
        assert_eq!(merged(&present, &settings()), None);
        present["num_replicas"] = json!(1);
        let changed = merged(&present, &settings()).unwrap();
        assert_eq!(
            (&changed["num_replicas"], &changed["metadata"]["_nats.ver"]),
            (&json!(3), &json!("2.15.2"))
        );
    }

    #[test]
    fn an_epoch_follows_creation_and_renewal() {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        assert_ne!(epoch(at(1), None), epoch(at(2), None));
        assert_ne!(epoch(at(1), None), epoch(at(1), Some("00ff00ff")));
        assert_eq!(epoch(at(1), Some("not an epoch")), None);
    }
}
