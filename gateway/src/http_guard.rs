//! Effects (HTTP): what the two internal ports have in common: the bearer key, JSON errors, bounded bodies, and the wish that
//! publishers and the operator connect anew once this process is about to exit.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::{BodyExt as _, Limited};
use sluice_protocol::ErrorCode;
use subtle::ConstantTimeEq as _;

use crate::core::Core;
use crate::error::ApiError;
use crate::limits;

/// Who may call.
#[derive(Clone)]
pub struct Guard {
    /// The key callers must show; `None` for an open port.
    pub key: Option<String>,
    /// The gateway.
    pub core: Arc<Core>,
}

/// Puts the guard before all routes, and JSON answers behind them.
pub fn guarded(routes: Router, guard: Guard) -> Router {
    routes
        .fallback(|| async { ApiError::new(ErrorCode::NotFound, "no such path on this port") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                ErrorCode::MethodNotAllowed,
                "this path takes another method",
            )
        })
        .layer(from_fn_with_state(guard, check))
}

/// Reads a whole body of at most `most` bytes, within [`limits::BODY_TIMEOUT`].
pub async fn read_body(request: Request, most: usize) -> Result<Bytes, ApiError> {
    let reading = Limited::new(request.into_body(), most).collect();
    let Ok(read) = tokio::time::timeout(limits::BODY_TIMEOUT, reading).await else {
        let seconds = limits::BODY_TIMEOUT.as_secs();
        let text = format!("the body must come within {seconds} seconds");
        return Err(ApiError::new(ErrorCode::Timeout, text));
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::new(
            ErrorCode::TooBig,
            format!("the body may have {most} bytes"),
        )),
        Err(error) => Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("the body ended early: {error}"),
        )),
    }
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let allowed = guard.key.as_ref().is_none_or(|key| shows(&request, key));
    let mut response = if allowed {
        next.run(request).await
    } else {
        ApiError::new(
            ErrorCode::Unauthorized,
            "send Authorization: Bearer with this port's fleet key",
        )
        .into_response()
    };
    if guard.core.is_exiting() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn shows(request: &Request, key: &str) -> bool {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let shown = value.strip_prefix(b"Bearer ").unwrap_or_default();
    shown.ct_eq(key.as_bytes()).into()
}
