//! Pure: what a connect request must look like (RFC 6455 §4.2.1, RFC 9112 §3.2), and what is read from its headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use sluice_protocol::{
    BEARER_SUBPROTOCOL, ConnectQuery, ErrorCode, QueryError, SUBPROTOCOL, Subscription,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::auth::{Credentials, Identity};
use crate::error::ApiError;

/// What answers a request that asks for an upgrade rightly.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    /// The client offered our subprotocol.
    speaks: bool,
}

impl Upgrade {
    /// The answer's headers, in a table whose contents are of no use any more.
    pub fn headers(self, mut table: HeaderMap) -> HeaderMap {
        table.clear();
        table.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        table.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        table.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if self.speaks {
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            table.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        table
    }
}

/// Looks whether a request asks for an upgrade rightly.
///
/// # Errors
/// `upgrade_required` for a request that asks for no upgrade, `bad_request` for one that asks wrongly.
pub fn upgrade(request: &Parts, has_body: bool) -> Result<Upgrade, ApiError> {
    let headers = &request.headers;
    let asks = lists(headers, &header::CONNECTION, "upgrade")
        && lists(headers, &header::UPGRADE, "websocket")
        && only(headers, &header::SEC_WEBSOCKET_VERSION)?.is_some_and(|version| version == "13");
    if !asks || request.version < Version::HTTP_11 {
        return Err(ApiError::new(
            ErrorCode::UpgradeRequired,
            "this path speaks WebSocket (version 13)",
        ));
    }
    if has_body {
        return Err(bad("a connect request has no body"));
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY)?.filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(bad("Sec-WebSocket-Key is 16 bytes of base64, once"));
    };
    let accept = Bytes::from(derive_accept_key(key.as_bytes()));
    Ok(Upgrade {
        accept: HeaderValue::from_maybe_shared(accept)
            .map_err(|_| bad("Sec-WebSocket-Key cannot be answered"))?,
        speaks: offered(headers).any(|protocol| protocol == SUBPROTOCOL),
    })
}

/// One `Host`, as every request must have since HTTP/1.1.
pub fn has_host(request: &Parts) -> bool {
    let hosts = request.headers.get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version < Version::HTTP_11)
}

/// Who asks, and for what.
pub fn wish(request: &Parts) -> Result<(Credentials, Vec<Subscription>), ApiError> {
    let query = request.uri.query().unwrap_or_default();
    let query = ConnectQuery::parse(query).map_err(|error| {
        let code = match &error {
            QueryError::Name(_) => ErrorCode::BadChannel,
            QueryError::TooManyChannels => ErrorCode::TooManyChannels,
            _ => ErrorCode::BadRequest,
        };
        ApiError::new(code, error.to_string())
    })?;
    let headers = &request.headers;
    let bearer = offered(headers).find_map(|protocol| protocol.strip_prefix(BEARER_SUBPROTOCOL));
    let speaks = offered(headers).any(|protocol| protocol == SUBPROTOCOL);
    if offered(headers).next().is_some() && bearer.is_none() && !speaks {
        return Err(bad(&format!(
            "no known subprotocol: offer {SUBPROTOCOL} or none"
        )));
    }
    let token = match query.token {
        Some(token) => Some(token),
        None => authorization(headers)?.or(bearer).map(str::to_owned),
    };
    let credentials = Credentials {
        token,
        resume: query.resume,
        user: query.user,
    };
    Ok((credentials, query.channels))
}

/// The user's own channel first, wherever the query had it; nobody else's.
pub fn with_own_channel(
    identity: &Identity,
    mut wanted: Vec<Subscription>,
) -> Result<Vec<Subscription>, ApiError> {
    let own = identity.user.channel();
    match wanted.iter().position(|wanted| wanted.channel == own) {
        Some(at) => wanted[..=at].rotate_right(1),
        None => wanted.insert(
            0,
            Subscription {
                channel: own,
                after: None,
            },
        ),
    }
    let mut others = wanted.iter().skip(1);
    if let Some(other) = others.find(|wanted| wanted.channel.owner().is_some()) {
        let text = format!("{} is followed by that user only", other.channel);
        return Err(ApiError::new(ErrorCode::Forbidden, text));
    }
    let most = sluice_protocol::limits::CHANNELS_PER_CONNECTION;
    if wanted.len() > most {
        let text = format!("at most {most} channels fit one connection, the user's own included");
        return Err(ApiError::new(ErrorCode::TooManyChannels, text));
    }
    Ok(wanted)
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(word))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    items(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

/// Items of a list that may stand in several lines.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// A header that two parties could read differently if it came twice.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    match lines.next() {
        None => Ok(first),
        Some(_) => Err(bad(&format!("{name} is given twice"))),
    }
}

fn is_key(key: &HeaderValue) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && matches!(STANDARD.decode_slice(key.as_bytes(), &mut bytes), Ok(16))
}

fn authorization(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = only(headers, &header::AUTHORIZATION)? else {
        return Ok(None);
    };
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    Ok(value.and_then(|(scheme, token)| {
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        bearer
            .then(|| token.trim())
            .filter(|token| !token.is_empty())
    }))
}

fn bad(text: &str) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    /// The key of RFC 6455 §1.3 and what answers it.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    const USUAL: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];

    fn parts(query: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(format!("/v1/connect?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn with(name: &str, value: &str) -> Vec<(&'static str, String)> {
        let rest = USUAL.into_iter().filter(|(key, _)| *key != name);
        let mut headers: Vec<_> = rest.map(|(key, value)| (key, value.to_owned())).collect();
        if let Some((key, _)) = USUAL.iter().find(|(key, _)| *key == name) {
            headers.push((key, value.to_owned()));
        }
        headers
    }

    fn code(headers: &[(&str, String)], has_body: bool) -> Option<ErrorCode> {
        let headers: Vec<_> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
        upgrade(&parts("", &headers), has_body)
            .err()
            .map(|error| error.code)
    }

    /// The answer's headers, in the request's own table.
    fn answered(request: &Parts) -> Result<HeaderMap, ApiError> {
        Ok(upgrade(request, false)?.headers(request.headers.clone()))
    }

    #[test]
    fn the_rfcs_own_example_is_answered() {
        let answer = answered(&parts("", &USUAL)).unwrap();
        assert_eq!(answer["sec-websocket-accept"], ACCEPT);
        assert!(!answer.contains_key("sec-websocket-protocol"));
        assert_eq!(answer.len(), 3, "nothing of the request is echoed");
    }

    #[test]
    fn every_part_of_an_upgrade_is_needed() {
        use ErrorCode::{BadRequest, UpgradeRequired};
        for (name, value, expected) in [
            ("connection", "keep-alive", UpgradeRequired),
            ("upgrade", "h2c", UpgradeRequired),
            ("sec-websocket-version", "8", UpgradeRequired),
            ("sec-websocket-key", "", BadRequest),
            ("sec-websocket-key", "c2hvcnQ=", BadRequest),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSE=", BadRequest),
            ("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!!!", BadRequest),
        ] {
            assert_eq!(
                code(&with(name, value), false),
                Some(expected),
                "{name}: {value}"
            );
        }
        assert_eq!(code(&with("", ""), true), Some(BadRequest));
        for name in ["sec-websocket-key", "sec-websocket-version"] {
            let mut twice = with("", "");
            let (key, value) = USUAL.into_iter().find(|(key, _)| *key == name).unwrap();
            twice.push((key, value.to_owned()));
            assert_eq!(code(&twice, false), Some(BadRequest), "{name} twice");
        }
    }

    #[test]
    fn an_old_http_version_cannot_upgrade() {
        let mut request = parts("", &USUAL);
        request.version = Version::HTTP_10;
        assert_eq!(
            upgrade(&request, false).unwrap_err().code,
            ErrorCode::UpgradeRequired
        );
    }

    #[test]
    fn one_host_is_needed() {
        assert!(has_host(&parts("", &[("host", "a")])));
        assert!(!has_host(&parts("", &[])));
        assert!(!has_host(&parts("", &[("host", "a"), ("host", "b")])));
        let mut old = parts("", &[]);
        old.version = Version::HTTP_10;
        assert!(has_host(&old));
    }

    #[test]
    fn a_token_comes_in_one_of_three_places() {
        let token = |query, headers: &[_]| wish(&parts(query, headers)).unwrap().0.token;
        let protocols = ("sec-websocket-protocol", "sluice.v1.json, bearer.c");
        let header = ("authorization", "bearer  b");
        assert_eq!(token("token=a", &[header, protocols]).as_deref(), Some("a"));
        assert_eq!(token("", &[header, protocols]).as_deref(), Some("b"));
        assert_eq!(token("", &[protocols]).as_deref(), Some("c"));
        assert_eq!(token("", &[("authorization", "Basic Zm9v")]), None);
        let twice = parts("", &[header, ("authorization", "Bearer other")]);
        assert_eq!(wish(&twice).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn the_subprotocol_is_chosen_and_a_token_is_not_echoed() {
        let mut headers = USUAL.to_vec();
        headers.push(("sec-websocket-protocol", "bearer.c"));
        let answer = answered(&parts("", &headers)).unwrap();
        assert!(!answer.contains_key("sec-websocket-protocol"));
        headers.push(("sec-websocket-protocol", "x, sluice.v1.json"));
        let answer = answered(&parts("", &headers)).unwrap();
        assert_eq!(answer["sec-websocket-protocol"], SUBPROTOCOL);
        assert!(wish(&parts("", &[("sec-websocket-protocol", "mqtt")])).is_err());
    }

    proptest! {
        #[test]
        fn any_headers_are_answered(
            lines in proptest::collection::vec((0_usize..7, proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
            query in "[ -~&&[^ \"#<>\\\\^`{|}]]{0,60}",
            has_body: bool,
        ) {
            const NAMES: [HeaderName; 7] = [
                header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_VERSION, header::SEC_WEBSOCKET_KEY,
                header::SEC_WEBSOCKET_PROTOCOL, header::AUTHORIZATION, header::HOST,
            ];
            let Ok(request) = Request::get(format!("/v1/connect?{query}")).body(()) else { return Ok(()) };
            let mut parts = request.into_parts().0;
            for (name, value) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    parts.headers.append(&NAMES[name], value);
                }
            }
            if let Ok(upgrade) = upgrade(&parts, has_body) {
                let answer = upgrade.headers(parts.headers.clone());
                prop_assert!(answer.contains_key(header::SEC_WEBSOCKET_ACCEPT));
            }
            let _ = (wish(&parts), has_host(&parts));
        }
    }
}
