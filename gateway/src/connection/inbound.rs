//! Effects (socket, answers): what a client says, and what is done about it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use sluice_protocol::server::{ErrorMessage, Pong, Refreshed, Unsubscribed};
use sluice_protocol::{
    ChannelName, ClientMessage, CloseCode, ErrorCode, Position, Ref, ServerMessage,
};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio_tungstenite::tungstenite::Message;

use super::{Connection, DisconnectReason, Farewell};
use crate::auth::{AuthError, Credentials, Identity};
use crate::error::ApiError;
use crate::limits;

/// Credentials that were looked at, and what they were for.
pub(super) struct Checked {
    purpose: Purpose,
    result: Result<Identity, AuthError>,
    reference: Option<Ref>,
}

enum Purpose {
    Resume(BTreeMap<ChannelName, Position>),
    Refresh,
}

impl Connection {
    /// Reads from the client until nothing is there, or others shall run. True when there is more.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let mut left = limits::CLIENT_MESSAGES_PER_TURN;
        if self.has_input() {
            self.decode(&[], &mut left)?;
        }
        let mut scratch = self.shard.lend_scratch();
        let result = self.read_socket(cx, &mut scratch, &mut left);
        self.shard.return_scratch(scratch);
        result
    }

    fn read_socket(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        left: &mut usize,
    ) -> Result<bool, Farewell> {
        for _ in 0..limits::READS_PER_TURN {
            // What was read waits for an answer about credentials, or for the next turn.
            if self.checking.is_some() {
                return Ok(false);
            }
            if self.has_input() {
                return Ok(true);
            }
            let mut buffer = ReadBuf::new(scratch);
            let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
                return Ok(false);
            };
            result.map_err(|error| Farewell::of_io(&error))?;
            if buffer.filled().is_empty() {
                self.ended = true;
                return Err(Farewell::gone(DisconnectReason::Eof));
            }
            self.decode(buffer.filled(), left)?;
        }
        Ok(self.checking.is_none())
    }

    fn has_input(&self) -> bool {
        self.decoder
            .as_ref()
            .is_some_and(|decoder| decoder.has_more())
    }

    fn decode(&mut self, mut input: &[u8], left: &mut usize) -> Result<(), Farewell> {
        let decoder = self.decoder.take();
        let mut decoder = decoder.unwrap_or_else(|| self.shard.lend_decoder());
        loop {
            let full = self.batch().reply_bytes() >= limits::REPLIES_PER_TURN_BYTES;
            if *left == 0 || full || self.checking.is_some() {
                decoder.keep(input);
                break;
            }
            let next = decoder.next(&mut input);
            let replies = decoder.take_replies();
            self.batch().raw(&replies);
            let Some(message) = next.map_err(Farewell::of_error)? else {
                break;
            };
            *left -= 1;
            self.heard(self.shard.now());
            self.inbound(message)?;
        }
        if decoder.at_rest() {
            self.shard.return_decoder(decoder);
        } else {
            self.decoder = Some(decoder);
        }
        Ok(())
    }

    /// One message. Whoever says too much may still say goodbye.
    fn inbound(&mut self, message: Message) -> Result<(), Farewell> {
        if !message.is_close() {
            self.shard.allow_frame(self.key).map_err(too_many_frames)?;
        }
        match message {
            Message::Text(text) => self.text(text.as_str()),
            Message::Binary(_) => Err(Farewell::close(
                CloseCode::Unsupported,
                DisconnectReason::BadRequest,
            )),
            // The decoder answers both by itself; a Close ends the stream next.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Farewell> {
        let message = ClientMessage::parse(text).map_err(|rejected| {
            Farewell::close(rejected.close, DisconnectReason::BadRequest).saying(ErrorMessage {
                code: rejected.code,
                message: rejected.message,
                retry_after_ms: None,
                reference: rejected.reference,
            })
        })?;
        match message {
            ClientMessage::Subscribe {
                channel,
                after,
                reference,
            } => self.subscribe(&channel, after, reference),
            ClientMessage::Unsubscribe { channel, reference } => {
                self.unsubscribe(&channel);
                let code = ErrorCode::Requested;
                self.send(&ServerMessage::Unsubscribed(Unsubscribed {
                    channel,
                    code,
                    reference,
                }));
            }
            ClientMessage::Ack { seq } => self.window.ack(seq).map_err(|error| {
                Farewell::close(CloseCode::BadRequest, DisconnectReason::BadRequest).saying(
                    ErrorMessage {
                        code: ErrorCode::BadRequest,
                        message: error.to_string(),
                        retry_after_ms: None,
                        reference: None,
                    },
                )
            })?,
            ClientMessage::Resume {
                resume_token,
                channels,
                reference,
            } => {
                let credentials = Credentials {
                    resume: Some(resume_token),
                    ..Credentials::default()
                };
                self.check(credentials, Purpose::Resume(channels), reference);
            }
            ClientMessage::Refresh { token, reference } => {
                let credentials = Credentials {
                    token: Some(token),
                    ..Credentials::default()
                };
                self.check(credentials, Purpose::Refresh, reference);
            }
            ClientMessage::Ping { id, reference } => {
                let cursors = self.cursors();
                self.send(&ServerMessage::Pong(Pong {
                    id,
                    time: self.shard.unix_millis(),
                    cursors,
                    reference,
                }));
            }
        }
        Ok(())
    }

    /// Looks at credentials, which may take a key set's time. What the client sends after them waits; what it gets does not.
    fn check(&mut self, credentials: Credentials, purpose: Purpose, reference: Option<Ref>) {
        let core = Arc::clone(self.shard.core());
        let checked = async move {
            Checked {
                result: core.auth.check(&credentials).await,
                purpose,
                reference,
            }
        };
        self.checking = Some(checked.boxed_local());
    }

    /// Acts on credentials once they have been looked at. True when that is done and the client's next messages may be read.
    pub(super) fn take_checked(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let Some(checking) = &mut self.checking else {
            return Ok(false);
        };
        let Poll::Ready(checked) = checking.as_mut().poll(cx) else {
            return Ok(false);
        };
        self.checking = None;
        let Checked {
            purpose,
            result,
            reference,
        } = checked;
        match (purpose, result) {
            (_, Ok(identity)) if identity.user != self.user => {
                let text = "the credentials are another user's".into();
                Err(bad_credentials(ErrorCode::Forbidden, text, reference))
            }
            // On a connection that has a user already, a resume token adds channels.
            (Purpose::Resume(channels), Ok(_)) => {
                for (channel, position) in channels {
                    self.subscribe(&channel, Some(position), None);
                }
                Ok(true)
            }
            (Purpose::Refresh, Ok(identity)) => {
                self.expires = identity.expires;
                let expires = identity.expires.saturating_mul(1000);
                self.send(&ServerMessage::Refreshed(Refreshed { expires, reference }));
                Ok(true)
            }
            // Not the client's doing; what it has is still good.
            (Purpose::Refresh, Err(error @ AuthError::Unavailable(_))) => {
                self.error(error.code(), &error.to_string(), reference);
                Ok(true)
            }
            (_, Err(error)) => Err(bad_credentials(error.code(), error.to_string(), reference)),
        }
    }

    /// Answers with an error; the connection goes on.
    pub(super) fn error(&mut self, code: ErrorCode, message: &str, reference: Option<Ref>) {
        let message = message.to_owned();
        self.send(&ServerMessage::Error(ErrorMessage {
            code,
            message,
            retry_after_ms: None,
            reference,
        }));
    }
}

fn too_many_frames(error: ApiError) -> Farewell {
    Farewell::close(CloseCode::Overload, DisconnectReason::Limited).saying(ErrorMessage {
        code: error.code,
        message: error.message,
        retry_after_ms: error.retry_after_ms,
        reference: None,
    })
}

fn bad_credentials(code: ErrorCode, message: String, reference: Option<Ref>) -> Farewell {
    let error = ErrorMessage {
        code,
        message,
        retry_after_ms: None,
        reference,
    };
    Farewell::close(CloseCode::Credentials, DisconnectReason::Auth).saying(error)
}
