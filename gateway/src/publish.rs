//! Effects (HTTP, broker): the publishers' port. An answer with an offset means that the broker holds the notification.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sluice_protocol::{ChannelName, ErrorCode};

use crate::auth::now_millis;
use crate::broker::NewMessage;
use crate::core::Core;
use crate::error::ApiError;
use crate::http_guard::{Guard, guarded, read_body};
use crate::limits;
use crate::metrics::PublishResult;

#[derive(Deserialize)]
struct Request<'a> {
    channel: String,
    #[serde(borrow)]
    data: &'a RawValue,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// Where a notification was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Answer {
    epoch: String,
    offset: u64,
    id: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum BatchItem {
    Stored(Answer),
    Failed { error: ApiError },
}

#[derive(Serialize)]
struct BatchAnswer {
    results: Vec<BatchItem>,
}

/// The port's paths.
pub fn router(core: Arc<Core>) -> Router {
    let guard = Guard {
        key: core.config.keys.publish.clone(),
        core: Arc::clone(&core),
    };
    let routes = Router::new()
        .route("/v1/publish", post(publish))
        .route("/v1/publish/batch", post(publish_batch))
        .layer(DefaultBodyLimit::disable())
        .with_state(core);
    guarded(routes, guard)
}

async fn publish(
    State(core): State<Arc<Core>>,
    request: axum::extract::Request,
) -> Result<Json<Answer>, ApiError> {
    let most = core.config.message_bytes as usize + limits::PUBLISH_OVERHEAD_BYTES;
    let body = read_body(request, most)
        .await
        .inspect_err(|_| core.metrics.publish(PublishResult::Refused))?;
    let message =
        read(&core, &body).inspect_err(|_| core.metrics.publish(PublishResult::Refused))?;
    store(&core, message).await.map(Json)
}

async fn publish_batch(
    State(core): State<Arc<Core>>,
    request: axum::extract::Request,
) -> Result<Json<BatchAnswer>, ApiError> {
    let body = read_body(request, limits::PUBLISH_BATCH_BYTES).await?;
    let batch: Batch = serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(
            ErrorCode::BadRequest,
            format!("send {{\"messages\":[{{\"channel\",\"data\",\"id\"?}}]}}: {error}"),
        )
    })?;
    if batch.messages.len() > limits::PUBLISH_BATCH_MESSAGES {
        let text = format!(
            "at most {} messages fit one batch",
            limits::PUBLISH_BATCH_MESSAGES
        );
        return Err(ApiError::new(ErrorCode::TooBig, text));
    }
    let mut results: Vec<Option<BatchItem>> = batch.messages.iter().map(|_| None).collect();
    // One channel's messages are stored one after the other, in the batch's order; channels go side by side.
    let mut channels: HashMap<ChannelName, Vec<(usize, NewMessage)>> = HashMap::new();
    for (index, message) in batch.messages.iter().enumerate() {
        match read(&core, message.get().as_bytes()) {
            Ok(message) => channels
                .entry(message.channel.clone())
                .or_default()
                .push((index, message)),
            Err(error) => {
                core.metrics.publish(PublishResult::Refused);
                results[index] = Some(BatchItem::Failed { error });
            }
        }
    }
    let stored: Vec<_> = futures::stream::iter(channels.into_values())
        .map(|messages| store_in_order(&core, messages))
        .buffer_unordered(limits::PUBLISH_CONCURRENCY)
        .concat()
        .await;
    for (index, item) in stored {
        results[index] = Some(item);
    }
    Ok(Json(BatchAnswer {
        results: results.into_iter().flatten().collect(),
    }))
}

async fn store_in_order(
    core: &Core,
    messages: Vec<(usize, NewMessage)>,
) -> Vec<(usize, BatchItem)> {
    let mut results = Vec::with_capacity(messages.len());
    for (index, message) in messages {
        let item = match store(core, message).await {
            Ok(answer) => BatchItem::Stored(answer),
            Err(error) => BatchItem::Failed { error },
        };
        results.push((index, item));
    }
    results
}

async fn store(core: &Core, message: NewMessage) -> Result<Answer, ApiError> {
    let id = message.id.clone();
    match core.broker.publish(message).await {
        Ok(stored) => {
            let duplicate = stored.duplicate;
            core.metrics.publish(if duplicate {
                PublishResult::Duplicate
            } else {
                PublishResult::Stored
            });
            Ok(Answer {
                epoch: stored.epoch.as_str().to_owned(),
                offset: stored.offset,
                id,
            })
        }
        Err(error) => {
            core.metrics.publish(PublishResult::Unavailable);
            let text =
                format!("{error}; nothing is known to be stored: send it again with id {id:?}");
            Err(ApiError::new(ErrorCode::BrokerUnavailable, text).after_ms(500))
        }
    }
}

fn read(core: &Core, body: &[u8]) -> Result<NewMessage, ApiError> {
    let bad = |text: String| ApiError::new(ErrorCode::BadRequest, text);
    let request: Request = serde_json::from_slice(body).map_err(|error| {
        bad(format!(
            "send {{\"channel\":NAME,\"data\":any JSON,\"id\"?:TEXT}}: {error}"
        ))
    })?;
    let channel = ChannelName::new(&request.channel)
        .map_err(|error| ApiError::new(ErrorCode::BadChannel, error.to_string()))?;
    let data = request.data.get();
    let most = core.config.message_bytes as usize;
    if data.len() > most {
        return Err(ApiError::new(
            ErrorCode::TooBig,
            format!("data has {} bytes, at most {most} are taken", data.len()),
        ));
    }
    let id = match request.id {
        None => format!("{:032x}", rand::random::<u128>()),
        Some(id) if id.is_empty() || id.len() > limits::PUBLISH_ID_BYTES => {
            return Err(bad(format!(
                "an id is 1 to {} bytes",
                limits::PUBLISH_ID_BYTES
            )));
        }
        Some(id) => id,
    };
    Ok(NewMessage {
        channel,
        id,
        time: now_millis(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    })
}
