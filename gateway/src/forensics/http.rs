//! Effects (HTTP): `/debug/heap` and `/debug/tasks` on the admin port, behind its key.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use serde::Deserialize;
use sluice_protocol::ErrorCode;

use super::dump::SnapshotError;
use super::pprof::Kind;
use super::tasks::{Tasks, tasks};
use crate::core::Core;
use crate::error::ApiError;
use crate::limits;

#[derive(Deserialize)]
struct HeapQuery {
    #[serde(default)]
    kind: Kind,
}

/// The paths under `/debug`. The caller guards them.
pub fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/debug/heap", get(heap))
        .route("/debug/tasks", get(look))
}

async fn look(State(core): State<Arc<Core>>) -> Json<Tasks> {
    Json(tasks(&core))
}

async fn heap(
    State(core): State<Arc<Core>>,
    query: Result<Query<HeapQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|_| {
        let text = "kind is inuse (who holds memory) or allocs (who asked for it)";
        ApiError::new(ErrorCode::BadRequest, text)
    })?;
    let snapshot = core
        .forensics
        .take(query.kind)
        .await
        .map_err(|e| refused(&e))?;
    let name = format!("attachment; filename=\"heap-{}.pb.gz\"", query.kind.word());
    Ok((
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_DISPOSITION, name),
        ],
        snapshot,
    )
        .into_response())
}

fn refused(error: &SnapshotError) -> ApiError {
    let text = error.to_string();
    match error {
        SnapshotError::Off => ApiError::new(ErrorCode::NotFound, text),
        SnapshotError::Busy => {
            let wait = limits::HEAP_SNAPSHOT_WAIT.as_millis() as u64;
            ApiError::new(ErrorCode::Overload, text).after_ms(wait)
        }
        _ => ApiError::new(ErrorCode::Internal, text),
    }
}
