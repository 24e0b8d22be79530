//! Effects (answers): what a client says, and what is done about it.

use sluice_protocol::server::{ErrorMessage, Pong, Refreshed, Unsubscribed};
use sluice_protocol::{ClientMessage, CloseCode, ErrorCode, Ref, ServerMessage};
use tokio_tungstenite::tungstenite::Message;

use super::{Connection, DisconnectReason, Farewell};
use crate::auth::{AuthError, Credentials, now_millis};
use crate::error::ApiError;

impl Connection {
    /// One frame.
    pub(super) async fn inbound(&mut self, message: Message) -> Result<(), Farewell> {
        self.core
            .admission
            .frame(self.identity.session)
            .map_err(too_many_frames)?;
        match message {
            Message::Text(text) => self.text(text.as_str()).await,
            Message::Binary(_) => Err(Farewell::close(
                CloseCode::Unsupported,
                DisconnectReason::BadRequest,
            )),
            // Tungstenite answers both by itself; a Close ends the stream next.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn text(&mut self, text: &str) -> Result<(), Farewell> {
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
                }))
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
            }),
            ClientMessage::Resume {
                resume_token,
                channels,
                reference,
            } => {
                self.resume(resume_token, reference).await?;
                for (channel, position) in channels {
                    self.subscribe(&channel, Some(position), None)?;
                }
                Ok(())
            }
            ClientMessage::Refresh { token, reference } => self.refresh(token, reference).await,
            ClientMessage::Ping { id, reference } => {
                let cursors = self.cursors();
                self.send(&ServerMessage::Pong(Pong {
                    id,
                    time: now_millis(),
                    cursors,
                    reference,
                }))
            }
        }
    }

    /// On a connection that has a user already, a resume token must be that user's; it then adds channels.
    async fn resume(&mut self, token: String, reference: Option<Ref>) -> Result<(), Farewell> {
        let credentials = Credentials {
            resume: Some(token),
            ..Credentials::default()
        };
        match self.core.auth.check(&credentials).await {
            Ok(identity) if identity.user == self.identity.user => Ok(()),
            Ok(_) => Err(bad_credentials(
                ErrorCode::Forbidden,
                "the resume token is another user's".into(),
                reference,
            )),
            Err(error) => Err(bad_credentials(error.code(), error.to_string(), reference)),
        }
    }

    async fn refresh(&mut self, token: String, reference: Option<Ref>) -> Result<(), Farewell> {
        let credentials = Credentials {
            token: Some(token),
            ..Credentials::default()
        };
        match self.core.auth.check(&credentials).await {
            Ok(identity) if identity.user == self.identity.user => {
                self.identity.expires = identity.expires;
                self.identity.login = identity.login;
                let expires = identity.expires.saturating_mul(1000);
                self.send(&ServerMessage::Refreshed(Refreshed { expires, reference }))
            }
            Ok(_) => Err(bad_credentials(
                ErrorCode::Forbidden,
                "the token is another user's".into(),
                reference,
            )),
            // Not the client's doing; what it has is still good.
            Err(error @ AuthError::Unavailable(_)) => {
                self.error(error.code(), &error.to_string(), reference)
            }
            Err(error) => Err(bad_credentials(error.code(), error.to_string(), reference)),
        }
    }

    /// Answers with an error; the connection goes on.
    pub(super) fn error(
        &mut self,
        code: ErrorCode,
        message: &str,
        reference: Option<Ref>,
    ) -> Result<(), Farewell> {
        let message = message.to_owned();
        self.send(&ServerMessage::Error(ErrorMessage {
            code,
            message,
            retry_after_ms: None,
            reference,
        }))
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
