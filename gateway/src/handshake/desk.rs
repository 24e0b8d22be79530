//! Effects (clock, counters): answers the one request of a socket. What can be decided by the request alone is answered at once;
//! credentials may wait for a key, and room for the shard that keeps the session.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use sluice_protocol::{CONNECT_PATH, ErrorCode, Subscription};
use tokio::net::TcpStream;

use super::address::client_address;
use super::admission::retry_after;
use super::metrics::HandshakeResult;
use super::refusal::{Answer, Refusal, json};
use super::request;
use crate::auth::{AuthError, Credentials, Identity};
use crate::connection::guest::Guest;
use crate::core::Core;
use crate::drain::plan::State;
use crate::error::ApiError;

/// Where clients ask when to come.
const ASSIGN_PATH: &str = "/v1/assign";

/// What proxies say about whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Somebody who may become a connection.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) identity: Identity,
    pub(super) wanted: Vec<Subscription>,
    pub(super) guest: Guest,
}

/// What remains to be done with the socket.
#[derive(Debug, Default)]
pub(super) enum Outcome {
    /// Nothing more is said.
    #[default]
    Answered,
    /// Upgraded: these frames are the last.
    Frames(Vec<u8>),
    /// Upgraded to a connection.
    Welcome(Newcomer),
}

/// Answers the request of one socket.
pub(super) struct Desk {
    core: Arc<Core>,
    accepted: Instant,
    /// Known when some limit asks for it.
    peer: Option<IpAddr>,
    outcome: Cell<Outcome>,
}

/// A request whose credentials are being checked.
struct Applicant {
    credentials: Credentials,
    channels: Vec<Subscription>,
    upgrade: HeaderMap,
    browser: bool,
    address: Option<IpAddr>,
}

impl Desk {
    pub(super) fn new(core: Arc<Core>, stream: &TcpStream, accepted: Instant) -> Self {
        let wanted = core.admission.asks_for_addresses() || core.visitors.are_watched();
        let peer = wanted.then(|| stream.peer_addr().ok()).flatten();
        Self {
            core,
            accepted,
            peer: peer.map(|peer| peer.ip()),
            outcome: Cell::default(),
        }
    }

    /// Answers a request; what only needs a look is decided before this returns.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> LocalBoxFuture<'_, Result<Answer, Infallible>> {
        let decided = self.decide(request);
        Box::pin(async move {
            let applicant = match decided {
                Ok(applicant) => applicant,
                Err(answer) => return Ok(*answer),
            };
            let checked = self.core.auth.check(&applicant.credentials).await;
            Ok(self.settle(applicant, checked).await)
        })
    }

    /// Somebody whose credentials have to be checked, or an answer.
    fn decide(&self, request: Request<Incoming>) -> Result<Applicant, Box<Answer>> {
        let (mut head, body) = request.into_parts();
        let get = head.method == Method::GET;
        let refusal = match head.uri.path() {
            _ if !request::has_host(&head) => {
                ApiError::new(ErrorCode::BadRequest, "send one Host header")
            }
            CONNECT_PATH if get => return self.connect(&mut head, !body.is_end_stream()),
            ASSIGN_PATH if get => return Err(Box::new(self.assign())),
            CONNECT_PATH | ASSIGN_PATH => ApiError::new(ErrorCode::MethodNotAllowed, "use GET"),
            _ => ApiError::new(
                ErrorCode::NotFound,
                "this port has /v1/connect and /v1/assign",
            ),
        };
        Err(Box::new(self.refuse(&refusal.into())))
    }

    /// What was decided; asked once, at the end.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.take()
    }

    /// When a client may come, for those that cannot see a refused upgrade's answer.
    fn assign(&self) -> Answer {
        // The breaker first: who only asks is no newcomer that it refused.
        let full = self.core.breaker.is_open().then(retry_after);
        let wait = full.or_else(|| busy(&self.core)?.retry_after_ms);
        let wait = wait.unwrap_or(0);
        let body = format!("{{\"retry_after_ms\":{wait}}}");
        let mut answer = json(StatusCode::OK, body.into());
        let headers = answer.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    fn connect(&self, head: &mut Parts, has_body: bool) -> Result<Applicant, Box<Answer>> {
        if let Some(error) = busy(&self.core) {
            return Err(Box::new(self.refuse(&error.into())));
        }
        let upgrade = request::upgrade(head, has_body);
        let upgrade = upgrade.map_err(|error| Box::new(self.refuse(&error.into())))?;
        let browser = head.headers.contains_key(header::ORIGIN);
        let address = self.address(&head.headers);
        let wish = self
            .core
            .admission
            .handshake(address)
            .and_then(|()| self.core.visitors.check(address))
            .and_then(|()| request::wish(head));
        // The table of the request's headers has room for the answer's.
        let upgrade = upgrade.headers(std::mem::take(&mut head.headers));
        match wish {
            Ok((credentials, channels)) => Ok(Applicant {
                credentials,
                channels,
                upgrade,
                browser,
                address,
            }),
            Err(error) => Err(Box::new(self.refuse_upgrade(
                &error.into(),
                upgrade,
                browser,
            ))),
        }
    }

    /// The credentials were checked; what is left are rights and room.
    async fn settle(&self, applicant: Applicant, checked: Result<Identity, AuthError>) -> Answer {
        let Applicant {
            channels,
            upgrade,
            browser,
            address,
            ..
        } = applicant;
        let settled = match checked {
            Ok(identity) => self.room(identity, channels, address).await,
            Err(error) => Err(refused(&error)),
        };
        match settled {
            Ok(newcomer) => self.switch(upgrade, Outcome::Welcome(newcomer)),
            Err(error) => self.refuse_upgrade(&error.into(), upgrade, browser),
        }
    }

    async fn room(
        &self,
        identity: Identity,
        channels: Vec<Subscription>,
        address: Option<IpAddr>,
    ) -> Result<Newcomer, ApiError> {
        let core = &self.core;
        let wanted = request::with_own_channel(&identity, channels)?;
        let (user, limits) = (&identity.user, &core.admission);
        limits.user_handshake(user)?;
        let mut admitted = limits.connection(user, address, false);
        if admitted.is_err() && identity.resumed && core.registry.holds(identity.session).await {
            admitted = limits.connection(user, address, true);
        }
        let admitted = admitted.map_err(|limit| limits.no_connection(limit))?;
        let place = core
            .breaker
            .admit(&core.registry, identity.session)
            .await
            .ok_or_else(|| overload("this gateway is full: come back later"))?;
        Ok(Newcomer {
            identity,
            wanted,
            guest: Guest::new(place, admitted, core.visitors.enter(address)),
        })
    }

    fn address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines = headers.get_all(FORWARDED_FOR).iter();
        let hops = self.core.admission.trusted_hops();
        self.peer
            .map(|peer| client_address(peer, lines.map(HeaderValue::as_bytes), hops))
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        count(&self.core, refusal.result, self.accepted);
        refusal.answer()
    }

    fn refuse_upgrade(&self, refusal: &Refusal, upgrade: HeaderMap, browser: bool) -> Answer {
        if !browser || !refusal.can_be_told_by_frames() {
            return self.refuse(refusal);
        }
        count(&self.core, refusal.result, self.accepted);
        self.switch(upgrade, Outcome::Frames(refusal.frames()))
    }

    fn switch(&self, upgrade: HeaderMap, outcome: Outcome) -> Answer {
        self.outcome.set(outcome);
        let mut answer = Response::new(Full::<Bytes>::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = upgrade;
        answer
    }
}

/// Reasons to refuse anybody.
fn busy(core: &Core) -> Option<ApiError> {
    if !core.drain.accepts() {
        let (code, text) = match core.drain.state() {
            State::Closing => (
                ErrorCode::Closing,
                "this gateway shuts down: connect again, elsewhere",
            ),
            _ => (
                ErrorCode::Draining,
                "this gateway is being drained: connect again, elsewhere",
            ),
        };
        return Some(ApiError::new(code, text).after_ms(retry_after()));
    }
    if core.breaker.shut() {
        let text = "this gateway is short of memory or tasks: come back later";
        return Some(overload(text));
    }
    if core.hub.epoch().is_none() {
        let text = "the broker was not reached yet: come back later";
        return Some(overload(text));
    }
    None
}

fn refused(error: &AuthError) -> ApiError {
    let answer = ApiError::new(error.code(), error.to_string());
    match answer.code {
        ErrorCode::Overload => answer.after_ms(retry_after()),
        _ => answer,
    }
}

fn overload(text: &str) -> ApiError {
    ApiError::new(ErrorCode::Overload, text).after_ms(retry_after())
}

/// Counts how a handshake ended, and how long it took.
pub(super) fn count(core: &Core, result: HandshakeResult, accepted: Instant) {
    core.metrics.handshakes.result(result);
    let seconds = accepted.elapsed().as_secs_f64();
    core.metrics.handshake_seconds.observe(seconds);
}
