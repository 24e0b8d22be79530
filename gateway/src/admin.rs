//! Effects (HTTP): the port of the operator, probes and Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use sluice_protocol::ErrorCode;

use crate::core::Core;
use crate::drain::Status;
use crate::drain::plan::{Refused, Term};
use crate::error::ApiError;
use crate::http_guard::{Guard, guarded, read_body};
use crate::{events, forensics, limits, metrics, tuning};

#[derive(Deserialize)]
struct DrainRequest {
    term: Option<Term>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    rate_milli_per_second: Option<u64>,
    /// From now.
    #[serde(default)]
    deadline_ms: Option<u64>,
}

#[derive(Serialize)]
struct Load {
    connections: usize,
    handshakes_in_progress: usize,
    state: crate::drain::plan::State,
    ready: bool,
    max_connections: usize,
    boot_id: String,
    subscriptions: i64,
    lagging: i64,
}

/// The port's paths.
pub fn router(core: &Arc<Core>) -> Router {
    let guard = |key| Guard {
        key,
        core: Arc::clone(core),
    };
    let open = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(core));
    let closed = Router::new()
        .route("/v1/drain", get(drain_status).post(drain).delete(undrain))
        .route("/v1/connections", get(connections))
        .route("/v1/limits", get(tuning::show).put(tuning::change))
        .merge(forensics::http::routes())
        .with_state(Arc::clone(core));
    // Unknown paths answer from the guarded half.
    guarded(closed, guard(core.config.keys.admin.clone())).merge(open)
}

async fn livez(State(core): State<Arc<Core>>) -> Response {
    probe(
        core.is_alive(),
        "the control runtime or a shard has been stuck for a minute",
    )
}

async fn readyz(State(core): State<Arc<Core>>) -> Response {
    let reason = if core.health.is_terminating() {
        "terminating"
    } else {
        "the broker was not reached yet"
    };
    probe(core.is_ready(), reason)
}

fn probe(ok: bool, reason: &'static str) -> Response {
    if ok {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
    }
}

async fn metrics(State(core): State<Arc<Core>>) -> Response {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        core.metrics.render(),
    )
        .into_response()
}

async fn connections(State(core): State<Arc<Core>>) -> Json<Load> {
    Json(Load {
        connections: core.registry.len(),
        handshakes_in_progress: core.handshakes_in_progress(),
        state: core.drain.state(),
        ready: core.is_ready(),
        max_connections: core.config.max_connections,
        boot_id: core.boot_id.clone(),
        subscriptions: core.metrics.subscriptions.get(),
        lagging: core.metrics.lagging.get(),
    })
}

async fn drain_status(State(core): State<Arc<Core>>) -> Json<Status> {
    Json(core.drain.status(&core))
}

async fn drain(
    State(core): State<Arc<Core>>,
    request: axum::extract::Request,
) -> Result<Json<Status>, ApiError> {
    let order = read_order(&core, request).await?;
    let deadline = order
        .deadline_ms
        .map_or(core.config.ending.drain_deadline, Duration::from_millis);
    let reason = order.reason.as_deref().unwrap_or("drain");
    core.drain
        .order(
            order.term.clone(),
            reason,
            order.rate_milli_per_second,
            deadline,
        )
        .map_err(|e| refused(&e, &order))?;
    let status = core.drain.status(&core);
    events::drain_ordered(
        reason,
        status.rate_milli_per_second,
        deadline,
        status.connections,
    );
    Ok(Json(status))
}

async fn undrain(
    State(core): State<Arc<Core>>,
    request: axum::extract::Request,
) -> Result<Json<Status>, ApiError> {
    let order = read_order(&core, request).await?;
    if core
        .drain
        .undo(order.term.clone())
        .map_err(|e| refused(&e, &order))?
    {
        events::drain_undone(core.drain.moved());
    }
    Ok(Json(core.drain.status(&core)))
}

async fn read_order(
    core: &Core,
    request: axum::extract::Request,
) -> Result<DrainRequest, ApiError> {
    let body = read_body(request, limits::ADMIN_BODY_BYTES).await?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let order: DrainRequest = serde_json::from_slice(text).map_err(|error| {
        ApiError::new(
            ErrorCode::BadRequest,
            format!("the body is not a drain order: {error}"),
        )
    })?;
    if order.term.is_none() && !core.config.dev {
        let text = "name the term, {\"term\":{\"lease\":UID,\"transitions\":N}}, so that former leaders can be told apart";
        return Err(ApiError::new(ErrorCode::BadRequest, text));
    }
    if order.rate_milli_per_second == Some(0) {
        let text = "a rate of 0 never ends: leave it out, or take the drain back with DELETE";
        return Err(ApiError::new(ErrorCode::BadRequest, text));
    }
    Ok(order)
}

fn refused(error: &Refused, order: &DrainRequest) -> ApiError {
    match error {
        Refused::Stale(_) => {
            if let Some(term) = &order.term {
                events::stale_term(&term.lease, term.transitions);
            }
            ApiError::new(ErrorCode::StaleTerm, error.to_string())
        }
        Refused::Terminating => ApiError::new(ErrorCode::Closing, error.to_string()),
    }
}
