//! Effects: opens one connection: name, socket, upgrade.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use sluice_protocol::session::Ended;
use sluice_protocol::{CONNECT_PATH, ConnectQuery};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http::Response};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::config::Credentials;
use crate::limits;

/// An open connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Everything one attempt needs, owned, so that it can run beside a live connection.
pub(crate) struct Attempt {
    pub(crate) url: String,
    pub(crate) query: ConnectQuery,
    pub(crate) credentials: Credentials,
    pub(crate) source: Option<IpAddr>,
}

/// Opens a connection. Has no time limit of its own: the session gives up on it.
pub(crate) async fn dial(attempt: Attempt) -> Result<Box<Socket>, Ended> {
    let Attempt {
        url,
        mut query,
        credentials,
        source,
    } = attempt;
    let mut bearer = None;
    if query.resume.is_none() {
        match credentials {
            Credentials::Token(token) => bearer = Some(format!("Bearer {}", token())),
            Credentials::DevUser(user) => query.user = Some(user),
        }
    }
    let base = url.trim_end_matches('/');
    let mut request = format!("{base}{CONNECT_PATH}?{}", query.format())
        .into_client_request()
        .map_err(|error| failed("base URL", &error))?;
    if let Some(bearer) = bearer {
        let value = HeaderValue::from_str(&bearer).map_err(|e| failed("token", &e))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let uri = request.uri();
    if uri.scheme_str() != Some("ws") {
        return Err(failed(
            "base URL",
            &"only ws:// is spoken; end TLS in front",
        ));
    }
    let host = uri.host().unwrap_or_default().to_owned();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, uri.port_u16().unwrap_or(80), source).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits::FRAME_BYTES))
        .max_frame_size(Some(limits::FRAME_BYTES));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(Box::new(socket)),
        Err(Error::Http(response)) => Err(refused(&response)),
        Err(error) => Err(failed("upgrade", &error)),
    }
}

async fn connect(host: &str, port: u16, source: Option<IpAddr>) -> Result<TcpStream, Ended> {
    let addresses = lookup_host((host, port)).await;
    let address = addresses
        .map_err(|error| failed("name", &error))?
        .find(|a| source.is_none_or(|s| s.is_ipv4() == a.is_ipv4()))
        .ok_or_else(|| failed("name", &"no address of the right family"))?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| failed("socket", &error))?;
    if let Some(source) = source {
        let bound = socket.bind(SocketAddr::new(source, 0));
        bound.map_err(|error| failed("source address", &error))?;
    }
    let stream = socket.connect(address).await;
    let stream = stream.map_err(|error| failed("connect", &error))?;
    // Acknowledgements and pings are small and must not wait for each other.
    stream
        .set_nodelay(true)
        .map_err(|error| failed("socket", &error))?;
    Ok(stream)
}

/// The body of a refusal; its wait is finer than the header's seconds.
#[derive(Deserialize)]
struct Refusal {
    retry_after_ms: Option<u64>,
}

fn refused(response: &Response<Option<Vec<u8>>>) -> Ended {
    let body = response.body().as_deref().unwrap_or_default();
    let exact = serde_json::from_slice::<Refusal>(body)
        .ok()
        .and_then(|refusal| refusal.retry_after_ms)
        .map(Duration::from_millis);
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    Ended::Refused {
        status: response.status().as_u16(),
        retry_after: exact.or(seconds),
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Ended {
    Ended::Failed(format!("{what}: {error}"))
}
