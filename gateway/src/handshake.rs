//! Effects (HTTP): from a request on the client port to a connection, or to an answer that says why not.
//!
//! What costs least is asked first: draining, the request's form, credentials, rights, room. Nothing is kept for a client before
//! all of it is answered.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_protocol::server::ErrorMessage;
use sluice_protocol::{
    BEARER_SUBPROTOCOL, CONNECT_PATH, CloseCode, ConnectQuery, ErrorCode, QueryError, SUBPROTOCOL,
    Subscription,
};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::auth::{Credentials, Identity};
use crate::connection::{self, Connection};
use crate::core::Core;
use crate::drain::plan::State;
use crate::error::ApiError;
use crate::limits;
use crate::metrics::HandshakeResult;
use crate::registry::Place;
use crate::shard::Shard;

type Answer = Response<Full<Bytes>>;

/// Serves one accepted socket until it is answered or upgraded.
pub async fn serve(
    shard: Rc<Shard>,
    stream: TcpStream,
    accepted: Instant,
    _permit: OwnedSemaphorePermit,
) {
    let core = Arc::clone(shard.core());
    let service = service_fn(|request| {
        let shard = Rc::clone(&shard);
        async move { Ok::<_, Infallible>(answer(&shard, request, accepted).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_HEADER_TIMEOUT)
        .max_buf_size(limits::HANDSHAKE_HEAD_BYTES)
        .max_headers(limits::HANDSHAKE_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_timeout() => core.metrics.handshake(HandshakeResult::Timeout),
        Ok(Err(_)) => core.metrics.handshake(HandshakeResult::Error),
        Err(_) => core.metrics.handshake(HandshakeResult::Timeout),
    }
}

async fn answer(shard: &Rc<Shard>, request: Request<Incoming>, accepted: Instant) -> Answer {
    let get = request.method() == Method::GET;
    match request.uri().path() {
        CONNECT_PATH if get => connect(shard, request, accepted).await,
        "/v1/assign" if get => assign(shard.core()),
        CONNECT_PATH | "/v1/assign" => {
            error(&ApiError::new(ErrorCode::MethodNotAllowed, "use GET"))
        }
        _ => error(&ApiError::new(
            ErrorCode::NotFound,
            "this port has /v1/connect and /v1/assign",
        )),
    }
}

/// When a client may come, for those that cannot see a refused upgrade's answer.
fn assign(core: &Core) -> Answer {
    let wait = busy(core)
        .and_then(|(error, _)| error.retry_after_ms)
        .unwrap_or(0);
    let mut answer = json(
        StatusCode::OK,
        format!("{{\"retry_after_ms\":{wait}}}").into(),
    );
    answer.headers_mut().insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

async fn connect(shard: &Rc<Shard>, mut request: Request<Incoming>, accepted: Instant) -> Answer {
    let core = shard.core();
    if let Some((refusal, result)) = busy(core) {
        return finish(core, result, accepted, error(&refusal));
    }
    let Some(key) = upgrade_key(request.headers()) else {
        let refusal = ApiError::new(
            ErrorCode::UpgradeRequired,
            "this path speaks WebSocket (version 13)",
        );
        let mut answer = error(&refusal);
        answer
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        answer.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return finish(core, HandshakeResult::Rejected, accepted, answer);
    };
    let offered = offered_protocols(request.headers());
    let accept = accept_headers(&key, &offered);
    let upgrade = match examine(core, &request, &offered).await {
        Ok(client) => {
            let Some(place) = core.registry.admit(client.identity.session).await else {
                let refusal = overload("this gateway is full: come back later");
                return finish(core, HandshakeResult::Overload, accepted, error(&refusal));
            };
            Upgrade::Client(client, place)
        }
        Err(refusal) => {
            let result = match refusal.code {
                ErrorCode::Unauthorized | ErrorCode::Expired => HandshakeResult::Unauthorized,
                ErrorCode::Overload => HandshakeResult::Overload,
                _ => HandshakeResult::Rejected,
            };
            let told_by_frame = request.headers().contains_key(header::ORIGIN)
                && result != HandshakeResult::Overload;
            if !told_by_frame {
                return finish(core, result, accepted, error(&refusal));
            }
            finish(core, result, accepted, ());
            Upgrade::Refusal(refusal)
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let after = after_upgrade(Rc::clone(shard), upgraded, upgrade, accepted);
    tokio::task::spawn_local(after);
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = accept;
    answer
}

/// A client whose request is in order.
struct Client {
    identity: Identity,
    wanted: Vec<Subscription>,
}

enum Upgrade {
    Client(Client, Place),
    Refusal(ApiError),
}

async fn after_upgrade(
    shard: Rc<Shard>,
    upgraded: hyper::upgrade::OnUpgrade,
    upgrade: Upgrade,
    accepted: Instant,
) {
    let core = shard.core();
    let stream = match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, upgraded).await {
        Ok(Ok(upgraded)) => upgraded.downcast::<TokioIo<TcpStream>>().ok(),
        _ => None,
    };
    let Some(parts) = stream else {
        core.metrics.handshake(HandshakeResult::Error);
        return;
    };
    let stream = parts.io.into_inner();
    match upgrade {
        Upgrade::Client(Client { identity, wanted }, place) => {
            finish(core, HandshakeResult::Accepted, accepted, ());
            Connection::start(&shard, stream, &parts.read_buf, &identity, place, wanted);
        }
        Upgrade::Refusal(ApiError {
            code,
            message,
            retry_after_ms,
        }) => {
            let close = match code {
                ErrorCode::Unauthorized | ErrorCode::Expired => CloseCode::Unauthorized,
                ErrorCode::Forbidden => CloseCode::Forbidden,
                _ => CloseCode::BadRequest,
            };
            let message = ErrorMessage {
                code,
                message,
                retry_after_ms,
                reference: None,
            };
            connection::refuse(core, stream, message, close).await;
        }
    }
}

/// Reasons to refuse anybody.
fn busy(core: &Core) -> Option<(ApiError, HandshakeResult)> {
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
        return Some((
            ApiError::new(code, text).after_ms(retry_after_ms()),
            HandshakeResult::Draining,
        ));
    }
    if core.hub.epoch().is_none() {
        return Some((
            overload("the broker was not reached yet: come back later"),
            HandshakeResult::Overload,
        ));
    }
    None
}

/// Form, credentials, rights.
async fn examine(
    core: &Core,
    request: &Request<Incoming>,
    offered: &[String],
) -> Result<Client, ApiError> {
    let query =
        ConnectQuery::parse(request.uri().query().unwrap_or_default()).map_err(|error| {
            let code = match &error {
                QueryError::Name(_) => ErrorCode::BadChannel,
                QueryError::TooManyChannels => ErrorCode::TooManyChannels,
                _ => ErrorCode::BadRequest,
            };
            ApiError::new(code, error.to_string())
        })?;
    let bearer = || {
        offered
            .iter()
            .find_map(|protocol| protocol.strip_prefix(BEARER_SUBPROTOCOL).map(str::to_owned))
    };
    if !offered.is_empty()
        && bearer().is_none()
        && !offered.iter().any(|protocol| protocol == SUBPROTOCOL)
    {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("no known subprotocol: offer {SUBPROTOCOL} or none"),
        ));
    }
    let credentials = Credentials {
        token: query
            .token
            .or_else(|| authorization(request.headers()))
            .or_else(bearer),
        resume: query.resume,
        user: query.user,
    };
    let identity = core.auth.check(&credentials).await.map_err(|refused| {
        let error = ApiError::new(refused.code(), refused.to_string());
        if error.code == ErrorCode::Overload {
            error.after_ms(retry_after_ms())
        } else {
            error
        }
    })?;
    let wanted = with_own_channel(&identity, query.channels)?;
    Ok(Client { identity, wanted })
}

/// The user's own channel first, wherever the query had it; nobody else's.
fn with_own_channel(
    identity: &Identity,
    channels: Vec<Subscription>,
) -> Result<Vec<Subscription>, ApiError> {
    let own = identity.user.channel();
    let (mut wanted, rest): (Vec<_>, Vec<_>) = channels
        .into_iter()
        .partition(|wanted| wanted.channel == own);
    if wanted.is_empty() {
        wanted.push(Subscription {
            channel: own,
            after: None,
        });
    }
    if let Some(other) = rest.iter().find(|wanted| wanted.channel.owner().is_some()) {
        let text = format!("{} is followed by that user only", other.channel);
        return Err(ApiError::new(ErrorCode::Forbidden, text));
    }
    wanted.extend(rest);
    let most = sluice_protocol::limits::CHANNELS_PER_CONNECTION;
    if wanted.len() > most {
        let text = format!("at most {most} channels fit one connection, the user's own included");
        return Err(ApiError::new(ErrorCode::TooManyChannels, text));
    }
    Ok(wanted)
}

/// The client's key when the request is a proper upgrade.
fn upgrade_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name: header::HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|item| item.trim().eq_ignore_ascii_case(word))
            })
    };
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
    let whole = lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && version == "13";
    headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| whole)
        .cloned()
}

fn offered_protocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

fn authorization(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

fn accept_headers(key: &HeaderValue, offered: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if offered.iter().any(|protocol| protocol == SUBPROTOCOL) {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    headers
}

fn finish<T>(core: &Core, result: HandshakeResult, accepted: Instant, answer: T) -> T {
    core.metrics.handshake(result);
    core.metrics
        .handshake_seconds
        .observe(accepted.elapsed().as_secs_f64());
    answer
}

fn overload(text: &str) -> ApiError {
    ApiError::new(ErrorCode::Overload, text).after_ms(retry_after_ms())
}

/// Each answer its own, so that those who were refused together do not come back together.
fn retry_after_ms() -> u64 {
    let (least, most) = limits::RETRY_AFTER_SECONDS;
    rand::random_range(least * 1000..=most * 1000)
}

fn error(error: &ApiError) -> Answer {
    let mut answer = json(error.status(), error.body());
    if let Some(wait) = error.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    answer
}

fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // One request per connection: an idle one would hold a handshake's place.
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
