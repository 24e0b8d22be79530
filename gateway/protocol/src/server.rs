//! Pure: what a server says to a client.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::channel::{ChannelName, UserId};
use crate::error::ErrorCode;
use crate::ids::{Epoch, Offset, Payload, Position, Ref};
use crate::seq::Seq;

/// Start of every `message` frame that this crate writes; lets the reader skip the search for the type.
const MESSAGE_START: &str = "{\"type\":\"message\",";

/// Maps have string keys and nothing in a message fails to serialize, so this is never sent; were it ever, the client would see a plain
/// internal error.
const UNWRITABLE: &str =
    r#"{"type":"error","code":"internal","message":"a frame could not be written"}"#;

/// One frame from server to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// First frame of every accepted connection.
    Welcome(Welcome),
    /// A channel is now followed.
    Subscribed(Subscribed),
    /// A channel is no longer followed.
    Unsubscribed(Unsubscribed),
    /// A notification.
    Message(Message),
    /// Notifications are missing and will not come.
    Gap(Gap),
    /// Please connect elsewhere, and when.
    Migrate(Migrate),
    /// Answer to `ping`.
    Pong(Pong),
    /// Answer to `refresh`.
    Refreshed(Refreshed),
    /// Something went wrong; a Close frame follows when the connection cannot go on.
    Error(ErrorMessage),
}

/// Identity, limits and timing of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Connection id, for logs and support.
    pub connection: String,
    /// Who the server takes the client for.
    pub user: UserId,
    /// Replaces the token on the next connect.
    pub resume_token: String,
    /// Timing of heartbeats.
    pub heartbeat: Heartbeat,
    /// Limits of this connection.
    pub limits: Limits,
}

/// Timing of heartbeats, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Silence after which the client sends `ping`.
    pub client_ms: u32,
    /// How long the client then waits for any frame.
    pub client_timeout_ms: u32,
    /// Silence after which the server sends a Ping frame.
    pub server_ms: u32,
}

/// Limits of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Messages that may be unacknowledged.
    pub window_messages: u32,
    /// Bytes of message frames that may be unacknowledged.
    pub window_bytes: u32,
    /// Largest message from the client, bytes.
    pub message_bytes: u32,
}

/// A channel is now followed: every message after the position comes, in order, on this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The channel.
    pub channel: ChannelName,
    /// Epoch of the position.
    pub epoch: Epoch,
    /// With `recovered`, the position the client asked for; without, the one that everything follows: the channel's last one, or
    /// the one before the oldest message still there.
    pub offset: Offset,
    /// True when the client gave a position and everything after it follows.
    pub recovered: bool,
    /// Echo.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
}

/// A channel is no longer followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribed {
    /// The channel.
    pub channel: ChannelName,
    /// `requested`, or why the server ended it.
    pub code: ErrorCode,
    /// Echo.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Number on this connection.
    pub seq: Seq,
    /// The channel.
    pub channel: ChannelName,
    /// Which life of the channel.
    pub epoch: Epoch,
    /// Place in the channel.
    pub offset: Offset,
    /// When the broker stored it, milliseconds since the Unix epoch.
    pub time: u64,
    /// The content as it was published.
    pub data: Payload,
}

/// Everything after `from` up to and including `to` may be missing and will not come; messages after `to` follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The channel.
    pub channel: ChannelName,
    /// The last position that is known to be whole.
    pub from: Position,
    /// Where the channel goes on; of another epoch when the channel was made anew.
    pub to: Position,
}

/// Please connect elsewhere: open the new connection after `not_before_ms`, be gone before `deadline_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// Why, one snake_case word, for logs.
    pub reason: String,
    /// Earliest moment for the new connection, milliseconds from receipt.
    pub not_before_ms: u32,
    /// The server closes with 1012 then, milliseconds from receipt.
    pub deadline_ms: u32,
    /// Where to connect; without it, where the client connects anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// As in [`Pong`]: with fresh positions the next gateway need not look into history.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cursors: BTreeMap<ChannelName, Position>,
}

/// Answer to `ping`, at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The ping's id.
    pub id: u64,
    /// Server time, milliseconds since the Unix epoch.
    pub time: u64,
    /// Positions of channels that were idle: everything up to them has been sent on this connection before this frame.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cursors: BTreeMap<ChannelName, Position>,
    /// Echo.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
}

/// Answer to `refresh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// When the new credentials expire, milliseconds since the Unix epoch.
    pub expires: u64,
    /// Echo.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
}

/// Something went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// Wait this long before trying again, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Echo.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or fields are wrong.
    #[error("cannot read the frame: {0}")]
    Json(#[from] serde_json::Error),
    /// A type of a later version: ignore the frame.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
}

impl ServerMessage {
    /// Reads one frame. The content of a `message` is not looked into.
    ///
    /// # Errors
    /// [`FrameError::UnknownType`] for types of later versions, which clients ignore; anything else is a broken frame.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        if text.starts_with(MESSAGE_START) {
            return Ok(Self::Message(serde_json::from_str(text)?));
        }
        let head: Head = serde_json::from_str(text)?;
        Ok(match head.kind.as_ref() {
            "welcome" => Self::Welcome(serde_json::from_str(text)?),
            "subscribed" => Self::Subscribed(serde_json::from_str(text)?),
            "unsubscribed" => Self::Unsubscribed(serde_json::from_str(text)?),
            "message" => Self::Message(serde_json::from_str(text)?),
            "gap" => Self::Gap(serde_json::from_str(text)?),
            "migrate" => Self::Migrate(serde_json::from_str(text)?),
            "pong" => Self::Pong(serde_json::from_str(text)?),
            "refreshed" => Self::Refreshed(serde_json::from_str(text)?),
            "error" => Self::Error(serde_json::from_str(text)?),
            other => return Err(FrameError::UnknownType(other.to_owned())),
        })
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| UNWRITABLE.into())
    }

    /// The frame's text as bytes, behind what is in `text` already.
    pub fn encode_to(&self, text: &mut Vec<u8>) {
        let before = text.len();
        if serde_json::to_writer(&mut *text, self).is_err() {
            text.truncate(before);
            text.extend_from_slice(UNWRITABLE.as_bytes());
        }
    }
}

/// Deriving this is not possible: a tagged enum is buffered by serde, and raw JSON does not survive that.
impl<'de> Deserialize<'de> for ServerMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// Frames exactly as PROTOCOL.md shows them; each must survive reading and writing unchanged.
    const FRAMES: &[&str] = &[
        r#"{"type":"welcome","connection":"c-1","user":"ann","resume_token":"r.1","heartbeat":{"client_ms":15000,"client_timeout_ms":8000,"server_ms":30000},"limits":{"window_messages":256,"window_bytes":262144,"message_bytes":16384}}"#,
        r#"{"type":"subscribed","channel":"news","epoch":"e1","offset":7,"recovered":true}"#,
        r#"{"type":"subscribed","channel":"news","epoch":"e1","offset":0,"recovered":false,"ref":"s1"}"#,
        r#"{"type":"unsubscribed","channel":"news","code":"requested","ref":"u1"}"#,
        r#"{"type":"message","seq":1,"channel":"news","epoch":"e1","offset":8,"time":1767225600000,"data":{"text":"hello"}}"#,
        r#"{"type":"gap","channel":"news","from":{"epoch":"e1","offset":8},"to":{"epoch":"e1","offset":40}}"#,
        r#"{"type":"migrate","reason":"node_drain","not_before_ms":1200,"deadline_ms":10000}"#,
        r#"{"type":"pong","id":3,"time":1767225600000}"#,
        r#"{"type":"migrate","reason":"rollout","not_before_ms":0,"deadline_ms":10000,"cursors":{"news":{"epoch":"e1","offset":40}}}"#,
        r#"{"type":"pong","id":4,"time":1767225600000,"cursors":{"news":{"epoch":"e1","offset":40}}}"#,
        r#"{"type":"refreshed","expires":1767229200000,"ref":"r1"}"#,
        r#"{"type":"error","code":"draining","message":"this gateway is being drained","retry_after_ms":500}"#,
    ];

    #[test]
    fn documented_frames_survive_reading_and_writing() {
        for frame in FRAMES {
            let read = ServerMessage::parse(frame).unwrap();
            assert_eq!(&read.encode(), frame);
            let derived: ServerMessage = serde_json::from_str(frame).unwrap();
            assert_eq!(derived, read);
        }
    }

    #[test]
    fn the_document_shows_these_frames() {
        let document = include_str!("../PROTOCOL.md");
        for frame in FRAMES {
            assert!(document.contains(frame), "PROTOCOL.md lacks {frame}");
        }
    }

    #[test]
    fn order_of_fields_and_new_fields_do_not_matter() {
        let text = r#"{"data":[1, 2],"time":1,"later":{},"offset":8,"epoch":"e","channel":"c","seq":4294967295,"type":"message"}"#;
        let ServerMessage::Message(message) = ServerMessage::parse(text).unwrap() else {
            panic!("not a message");
        };
        assert_eq!(message.data.get(), "[1, 2]");
        assert_eq!(message.seq.next(), Seq::START);
    }

    #[test]
    fn a_later_type_is_told_apart_from_a_broken_frame() {
        assert!(matches!(
            ServerMessage::parse(r#"{"type":"fanfare"}"#),
            Err(FrameError::UnknownType(name)) if name == "fanfare"
        ));
        assert!(matches!(
            ServerMessage::parse("{}"),
            Err(FrameError::Json(_))
        ));
        assert!(matches!(
            ServerMessage::parse(r#"{"type":"message","seq":1}"#),
            Err(FrameError::Json(_))
        ));
    }
}
