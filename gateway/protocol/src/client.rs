//! Pure: what a client says to a server.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::channel::ChannelName;
use crate::close::CloseCode;
use crate::error::ErrorCode;
use crate::ids::{Position, Ref};
use crate::seq::Seq;

/// One frame from client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Follow a channel, from a position on or from now on.
    Subscribe {
        /// The channel.
        channel: ChannelName,
        /// The last position the client has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Position>,
        /// Echoed in the answer.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Ref>,
    },
    /// Stop following a channel.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
        /// Echoed in the answer.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Ref>,
    },
    /// Everything up to this number has been taken. Not answered.
    Ack {
        /// Number of the last message taken; 0 for the welcome alone.
        seq: Seq,
    },
    /// Add channels with their positions, more than a query holds. The request for the connection had credentials of its own:
    /// this token must be the same user's, and changes neither session nor expiry.
    Resume {
        /// From the last welcome.
        resume_token: String,
        /// The last position of each channel.
        #[serde(default)]
        channels: BTreeMap<ChannelName, Position>,
        /// Echoed in errors.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Ref>,
    },
    /// Replace the credentials before they expire.
    Refresh {
        /// The new token.
        token: String,
        /// Echoed in the answer.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Ref>,
    },
    /// Are you there?
    Ping {
        /// Echoed in the pong.
        id: u64,
        /// Echoed in the pong.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Ref>,
    },
}

/// Types that a server of this version knows, for the error text and to tell "unknown" from "wrong".
const TYPES: [&str; 6] = [
    "subscribe",
    "unsubscribe",
    "ack",
    "resume",
    "refresh",
    "ping",
];

/// A frame that a server cannot act on: it sends this as `error` and closes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Rejected {
    /// For the `error` message.
    pub code: ErrorCode,
    /// For the Close frame.
    pub close: CloseCode,
    /// For people.
    pub message: String,
    /// The `ref` of the frame, when it could be read.
    pub reference: Option<Ref>,
}

impl ClientMessage {
    /// Reads one frame.
    ///
    /// # Errors
    /// [`Rejected`] with the error and close code the server answers with.
    pub fn parse(text: &str) -> Result<Self, Rejected> {
        serde_json::from_str(text).map_err(|error| reject(text, &error))
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        // Nothing in a client message fails to serialize; an empty text is refused by the server as bad_request.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(rename = "ref", default)]
    reference: Option<serde_json::Value>,
}

fn reject(text: &str, error: &serde_json::Error) -> Rejected {
    let bad = |message: String, reference| Rejected {
        code: ErrorCode::BadRequest,
        close: CloseCode::BadRequest,
        message,
        reference,
    };
    let Ok(head) = serde_json::from_str::<Head>(text) else {
        return bad(
            format!("send one JSON object with a string \"type\": {error}"),
            None,
        );
    };
    let reference = head
        .reference
        .as_ref()
        .and_then(|value| value.as_str())
        .and_then(|text| Ref::new(text).ok());
    match head.kind.as_deref() {
        None => bad("the object has no \"type\"".into(), reference),
        Some(kind) if TYPES.contains(&kind) => {
            bad(format!("cannot read {kind}: {error}"), reference)
        }
        Some(_) => Rejected {
            code: ErrorCode::UnknownMessage,
            close: CloseCode::UnknownMessage,
            message: format!("unknown type; this server knows {}", TYPES.join(", ")),
            reference,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// Frames exactly as PROTOCOL.md shows them.
    const FRAMES: &[&str] = &[
        r#"{"type":"subscribe","channel":"news"}"#,
        r#"{"type":"subscribe","channel":"news","after":{"epoch":"e1","offset":7},"ref":"s1"}"#,
        r#"{"type":"unsubscribe","channel":"news","ref":"u1"}"#,
        r#"{"type":"ack","seq":128}"#,
        r#"{"type":"resume","resume_token":"r.1","channels":{"news":{"epoch":"e1","offset":7}}}"#,
        r#"{"type":"refresh","token":"eyJ…","ref":"r1"}"#,
        r#"{"type":"ping","id":3}"#,
    ];

    #[test]
    fn documented_frames_survive_reading_and_writing() {
        let document = include_str!("../PROTOCOL.md");
        for frame in FRAMES {
            assert_eq!(&ClientMessage::parse(frame).unwrap().encode(), frame);
            assert!(document.contains(frame), "PROTOCOL.md lacks {frame}");
        }
    }

    #[test]
    fn every_known_type_is_listed() {
        for frame in FRAMES {
            assert!(
                TYPES
                    .iter()
                    .any(|t| frame.contains(&format!("\"type\":\"{t}\"")))
            );
        }
    }

    #[test]
    fn each_mistake_has_its_code() {
        let cases = [
            ("", ErrorCode::BadRequest, CloseCode::BadRequest),
            ("nonsense", ErrorCode::BadRequest, CloseCode::BadRequest),
            ("[]", ErrorCode::BadRequest, CloseCode::BadRequest),
            ("{}", ErrorCode::BadRequest, CloseCode::BadRequest),
            (
                r#"{"type":5}"#,
                ErrorCode::BadRequest,
                CloseCode::BadRequest,
            ),
            (
                r#"{"type":"ack"}"#,
                ErrorCode::BadRequest,
                CloseCode::BadRequest,
            ),
            (
                r#"{"type":"ack","seq":-1}"#,
                ErrorCode::BadRequest,
                CloseCode::BadRequest,
            ),
            (
                r#"{"type":"subscribe","channel":""}"#,
                ErrorCode::BadRequest,
                CloseCode::BadRequest,
            ),
            (
                r#"{"type":"shout","ref":"x"}"#,
                ErrorCode::UnknownMessage,
                CloseCode::UnknownMessage,
            ),
        ];
        for (text, code, close) in cases {
            let rejected = ClientMessage::parse(text).unwrap_err();
            assert_eq!((rejected.code, rejected.close), (code, close), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_answered_with_its_ref() {
        let rejected = ClientMessage::parse(r#"{"type":"shout","ref":"x"}"#).unwrap_err();
        assert_eq!(rejected.reference, Some(Ref::new("x").unwrap()));
        let long = format!(r#"{{"type":"shout","ref":"{}"}}"#, "x".repeat(65));
        assert_eq!(ClientMessage::parse(&long).unwrap_err().reference, None);
    }
}
