//! Pure: how a request is refused: as an HTTP answer, or, where the client cannot see one, as frames after the upgrade.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use sluice_protocol::server::ErrorMessage;
use sluice_protocol::{CloseCode, ErrorCode, ServerMessage};

use super::metrics::HandshakeResult;
use crate::error::ApiError;

/// An HTTP answer on the client port.
pub type Answer = Response<Full<Bytes>>;

/// Why a request did not become a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub error: ApiError,
    /// What is counted.
    pub result: HandshakeResult,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let result = match error.code {
            ErrorCode::Unauthorized | ErrorCode::Expired => HandshakeResult::Unauthorized,
            ErrorCode::RateLimited => HandshakeResult::Limited,
            ErrorCode::Draining | ErrorCode::Closing => HandshakeResult::Draining,
            ErrorCode::Overload => HandshakeResult::Overload,
            _ => HandshakeResult::Rejected,
        };
        Self { error, result }
    }
}

impl Refusal {
    /// A browser sees neither status nor body of a refused upgrade, so it is told by frames. Overload stays an HTTP answer:
    /// it must cost nothing, and `/v1/assign` tells the wait.
    pub fn can_be_told_by_frames(&self) -> bool {
        self.error.status() != StatusCode::SERVICE_UNAVAILABLE
    }

    /// The HTTP answer.
    pub fn answer(&self) -> Answer {
        let mut answer = json(self.error.status(), self.error.body());
        let headers = answer.headers_mut();
        if let Some(wait) = self.error.retry_after() {
            headers.insert(header::RETRY_AFTER, wait);
        }
        if self.error.code == ErrorCode::UpgradeRequired {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
        }
        if self.error.code == ErrorCode::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        answer
    }

    /// `error` and Close, as they go onto the wire: one text frame and one Close frame, unmasked (RFC 6455 §5.2).
    pub fn frames(&self) -> Vec<u8> {
        let close = match self.error.code {
            ErrorCode::Unauthorized | ErrorCode::Expired => CloseCode::Unauthorized,
            ErrorCode::Forbidden => CloseCode::Forbidden,
            ErrorCode::RateLimited => CloseCode::Overload,
            _ => CloseCode::BadRequest,
        };
        let ApiError {
            code,
            message,
            retry_after_ms,
        } = self.error.clone();
        let text = ServerMessage::Error(ErrorMessage {
            code,
            message,
            retry_after_ms,
            reference: None,
        })
        .encode();
        let mut frames = Vec::with_capacity(text.len() + close.reason().len() + 8);
        frame(&mut frames, TEXT, text.as_bytes());
        let mut last = close.code().to_be_bytes().to_vec();
        last.extend_from_slice(close.reason().as_bytes());
        frame(&mut frames, CLOSE, &last);
        frames
    }
}

/// Opcodes with FIN.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

fn frame(frames: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    frames.push(kind);
    match u16::try_from(payload.len()) {
        Ok(length @ ..=125) => frames.push(length as u8),
        Ok(length) => {
            frames.push(126);
            frames.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frames.push(127);
            frames.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(payload);
}

/// A JSON answer after which the connection ends.
pub fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // Hyper closes it, but does not say so.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The whole answer, head and body, to somebody for whom there is no place to read a request.
pub fn too_many_handshakes(wait_ms: u64) -> String {
    let error = ApiError::new(ErrorCode::Overload, "too many handshakes: come back later")
        .after_ms(wait_ms);
    let body = String::from_utf8_lossy(&error.body()).into_owned();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: {}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        wait_ms.div_ceil(1000).max(1),
        body.len(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Message, WebSocket};

    /// What a client reads of the frames.
    fn told(refusal: &Refusal) -> (ErrorMessage, u16, String) {
        let wire = std::io::Cursor::new(refusal.frames());
        let mut client = WebSocket::from_raw_socket(wire, Role::Client, None);
        let Message::Text(text) = client.read().unwrap() else {
            panic!("no text")
        };
        let Message::Close(Some(close)) = client.read().unwrap() else {
            panic!("no Close")
        };
        let ServerMessage::Error(error) = ServerMessage::parse(text.as_str()).unwrap() else {
            panic!("no error")
        };
        (error, close.code.into(), close.reason.to_string())
    }

    #[test]
    fn each_error_has_its_close_code() {
        for (code, close) in [
            (ErrorCode::Unauthorized, 4001),
            (ErrorCode::Expired, 4001),
            (ErrorCode::Forbidden, 4003),
            (ErrorCode::RateLimited, 1013),
            (ErrorCode::BadChannel, 4000),
        ] {
            let refusal = Refusal::from(ApiError::new(code, "why").after_ms(1500));
            let (error, code_on_wire, _) = told(&refusal);
            assert_eq!((error.code, code_on_wire), (code, close));
            assert_eq!(error.retry_after_ms, Some(1500));
        }
    }

    #[test]
    fn only_overload_and_drain_stay_answers() {
        for code in ErrorCode::ALL {
            let refusal = Refusal::from(ApiError::new(*code, ""));
            assert_eq!(
                refusal.can_be_told_by_frames(),
                code.status() != 503,
                "{code}"
            );
        }
    }

    #[test]
    fn an_answer_carries_its_wait_and_what_would_work() {
        let limited = Refusal::from(ApiError::new(ErrorCode::RateLimited, "").after_ms(1001));
        let answer = limited.answer();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["retry-after"], "2");
        let plain = Refusal::from(ApiError::new(ErrorCode::UpgradeRequired, "")).answer();
        assert_eq!(plain.headers()["sec-websocket-version"], "13");
    }

    #[test]
    fn who_is_turned_away_gets_a_whole_answer() {
        let text = too_many_handshakes(2500);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(head.contains("retry-after: 3"));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&json["code"], &json["retry_after_ms"]),
            (&"overload".into(), &2500.into())
        );
    }

    proptest! {
        #[test]
        fn a_client_reads_what_was_written(message in "\\PC{0,300}", wait in proptest::option::of(0_u64..1 << 53)) {
            let mut error = ApiError::new(ErrorCode::Unauthorized, message.clone());
            error.retry_after_ms = wait;
            let (read, close, reason) = told(&Refusal::from(error));
            prop_assert_eq!((read.message, read.retry_after_ms), (message, wait));
            prop_assert_eq!((close, reason.as_str()), (4001, "unauthorized"));
        }
    }
}
