//! Effects (a lock, HTTP): the thresholds in force, and `/v1/limits` on the admin port, where they are read and replaced.

pub mod rules;

use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use sluice_protocol::ErrorCode;

use crate::core::Core;
use crate::drain::Status;
use crate::drain::plan::Term;
use crate::error::ApiError;
use crate::http_guard::read_body;
use crate::{events, limits};
use rules::{BreakerRules, HealthRules, Rules};

/// The thresholds in force.
#[derive(Debug)]
pub struct Tuning(RwLock<Rules>);

impl Tuning {
    /// Those that the process was started with.
    pub fn new(rules: Rules) -> Self {
        Self(RwLock::new(rules))
    }

    /// When newcomers are refused.
    pub fn breaker(&self) -> BreakerRules {
        self.read(|rules| rules.breaker)
    }

    /// When a connection is given up.
    pub fn health(&self) -> HealthRules {
        self.read(|rules| rules.health)
    }

    /// All of them.
    pub fn all(&self) -> Rules {
        self.read(Rules::clone)
    }

    /// Which set of thresholds this is.
    pub fn generation(&self) -> String {
        self.read(|rules| rules.generation.clone())
    }

    /// Puts others in their place.
    pub fn replace(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn read<T>(&self, take: impl FnOnce(&Rules) -> T) -> T {
        take(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Deserialize)]
struct Order {
    term: Option<Term>,
    #[serde(flatten)]
    rules: Rules,
}

/// `GET /v1/limits`.
#[derive(Debug, Serialize)]
pub struct View {
    #[serde(flatten)]
    rules: Rules,
    /// Connection limit now.
    max_connections: i64,
    /// 0 takes newcomers, 1 tries a few, 2 refuses them.
    breaker_state: i64,
}

/// `GET /v1/limits`: the thresholds in force, and what follows from them now.
pub async fn show(State(core): State<Arc<Core>>) -> Json<View> {
    Json(View {
        rules: core.tuning.all(),
        max_connections: core.metrics.max_connections.get(),
        breaker_state: core.metrics.breaker.state.get(),
    })
}

/// `PUT /v1/limits`: replaces all thresholds; what is left out gets its default. Answers as `/v1/drain` does. 409 when a newer
/// leader has spoken.
pub async fn change(
    State(core): State<Arc<Core>>,
    request: Request,
) -> Result<Json<Status>, ApiError> {
    let body = read_body(request, limits::ADMIN_BODY_BYTES).await?;
    let order: Order = serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(
            ErrorCode::BadRequest,
            format!("the body holds no limits: {error}"),
        )
    })?;
    if order.term.is_none() && !core.config.dev {
        let text = "name the term, {\"term\":{\"lease\":UID,\"transitions\":N}}, so that former leaders can be told apart";
        return Err(ApiError::new(ErrorCode::BadRequest, text));
    }
    order
        .rules
        .check()
        .map_err(|why| ApiError::new(ErrorCode::BadRequest, why))?;
    let changed = core.tuning.all() != order.rules;
    let generation = order.rules.generation.clone();
    core.drain
        .fenced(order.term.clone(), || core.tuning.replace(order.rules))
        .map_err(|refused| {
            if let Some(term) = &order.term {
                events::stale_term(&term.lease, term.transitions);
            }
            ApiError::new(ErrorCode::StaleTerm, refused.to_string())
        })?;
    if changed {
        events::limits_changed(&generation);
    }
    Ok(Json(core.drain.status(&core)))
}
