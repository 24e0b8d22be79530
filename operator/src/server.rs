//! Health and metrics for the kubelet and Prometheus (effects). There is nothing else to ask the
//! operator: whoever wants it to do something writes a Kubernetes object.

use crate::events::Facts;
use crate::lease::Pulse;
use crate::limits::ELECTION_STUCK_AFTER;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

struct Health {
    facts: Arc<Facts>,
    pulse: Arc<Pulse>,
    started: Instant,
}

/// Serves `/livez`, `/readyz` and `/metrics` as long as the process lives; returns only on failure.
pub async fn serve(
    address: SocketAddr,
    facts: Arc<Facts>,
    pulse: Arc<Pulse>,
) -> std::io::Result<()> {
    let health = Arc::new(Health {
        facts,
        pulse,
        started: Instant::now(),
    });
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router(health)).await
}

fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

/// Fails only when the election is stuck: nothing that a restart would not help with.
async fn livez(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let since = health
        .started
        .elapsed()
        .saturating_sub(health.pulse.last_round());
    if since > ELECTION_STUCK_AFTER + Duration::from_secs(1) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the election is stuck\n");
    }
    (StatusCode::OK, "ok\n")
}

/// A standby is as ready as a leader: both have spoken with the API server.
async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.pulse.answered() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server has not answered yet\n",
        )
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.facts.metrics_text())
}
