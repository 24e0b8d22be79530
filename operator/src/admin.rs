//! Client of the gateways' admin API (effects): `/v1/drain` and `/v1/limits` by pod address, with the fleet's key and
//! the leader's term.

use crate::fleet::observed::{DrainReason, GatewayState, ServingState};
use crate::fleet::tuning::Tuning;
use crate::lease::Term;
use crate::limits::{ADMIN_CALLS, ADMIN_CONNECT_TIMEOUT, ADMIN_TIMEOUT};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Calls gateways in the name of one term of leading. Clones share connections and the limit.
#[derive(Clone)]
pub struct AdminClient {
    http: reqwest::Client,
    term: Term,
    calls: Arc<Semaphore>,
}

/// Where a gateway is, and its fleet's key.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Address of its admin port.
    pub address: SocketAddr,
    /// Key `admin` of the fleet Secret.
    pub key: Arc<str>,
}

impl Endpoint {
    /// The admin port of a pod.
    pub fn of_pod(ip: &str, key: &Arc<str>) -> Option<Self> {
        let ip: IpAddr = ip.parse().ok()?;
        let port = sluice_crds::names::ADMIN_PORT.1 as u16;
        Some(Self {
            address: SocketAddr::new(ip, port),
            key: Arc::clone(key),
        })
    }
}

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody answered in time.
    #[error("gateway at {address} cannot be reached: {why}")]
    Unreachable {
        /// Its admin port.
        address: SocketAddr,
        /// What the transport said.
        why: String,
    },
    /// The gateway has heard of a newer leader.
    #[error("gateway at {address} knows a newer leader: {why}")]
    StaleTerm {
        /// Its admin port.
        address: SocketAddr,
        /// What it said.
        why: String,
    },
    /// The gateway refused.
    #[error("gateway at {address} refused ({status}): {why}")]
    Refused {
        /// Its admin port.
        address: SocketAddr,
        /// HTTP status.
        status: u16,
        /// What it said.
        why: String,
    },
    /// The answer is not the documented one.
    #[error("gateway at {address} answered what cannot be read: {why}")]
    Unreadable {
        /// Its admin port.
        address: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
}

/// The status object every call answers.
#[derive(Deserialize)]
struct Answer {
    state: ServingState,
    connections: u64,
    #[serde(default)]
    moved: u64,
    #[serde(default)]
    rate_milli_per_second: u64,
    #[serde(default)]
    deadline_in_ms: Option<i64>,
    #[serde(default)]
    boot_id: String,
    #[serde(default)]
    limits_generation: Option<String>,
}

const DRAIN: &str = "/v1/drain";
const LIMITS: &str = "/v1/limits";

impl AdminClient {
    /// A client that speaks for `term`.
    pub fn new(term: Term) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(ADMIN_CONNECT_TIMEOUT)
            .timeout(ADMIN_TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            // Plain HTTP inside the cluster: no trust store, which an empty image does not have.
            .tls_certs_only([])
            .build()?;
        Ok(Self {
            http,
            term,
            calls: Arc::new(Semaphore::new(ADMIN_CALLS)),
        })
    }

    /// What the gateway does and how many clients it has.
    pub async fn status(&self, at: &Endpoint) -> Result<GatewayState, AdminError> {
        self.call(at, (Method::GET, DRAIN), None).await
    }

    /// Begins a drain, or changes the rate or deadline of the one that is going.
    pub async fn drain(
        &self,
        at: &Endpoint,
        reason: DrainReason,
        rate_milli: u64,
        within: SignedDuration,
    ) -> Result<GatewayState, AdminError> {
        let body = json!({
            "reason": reason.as_str(),
            "rate_milli_per_second": rate_milli,
            "deadline_ms": within.as_millis().max(0),
        });
        self.call(at, (Method::POST, DRAIN), Some(body)).await
    }

    /// Ends a drain before its end: the gateway takes clients again.
    pub async fn cancel(&self, at: &Endpoint) -> Result<GatewayState, AdminError> {
        self.call(at, (Method::DELETE, DRAIN), Some(json!({})))
            .await
    }

    /// Replaces the gateway's thresholds; saying the same again changes nothing.
    pub async fn set_limits(
        &self,
        at: &Endpoint,
        limits: &Tuning,
    ) -> Result<GatewayState, AdminError> {
        self.call(at, (Method::PUT, LIMITS), Some(limits.body()))
            .await
    }

    async fn call(
        &self,
        at: &Endpoint,
        (method, path): (Method, &str),
        body: Option<Value>,
    ) -> Result<GatewayState, AdminError> {
        let url = format!("http://{}{path}", at.address);
        let mut request = self.http.request(method, url).bearer_auth(&at.key);
        if let Some(mut body) = body {
            body["term"] = json!({"lease": self.term.lease, "transitions": self.term.transitions});
            request = request.json(&body);
        }
        // Closed never: a failed acquire only means no limit.
        let _permit = self.calls.acquire().await;
        send(at.address, request).await
    }
}

async fn send(address: SocketAddr, request: RequestBuilder) -> Result<GatewayState, AdminError> {
    let unreachable = |error: &reqwest::Error| AdminError::Unreachable {
        address,
        why: root_cause(error),
    };
    let response = request.send().await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| unreachable(&error))?;
    if !status.is_success() {
        return Err(refusal(address, status, &text));
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|error| AdminError::Unreadable {
        address,
        why: error.to_string(),
    })?;
    Ok(state(&answer, Timestamp::now()))
}

fn refusal(address: SocketAddr, status: StatusCode, text: &str) -> AdminError {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Refusal {
        code: String,
        message: String,
    }
    let said: Refusal = serde_json::from_str(text).unwrap_or_default();
    if said.code == "stale_term" {
        return AdminError::StaleTerm {
            address,
            why: said.message,
        };
    }
    AdminError::Refused {
        address,
        status: status.as_u16(),
        why: format!("{} {}", said.code, said.message).trim().to_owned(),
    }
}

fn state(answer: &Answer, at: Timestamp) -> GatewayState {
    let left = answer.deadline_in_ms.map(SignedDuration::from_millis);
    GatewayState {
        at,
        boot_id: answer.boot_id.clone(),
        state: answer.state,
        connections: answer.connections,
        moved: answer.moved,
        rate_milli: answer.rate_milli_per_second,
        deadline: left.and_then(|left| at.checked_add(left).ok()),
        limits: answer.limits_generation.clone(),
    }
}

/// The innermost error: the outer ones only say that a request failed.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::{AdminClient, AdminError, Endpoint};
    use crate::fleet::observed::{DrainReason, ServingState};
    use crate::fleet::tuning::Tuning;
    use crate::lease::Term;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{get, put};
    use axum::{Json, Router};
    use jiff::SignedDuration;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    type Seen = Arc<Mutex<Vec<(String, Value)>>>;

    #[tokio::test]
    async fn calls_carry_key_term_and_what_is_asked() {
        let (at, seen) = gateway(3).await;
        let client = client(3);
        let began = client
            .drain(
                &at,
                DrainReason::NodeDrain,
                25_000,
                SignedDuration::from_secs(60),
            )
            .await
            .unwrap();
        assert_eq!(began.state, ServingState::Draining);
        assert_eq!(began.connections, 7);
        assert!(began.deadline.unwrap() > began.at);
        client.cancel(&at).await.unwrap();
        let tuning = Tuning::default();
        let told = client.set_limits(&at, &tuning).await.unwrap();
        assert_eq!(told.limits.as_deref(), Some("g"));
        let mut limits = tuning.body();
        limits["term"] = json!({"lease": "uid", "transitions": 3});
        assert_eq!(
            client.status(&at).await.unwrap().state,
            ServingState::Serving
        );
        let term = json!({"lease": "uid", "transitions": 3});
        assert_eq!(
            *seen.lock().unwrap(),
            [
                (
                    "Bearer secret".to_owned(),
                    json!({"term": term, "reason": "node-drain", "rate_milli_per_second": 25_000, "deadline_ms": 60_000})
                ),
                ("Bearer secret".to_owned(), json!({"term": term})),
                ("Bearer secret".to_owned(), limits),
            ]
        );
    }

    #[tokio::test]
    async fn an_older_leader_is_told_so() {
        let (at, _) = gateway(4).await;
        let told = client(3)
            .drain(&at, DrainReason::Rollout, 1, SignedDuration::from_secs(1))
            .await;
        assert!(
            matches!(told, Err(AdminError::StaleTerm { .. })),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let at = Endpoint {
            address,
            key: "secret".into(),
        };
        let told = client(1).status(&at).await;
        assert!(
            matches!(told, Err(AdminError::Unreachable { .. })),
            "{told:?}"
        );
    }

    fn client(transitions: i32) -> AdminClient {
        AdminClient::new(Term {
            lease: "uid".to_owned(),
            transitions,
        })
        .unwrap()
    }

    /// A gateway that has seen a term.
    async fn gateway(knows: i64) -> (Endpoint, Seen) {
        let seen = Seen::default();
        let change = move |state: &'static str| {
            move |State(seen): State<Seen>, headers: HeaderMap, Json(body): Json<Value>| async move {
                if body["term"]["transitions"].as_i64() < Some(knows) {
                    let refusal = json!({"code": "stale_term", "message": "a newer leader spoke"});
                    return (StatusCode::CONFLICT, Json(refusal));
                }
                let key = headers["authorization"].to_str().unwrap().to_owned();
                seen.lock().unwrap().push((key, body));
                (StatusCode::OK, Json(answer(state)))
            }
        };
        let router = Router::new()
            .route(
                "/v1/drain",
                get(|| async { Json(answer("serving")) })
                    .post(change("draining"))
                    .delete(change("serving")),
            )
            .route("/v1/limits", put(change("serving")))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let at = Endpoint {
            address,
            key: "secret".into(),
        };
        (at, seen)
    }

    fn answer(state: &str) -> Value {
        json!({"state": state, "connections": 7, "moved": 1, "rate_milli_per_second": 25_000,
               "deadline_in_ms": 41_000, "ready": true, "boot_id": "b", "instance": "f-0", "limits_generation": "g"})
    }
}
